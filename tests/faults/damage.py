"""Damage to each kind of file that the recipe leaves; then the same command goes on.

A case is a file, a way to damage it and the moment: `done`, when all is finished, or while
what reads the file has not run yet (the name of a snapshot, see `snapshots.py`).
"""

import io
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

from tests.faults.family import INFERENCE, STUDENT_DIRS, TEACHER_DIR, Family
from tests.faults.outcome import differences, outcome
from tests.faults.running import Ended, Run, complaint

TEACHER, HALF, THIRD = TEACHER_DIR, *STUDENT_DIRS
STATS = "exp/asr_stats_raw_en_bpe12_sp"
TOKENS = "data/en_token_list/bpe_unigram12"
TEST = f"{INFERENCE}/test"
DEV = f"{INFERENCE}/dev"


class Kind(NamedTuple):
    """A kind of file.

    Args:
        name: What it is, for the table.
        pattern: The files; which of them is seeded.
        ways: How it is damaged, names of functions of this module.
        moments: When.
        other: For `exchange`: the files whose content is put there; empty: `pattern`.
        source: Whether the user owns the file: then another result, if it is announced, is
            what the new content comes to.
    """

    name: str
    pattern: str
    ways: Tuple[str, ...]
    moments: Tuple[str, ...] = ("done",)
    other: str = ""
    source: bool = False


KINDS = (
    Kind("audio of the corpus, used where it is", "corpus/t*/16/1/*.wav",
         ("exchange", "other_sound", "flip", "cut"), ("done", "stage 5"), source=True),
    Kind("audio of the corpus, converted", "corpus/t*/8/1/*.wav",
         ("exchange", "other_sound", "flip", "cut"), ("done", "stage 5"), source=True),
    Kind("converted audio (dump/raw)", "dump/raw/**/format.*/*.flac",
         ("exchange", "other_sound", "flip", "cut", "remove"), ("done", "stage 5")),
    Kind("a table of dump/raw", "dump/raw/t*/text", ("edit", "cut_lines"), ("done", "stage 5")),
    Kind("wav.scp of dump/raw", "dump/raw/t*/wav.scp", ("swap_values", "cut_lines"),
         ("done", "stage 5")),
    Kind("tokens.txt", f"{TOKENS}/tokens.txt", ("swap_lines", "cut_lines", "remove"),
         ("done", "stage 5", "stage 10")),
    Kind("bpe.model", f"{TOKENS}/bpe.model", ("other_bpe", "flip", "cut", "remove"),
         ("done", "stage 5", "stage 10")),
    Kind("shape files", f"{STATS}/*/*shape*", ("cut_lines", "edit", "remove"),
         ("done", "stage 10")),
    Kind("feats_stats.npz", f"{STATS}/train/feats_stats.npz",
         ("other_stats", "flip", "cut", "remove"), ("done", "stage 10")),
    Kind("checkpoint.pth of a training", "exp/*/checkpoint.pth", ("flip", "cut", "remove"),
         ("done", "teacher", "student")),
    Kind("an epoch's weights", "exp/*/[0-9]*epoch.pth", ("flip", "cut", "exchange", "remove"),
         ("done", "teacher", "student")),
    Kind("history.json", "exp/*/history.json", ("edit", "cut", "remove"),
         ("done", "teacher", "student")),
    Kind("facts.json", "exp/*/facts.json", ("edit", "cut", "remove"), ("done",)),
    Kind("averaged model of the teacher", f"{TEACHER}/valid*ave*best.pth",
         ("flip", "cut", "exchange", "remove"), ("done", "stage 11", "derived"),
         other=f"{TEACHER}/[0-9]*epoch.pth"),
    Kind("averaged model of a student", f"{HALF}/valid*ave*best.pth",
         ("flip", "cut", "exchange", "remove"), ("done", "stage 16/1"),
         other=f"{HALF}/[0-9]*epoch.pth"),
    Kind("config.yaml of a model", "exp/*/config.yaml", ("edit", "cut", "remove"),
         ("done", "stage 11")),
    Kind("init.pth", f"{HALF}/init.pth", ("flip", "cut", "remove"), ("done", "derived")),
    Kind("student.yaml", f"{HALF}/student.yaml", ("edit", "cut", "remove"), ("done", "derived")),
    Kind("student.json", f"{HALF}/student.json", ("edit", "cut", "remove"), ("done", "derived")),
    Kind("numbers of a teacher cache", f"{HALF}/teacher_cache/**/*.ark",
         ("flip", "cut", "remove"), ("done", "cached")),
    Kind("list of a teacher cache", f"{HALF}/teacher_cache/*/teacher.scp",
         ("cut_lines", "swap_values", "remove"), ("done", "cached")),
    Kind("hard labels", f"{THIRD}/**/train_sp/text", ("edit", "cut_lines", "remove"), ("done",)),
    Kind("hypotheses", f"exp/*/{TEST}/text", ("edit", "cut_lines", "remove"),
         ("done", "stage 12")),
    Kind("scores", f"exp/*/{TEST}/score_wer/counts.tsv", ("edit", "cut_lines", "remove"),
         ("done", "stage 16/1")),
    Kind("result.txt", f"exp/*/{TEST}/score_wer/result.txt", ("edit", "remove"), ("done",)),
    Kind("gate.json", f"{HALF}/gate.json", ("edit", "cut", "remove", "nonsense"),
         ("done", "stage 16/1")),
    Kind("results.json", "exp/results.json", ("edit", "cut", "remove", "nonsense"),
         ("done", "stage 17")),
    Kind("manifest.json", "exp/*/manifest.json", ("edit", "cut", "remove", "nonsense"), ("done",)),
    Kind("a marker of finished work", "**/.done.*", ("cut", "edit", "remove"),
         ("done", "stage 11")),
    Kind("a packed model", "exp/*/packed/*.zip", ("flip", "cut", "remove"), ("done",)),
)  # fmt: skip


