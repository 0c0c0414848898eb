r"""Make copies of a data directory under the conditions of `conf/robustness.yaml`.

    python -m espnet_kd.bin.perturb --data dump/raw/test --conditions conf/robustness.yaml \
        --out dump/raw/robustness/test

Each utterance is there once for each condition, as `<utterance>-<condition>`; `utt2condition`
names the condition, `utt2source` the utterance. The same sounds are made each time.
"""

import argparse
import functools
import logging
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from espnet_kd.cli import new_parser, positive_int
from espnet_kd.data.audio import BadAudio, decode, decode_or_refuse, encode
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.kaldi_dir import Tables, read_data_dir, write_data_dir
from espnet_kd.data.parallel import parallel_map
from espnet_kd.data.perturbation import (
    check_rate,
    check_sounds,
    perturb,
    read_response,
    sound_files,
)
from espnet_kd.data.sampling import by_name
from espnet_kd.errors import UserError, run_main
from espnet_kd.progress import track
from espnet_kd.scoring.conditions import CONDITION, LABELS, SOURCE, read_labels
from espnet_kd.scoring.grouping import people_of, read_sources
from espnet_kd.spec.conditions_file import (
    BABBLE,
    NOISE,
    REVERB,
    Condition,
    Robustness,
    load_robustness,
)

SILENT = "silent utterances under a condition with noise"


class Work(NamedTuple):
    """A sound to be made.

    Attributes:
        utt: Name of the clean utterance.
        condition: Its condition.
    """

    utt: str
    condition: Condition


class Voices(NamedTuple):
    """The sounds of a set and who speaks; each process has it once, however many people there are.

    Attributes:
        names: Names of the utterances, sorted.
        paths: Their sounds.
        people: Name of an utterance -> its person.
        places: Person -> places in `names`, rising.
    """

    names: List[str]
    paths: Dict[str, str]
    people: Dict[str, str]
    places: Dict[str, List[int]]

    def others(self, utt: str) -> int:
        """Return how many sounds are of other people than an utterance."""
        return len(self.names) - len(self.places[self.people[utt]])

    def other(self, utt: str, number: int) -> str:
        """Return the sound of this number, from 0, of all that are of other people."""
        for place in self.places[self.people[utt]]:
            if place > number:
                break
            number += 1
        return self.paths[self.names[number]]


