"""What a user can get wrong in stages 1 to 5: one line, exit code 1, nothing overwritten."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

CHAPTER = "corpus/LibriSpeech/tiny-train/7/30"
PREPARE = "prepare_librispeech --corpus corpus --set tiny-train --out data/train"
PERTURB = "perturb_speed --data data/train --out data/train_sp"
FORMAT = "format_audio --data data/train --out dump/train"
FILTER = "filter_lengths --data dump/train --out dump/filtered"
TOKENS = "make_tokens --text data/train/text --out data/tokens"


def nothing():
    pass


def remove(path):
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def write(path, content):
    return lambda: Path(path).write_bytes(content)


def replace(path, old, new):
    return lambda: Path(path).write_text(Path(path).read_text().replace(old, new))


def empty(path):
    def do():
        shutil.rmtree(path)
        Path(path).mkdir()

    return do


def other_rate():
    soundfile.write(f"{CHAPTER}/7-30-0000.flac", np.zeros(8000), 8000)


CASES = [
    # what is done to a good state, command, words of the error
    (remove("corpus"), PREPARE, ["corpus: no such corpus folder", "--corpus"]),
    (empty("corpus"), PREPARE, ["the corpus folder is empty", "<set>/<speaker>/<chapter>"]),
    (empty("corpus/LibriSpeech"), PREPARE, ["corpus/LibriSpeech: the corpus folder is empty"]),
    (empty("corpus/LibriSpeech/tiny-train"), PREPARE, ["no utterance found"]),
    (nothing, PREPARE.replace("tiny-train", "tiny-trian"), ["did you mean 'tiny-train'?"]),
    (remove(f"{CHAPTER}/7-30-0000.flac"), PREPARE, ["1 transcripts without audio", "7-30-0000"]),
    (
        replace(f"{CHAPTER}/7-30.trans.txt", "7-30-0000", "7-30-0009"),
        PREPARE,
        ["2 of 5 utterances", "1 transcripts without audio (e.g. 7-30-0009)",
         "1 sound files without transcript (e.g. corpus/"],
    ),
    (remove(f"{CHAPTER}/7-30.trans.txt"), PREPARE, ["2 sound files without transcript"]),
    (write(f"{CHAPTER}/7-30-0000.flac", b""), PREPARE, ["7-30-0000.flac: zero-length"]),
    (write(f"{CHAPTER}/7-30-0000.flac", b"text"), PREPARE, ["unreadable (Format not recog"]),
    (
        replace(f"{CHAPTER}/7-30.trans.txt", "7-30-0002", "7-30-0000"),
        PREPARE,
        ["7-30.trans.txt:2: duplicate key '7-30-0000'"],
    ),
    (
        nothing,
        PREPARE.replace("tiny-train", "tiny-train tiny-train"),
        ["duplicate utterance '11-5-0001'"],
    ),
    (write(f"{CHAPTER}/7-30.trans.txt", b"\xff\n"), PREPARE, ["7-30.trans.txt:1: not UTF-8"]),
    (remove("data/train"), PERTURB, ["data/train: no such data directory; run the stage"]),
    (remove("data/train/text"), PERTURB, ["data/train/text: no such file; run stage 1 again"]),
    (nothing, PERTURB + " --factors 0.9,1.1", ["'0.9,1.1' is not a speed between 0.5 and 2"]),
    (nothing, PERTURB + " --factors 9", ["'9' is not a speed"]),
    (nothing, PERTURB + " --factors nan", ["'nan' is not a speed"]),
    (nothing, PERTURB.replace("data/train ", "data/train_sp "), ["was perturbed before"]),
    (write("data/train/text", b"a X\n"), FORMAT, ["no utterance stands in all of its tables (4"]),
    (write("data/train/text", b"a X\na Y\n"), FORMAT, ["data/train/text:2: duplicate key 'a'"]),
    (remove("data/train"), FORMAT, ["data/train: no such data directory"]),
    (other_rate, FORMAT, ["7-30-0000.flac: sampling rate 8000 Hz found, 16000 Hz wanted"]),
    (other_rate, FORMAT + " --nj 2", ["7-30-0000.flac: sampling rate 8000 Hz found"]),
    (remove(f"{CHAPTER}/7-30-0000.flac"), FORMAT, ["1 of 4 utt", "No such file or directory"]),
    (write(f"{CHAPTER}/7-30-0000.flac", b""), FORMAT, ["7-30-0000.flac: zero-length"]),
    (write(f"{CHAPTER}/7-30-0000.flac", b"x"), FORMAT, ["1 of 4 utterances are unusable"]),
    (remove("corpus"), FORMAT + " --max_bad_share 1", ["no usable utterance is left"]),
    (
        replace("data/train/wav.scp", ".flac", ".flac |"),
        FORMAT,
        ["1 entries run 'corpus/", "which is not installed", "name sound files instead"],
    ),
    (nothing, FILTER.replace("dump/train", "data/train"), ["no utt2num_samples; run the stage"]),
    (nothing, FILTER + " --max_wav_duration 0.15", ["would drop 4 of 4 utter", "4 too long"]),
    (nothing, FILTER + " --min_wav_duration 30", ["must be below"]),
    (write("data/train/text", b"7-30-0000\n"), TOKENS, ["data/train/text: no transcript in it"]),
    (remove("data/train/text"), TOKENS, ["data/train/text: no such file"]),
    (nothing, TOKENS + " --nbpe 9999", ["too large for this text; the largest possible is"]),
    (nothing, TOKENS + " --nbpe 4", ["--nbpe 4 is too small", "the smallest possible is 16"]),
    (
        write("data/train/text", b"u A <unk> B\n"),
        TOKENS + " --token_type word",
        ["reserved token <unk>"],
    ),
]  # fmt: skip


@pytest.fixture
def good_state(make_corpus, ok, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_corpus(4)
    for command in (PREPARE, PERTURB, FORMAT, FILTER, TOKENS + " --nbpe 17"):
        ok(*command.split())


def snapshot():
    files = [p for folder in ("data", "dump") for p in Path(folder).rglob("*") if p.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("damage, command, words", CASES, ids=[case[2][0] for case in CASES])
def test_one_line_and_nothing_overwritten(damage, command, words, good_state, cli):
    damage()
    before = snapshot()
    code, err = cli(*command.split())
    assert code == 1
    lines = [line for line in err.splitlines() if not line.startswith("[progress]")]
    assert len(lines) == 1 and ": error: " in lines[0], err
    for word in words:
        assert word in lines[0]
    assert snapshot() == before


@pytest.mark.parametrize(
    "command, words",
    [
        (FORMAT + " --fs fast", "'fast' is not a sampling rate"),
        (FORMAT + " --nj 0", "'0' is not a whole number"),
        (FORMAT + " --resample maybe", "'maybe' is neither true nor false"),
        (PREPARE + " --max_bad_share 2", "'2' is not a share between 0 and 1"),
        (TOKENS + " --token_type phn", "invalid choice: 'phn'"),
    ],
)
def test_wrong_options(command, words, cli):
    code, err = cli(*command.split())
    assert code == 2
    assert words in err.splitlines()[-1]


@pytest.fixture
def on_a_full_disk(tmp_path):
    """Return a function that runs a command with `full/`, 100 kB, where `fill` says full.

    The file system is a tmpfs in a mount namespace of our own: no root is needed.
    """
    (tmp_path / "full").mkdir()

    def run(command: str, fill: bool) -> subprocess.CompletedProcess:
        script = "mount -t tmpfs -o size=100k none full && "
        if fill:
            script += "{ cat /dev/zero >full/fill || true; } 2>/dev/null && "
        script += '"$@"'
        unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
        if shutil.which("unshare") is None or subprocess.run([*unshare, "true"]).returncode:
            pytest.skip("cannot mount a small file system here")
        verb, *argv = command.split()
        argv = [sys.executable, "-m", f"espnet_kd.bin.{verb}", *argv]
        return subprocess.run([*unshare, *argv], capture_output=True, text=True)

    return run


@pytest.mark.parametrize("command", [PREPARE, PERTURB, FORMAT, FILTER, TOKENS + " --nbpe 17"])
def test_a_full_disk_is_said_in_one_line(command, good_state, on_a_full_disk):
    verb, *argv = command.split()
    argv[argv.index("--out") + 1] = "full/out"
    done = on_a_full_disk(" ".join([verb, *argv]), fill=True)
    assert done.returncode == 1
    assert (
        f"{verb}: error: the disk is full while writing full/out" in done.stderr.splitlines()[-1]
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("nj", [1, 2])
def test_a_disk_that_fills_while_audio_is_written(
    nj, make_corpus, ok, on_a_full_disk, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_corpus(20, extension="wav")
    ok(*PREPARE.split())
    ok(*PERTURB.split())
    done = on_a_full_disk(
        f"format_audio --data data/train_sp --out full/out --nj {nj}", fill=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("format_audio: error: the disk is full while writing full/out/data/")
    assert "Traceback" not in done.stderr