class Case(NamedTuple):
    kind: Kind
    way: str
    moment: str

    @property
    def name(self) -> str:
        return f"{self.kind.name}: {self.way} ({self.moment})"


def cases() -> List[Case]:
    return [Case(kind, way, at) for kind in KINDS for way in kind.ways for at in kind.moments]


# ------------------------------------------------------------------ ways to damage a file
def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit; of a large file somewhere in the middle, where the numbers are."""
    if not data:
        return b"\1"
    low, high = (len(data) // 10, len(data) * 8 // 10) if len(data) > 200 else (0, len(data))
    place = rng.randrange(low, max(high, low + 1))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) * 3 // 4 + 1)]


def edit(data: bytes, rng: random.Random) -> bytes:
    """Another digit or letter in the place of one that is there."""
    places = [m.start() for m in re.finditer(rb"(?<![A-Za-z0-9_/.-])[0-9A-F](?![A-Za-z_/])", data)]
    places = places or [m.start() for m in re.finditer(rb"[0-9A-Za-z]", data)]
    if not places:
        return data + b"7"
    place = rng.choice(places)
    old = data[place : place + 1]
    new = rng.choice([c for c in (b"123456789" if old.isdigit() else b"ABCDEF") if c != old[0]])
    return data[:place] + bytes([new]) + data[place + 1 :]


def other_sound(data: bytes, rng: random.Random) -> bytes:
    """The same backwards: as long, at the same rate."""
    import soundfile

    sound = soundfile.SoundFile(io.BytesIO(data))
    out = io.BytesIO()
    samples = sound.read(dtype="int16")[::-1]
    soundfile.write(out, samples, sound.samplerate, format=sound.format, subtype=sound.subtype)
    return out.getvalue()


def cut_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: max(1, len(lines) // 3)])


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    """Two lines, of a token list two that are not special."""
    lines = data.splitlines(keepends=True)
    first, second = rng.sample(range(2, len(lines) - 1), 2)
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def swap_values(data: bytes, rng: random.Random) -> bytes:
    """The values of two keys of a table."""
    rows = [line.split(maxsplit=1) for line in data.splitlines()]
    first, second = rng.sample(range(len(rows)), 2)
    rows[first][1], rows[second][1] = rows[second][1], rows[first][1]
    return b"".join(key + b" " + value + b"\n" for key, value in rows)


def nonsense(data: bytes, rng: random.Random) -> bytes:
    """Valid JSON of another shape."""
    shapes = (b"[]", b"null", b'{"a": [1, {"b": null}]}', b"3", b'"x"', b"{}")
    return rng.choice(shapes) + b"\n"


def other_stats(data: bytes, rng: random.Random) -> bytes:
    """Statistics of other features: twice the values."""
    import numpy as np

    with np.load(io.BytesIO(data)) as arrays:
        content = {name: arrays[name] for name in arrays}
    content["sum"] = content["sum"] * 2
    content["sum_square"] = content["sum_square"] * 4
    out = io.BytesIO()
    np.savez(out, **content)
    return out.getvalue()


def other_bpe(data: bytes, rng: random.Random) -> bytes:
    """A model of as many pieces, which are other ones."""
    script = (
        "import io, sys, sentencepiece as s; out = io.BytesIO();"
        "s.SentencePieceTrainer.train(sentence_iterator=iter(['FA BEC AFA', 'ECB FA']*9),"
        "model_writer=out, vocab_size=11, model_type='unigram', minloglevel=2, bos_id=-1,"
        "eos_id=-1, hard_vocab_limit=False); sys.stdout.buffer.write(out.getvalue())"
    )
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout


WAYS: Dict[str, Callable[[bytes, random.Random], bytes]] = {
    function.__name__: function
    for function in (
        flip,
        cut,
        edit,
        other_sound,
        cut_lines,
        swap_lines,
        swap_values,
        nonsense,
        other_stats,
        other_bpe,
    )
}


def choose(family: Family, case: Case, rng: random.Random) -> Tuple[Path, bytes]:
    """The file to damage, and its content afterwards (empty: it is removed)."""
    files = [p for p in sorted(family.dir.glob(case.kind.pattern)) if p.is_file()]
    if not files:
        raise FileNotFoundError(case.kind.pattern)
    path = rng.choice(files)
    data = path.read_bytes()
    if case.way == "remove":
        return path, b""
    if case.way == "exchange":
        others = sorted(family.dir.glob(case.kind.other)) if case.kind.other else files
        others = [p for p in others if p.is_file() and p.read_bytes() != data]
        alike = [p for p in others if p.suffix != ".wav" or p.parent == path.parent]
        return path, rng.choice(alike or others).read_bytes()
    return path, WAYS[case.way](data, rng)


# ------------------------------------------------------------------ what comes of it
NOTICED = re.compile(
    r"made (again|anew)|has changed|is missing since|changed since|is damaged|differs?\b|afresh"
)


def damaged_case(family: Family, context, case: Case, seed: int) -> dict:
    """Damage a file of `family`, go on, compare with the undisturbed run."""
    rng = random.Random(f"{seed} {case.name}")
    path, data = choose(family, case, rng)
    times = path.stat()
    kept = family.root / "kept"
    shutil.copy2(path, kept)
    _write(path, data, case.way)
    if case.way not in ("remove", "exchange"):
        # A fault of a disk leaves the times as they were; who exchanges a file does not.
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    ended = Run(family).end()
    record = {"file": str(path.relative_to(family.dir)), "error": ended.last}
    record.update(_verdict(family, context, case, path, data, ended))
    if record["verdict"] == "refused":
        # Nothing is lost: with the file as it was, it goes on to the same end.
        shutil.copy2(kept, path)
        again = Run(family).end()
        if complaint(again) != "ok":
            record.update({"after repair": complaint(again), "repair error": again.last})
        elif differences(context.reference, outcome(family.dir)):
            record["after repair"] = "different"
        else:
            record["after repair"] = "same end"
    return record


def _write(path: Path, data: bytes, way: str) -> None:
    # A link's target keeps its name; the file itself may be linked from elsewhere.
    target = Path(os.path.realpath(path))
    if way == "remove":
        path.unlink()
        return
    target.write_bytes(data)


def _verdict(
    family: Family, context, case: Case, path: Path, data: bytes, ended: Ended
) -> Dict[str, object]:
    how = complaint(ended)
    if how != "ok":
        return {"verdict": how}
    differ = differences(context.reference, outcome(family.dir))
    as_left = path.is_file() and path.read_bytes() == data
    if case.way == "remove":
        as_left = not path.exists()
    said = [x for x in (ended.out + ended.err).splitlines() if NOTICED.search(x)]
    record: Dict[str, object] = {"differ": differ[:8], "said": said[:2]}
    if not differ and as_left and case.kind.source and not said:
        record["verdict"] = "not noticed"  # the result is that of another file
    elif not differ:
        record["verdict"] = "no effect" if as_left else "redone"
    elif case.kind.source and said:
        record["verdict"] = "redone"
    else:
        record["verdict"] = "ANOTHER RESULT, announced" if said else "SILENT"
    return record