def voices_of(tables: Tables) -> Voices:
    """Read who speaks in which sound."""
    names = sorted(tables["wav.scp"])
    speakers = tables["utt2spk"]
    people = dict(zip(speakers, people_of(list(speakers.values()))))
    places: Dict[str, List[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(people[name], []).append(place)
    return Voices(names, tables["wav.scp"], people, places)


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data directory to read")
    parser.add_argument("--conditions", required=True, help="YAML of the conditions")
    parser.add_argument("--out", type=Path, required=True, help="data directory to write")
    parser.add_argument("--nj", type=positive_int, default=1, help="processes")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Make the copies."""
    args = get_parser().parse_args(cmd)
    wanted = load_robustness(args.conditions)
    tables = read_data_dir(args.data)
    clean = chosen(args.data, tables, wanted)
    voices = voices_of(tables)
    for condition in wanted.conditions:
        check_sources(condition, clean, voices, args)
    works = [Work(utt, condition) for condition in wanted.conditions for utt in clean]
    names = [f"{work.utt}-{work.condition.name}" for work in works]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice:
        raise UserError(
            f"{args.conditions}: two utterances of {args.data} would be named '{twice}'; name the "
            "condition otherwise"
        )
    sources = read_sources(args.data, list(tables["wav.scp"]))
    bad = BadItems(str(args.data), 1.0)
    made: Tables = {name: {} for name in ("wav.scp", "text", "utt2spk", *LABELS)}
    make = functools.partial(make_one, args.data, args.out / "data")
    results = parallel_map(make, works, min(args.nj, len(works)))
    paths = track(results, f"perturb {args.out.name}", total=len(works))
    for work, name, path in zip(works, names, paths):
        if not path:
            bad.add(SILENT, name)
            continue
        made["wav.scp"][name] = path
        made[CONDITION][name] = work.condition.name
        made[SOURCE][name] = sources.get(work.utt, work.utt)
        for table in ("text", "utt2spk"):
            made[table][name] = tables[table][work.utt]
    for condition in wanted.conditions:
        if condition.name not in made[CONDITION].values():
            raise UserError(
                f"{args.data}: no utterance is left under '{condition.name}': {SILENT}"
            )
    bad.log()
    write_data_dir(args.out, made)
    bad.write(args.out)
    logging.info(
        f"wrote {args.out}: {len(clean)} utterances under {len(wanted.conditions)} conditions"
    )


def chosen(data: Path, tables: Tables, wanted: Robustness) -> List[str]:
    """Choose the utterances of a set that are heard.

    Raises:
        UserError: none has the label that is wanted.
    """
    names = sorted(tables["wav.scp"])
    if wanted.only:
        labels = read_labels(data, names)
        names = [utt for utt in names if labels.get(utt) == wanted.only]
        if not names:
            there = ", ".join(sorted(set(labels.values()))) or "no label"
            raise UserError(
                f"{data}/{CONDITION}: no utterance has 'only: {wanted.only}'; there is {there}"
            )
    return by_name(names, wanted.utterances or len(names))


def check_sources(
    condition: Condition, utts: Sequence[str], voices: Voices, args: argparse.Namespace
) -> None:
    """Refuse noise and rooms that cannot be made.

    Raises:
        UserError: they are made of other people's speech, and there is none, or of a folder that
            cannot be used; see `check_sounds`.
    """
    if condition.noise == BABBLE and not all(voices.others(utt) for utt in utts):
        raise UserError(
            f"{args.conditions}: '{condition.name}' needs other speakers for its babble, and all "
            f"of {args.data} is of '{voices.people[utts[0]]}'"
        )
    for key, folder in condition.folders.items():
        check_sounds(key, folder, decode_or_refuse(voices.paths[utts[0]])[1].rate)


def make_one(data: Path, folder: Path, work: Work) -> str:
    """Make a sound and return its path; '' where the utterance is silent.

    Args:
        data: Data directory of the clean utterances.
        folder: Folder for the sound.
        work: The sound.

    Raises:
        UserError: a sound cannot be read, or has another sampling rate.
    """
    voices = _voices_in(data)
    audio, header = decode_or_refuse(voices.paths[work.utt])

    def drawn(random: np.random.Generator, most: int) -> List[np.ndarray]:
        babble = work.condition.noise == BABBLE
        folder = work.condition.noise
        count = voices.others(work.utt) if babble else len(_files(folder, NOISE))
        picks = sorted(random.choice(count, min(most, count), replace=False))
        if babble:
            return [_other(voices.other(work.utt, k), header.rate) for k in picks]
        return [_other(_files(folder, NOISE)[k], header.rate) for k in picks]

    def room(random: np.random.Generator) -> np.ndarray:
        files = _files(work.condition.folders[REVERB], REVERB)
        return _response(files[random.integers(len(files))], header.rate)

    try:
        out = perturb(audio, header.rate, work.condition, work.utt, drawn, room)
    except BadAudio:
        return ""
    except UserError as e:
        raise UserError(
            f"condition '{work.condition.name}', utterance '{work.utt}': {e}"
        ) from None
    path = folder / f"{work.utt.replace('/', '%2F')}-{work.condition.name}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, out, header.rate, "flac")
    return str(path)


@functools.lru_cache(maxsize=1)
def _voices_in(data: Path) -> Voices:
    return voices_of(read_data_dir(data))


@functools.lru_cache(maxsize=None)
def _files(folder: str, key: str) -> List[str]:
    return [str(path) for path in sound_files(folder, key)]


@functools.lru_cache(maxsize=64)
def _response(path: str, rate: int) -> np.ndarray:
    return read_response(path, rate)


@functools.lru_cache(maxsize=64)
def _other(path: str, rate: int) -> np.ndarray:
    try:
        audio, header = decode(path)
    except BadAudio as e:
        raise UserError(f"{path}: {e}; noise cannot be made of it") from None
    check_rate(path, header, rate)
    return audio


if __name__ == "__main__":
    main()
