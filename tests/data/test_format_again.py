"""Stage 3 run once more: which files of an earlier run are kept, made again or removed."""

import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_kd.data.identity import audio_state
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table, write_table

LEVELS = {"a": 0.5, "b": -0.25}


def write_levels(path, level, rate=8000, channels=1, **kwargs):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full((rate // 2, channels), level), rate, **kwargs)


def write_dir(wav, **more):
    tables = {"wav.scp": wav, "text": dict.fromkeys(wav, "A"), "utt2spk": dict.fromkeys(wav, "s")}
    for name, table in {**tables, **more}.items():
        write_table(f"data/t/{name}", table)


@pytest.fixture
def form(tmp_path, monkeypatch, ok, caplog):
    """Return a function that runs stage 3 on `data/t` and returns the level of each utterance."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)

    def run(*options):
        caplog.clear()
        ok("format_audio", "--data", "data/t", "--out", "dump/t", "--resample", "true", *options)
        wav = read_table("dump/t/wav.scp")
        return {utt: round(float(np.median(soundfile.read(p)[0])), 2) for utt, p in wav.items()}

    return run


def repoint():
    write_dir({"u": "audio/b.wav"})


def repoint_older():
    os.utime("audio/b.wav", (0, 0))
    repoint()


def exchange():
    os.replace("audio/b.wav", "audio/a.wav")


def exchange_with_its_times():
    times = os.stat("audio/a.wav")
    Path("audio/a.wav").write_bytes(Path("audio/b.wav").read_bytes())
    os.utime("audio/a.wav", ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [repoint, repoint_older, exchange, exchange_with_its_times],
    ids=lambda change: change.__name__,
)  # fmt: skip
@pytest.mark.parametrize(
    "kind", [{}, {"rate": 16000, "channels": 2}, {"rate": 16000, "speed": "0.9"},
             {"rate": 16000, "format": "OGG", "subtype": "VORBIS"},
             {"rate": 16000, "format": "MP3"}],
    ids=["rate", "stereo", "speed", "vorbis", "mp3"],
)  # fmt: skip
def test_a_file_made_of_other_audio_is_not_kept(change, kind, form, caplog):
    kind = dict(kind)
    speed = kind.pop("speed", "1")
    for name, level in LEVELS.items():
        write_levels(f"audio/{name}.wav", level, **kind)
    write_dir({"u": "audio/a.wav"}, utt2speed={"u": speed})
    assert form() == {"u": LEVELS["a"]}
    state = audio_state("dump/t")
    assert form() == {"u": LEVELS["a"]} and "0 files written, 1 found" in caplog.text
    assert audio_state("dump/t") == state
    change()
    if os.path.exists("data/t/utt2speed"):
        write_table("data/t/utt2speed", {"u": speed})
    assert form() == {"u": LEVELS["b"]} and "1 files written" in caplog.text
    assert audio_state("dump/t") != state
    assert len(made_files()) == 1  # the other one is gone


def made_files():
    return sorted(str(p) for p in Path("dump/t/data").rglob("*") if p.is_file())


@pytest.mark.parametrize(
    "options, speed", [(["--fs", "12k"], "1"), (["--audio_format", "wav"], "1"), ([], "1.1")],
    ids=["rate", "format", "speed"],
)  # fmt: skip
def test_a_file_made_with_other_settings_is_not_kept(options, speed, form):
    write_levels("audio/a.wav", 0.5)
    write_dir({"u": "audio/a.wav"})
    form()
    first = read_table("dump/t/wav.scp")["u"]
    samples = read_table("dump/t/utt2num_samples")["u"]
    write_dir({"u": "audio/a.wav"}, utt2speed={"u": speed})
    form(*options)
    second = read_table("dump/t/wav.scp")["u"]
    assert second != first and made_files() == [second]
    assert (read_table("dump/t/utt2num_samples")["u"] != samples) == ("wav" not in options)


def test_force_makes_a_good_file_again(form, caplog):
    write_levels("audio/a.wav", 0.5)
    write_dir({"u": "audio/a.wav"})
    form()
    before = os.stat(made_files()[0])
    form()
    assert os.stat(made_files()[0]).st_ino == before.st_ino
    form("--force", "true")
    assert os.stat(made_files()[0]).st_ino != before.st_ino
    assert "1 files written, 0 found" in caplog.text


@pytest.mark.parametrize("kind", ["flac", "wav"])
@pytest.mark.parametrize("keep_mtime", [False, True])
def test_a_damaged_file_is_made_again(kind, keep_mtime, form, caplog):
    for name, level in LEVELS.items():
        write_levels(f"audio/{name}.wav", level)
    write_dir({name: f"audio/{name}.wav" for name in LEVELS})
    form("--audio_format", kind)
    state = audio_state("dump/t")
    path = read_table("dump/t/wav.scp")["a"]
    good, times = Path(path).read_bytes(), os.stat(path)
    Path(path).write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    if keep_mtime:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    words = "1 of 2 sound files are not what stage 3 made, such as that of 'a': "
    with pytest.raises(UserError, match=words + path):
        audio_state("dump/t")
    assert audio_state("dump/t", may_miss=True) != state
    form("--audio_format", kind)
    assert "1 files written, 1 found" in caplog.text
    assert Path(path).read_bytes() == good and audio_state("dump/t") == state


def test_every_utterance_has_a_file_of_its_own(form):
    names = ["spk/1", "spk_1", "SPK_1", "spk|1", "../../1", "..", ".a", "é", "è", "x" * 300,
             "x" * 299 + "y", "-f", "a b".replace(" ", "\u00b7")]  # fmt: skip
    levels = {utt: round(0.05 * (n + 1), 2) for n, utt in enumerate(names)}
    for n, utt in enumerate(names):
        write_levels(f"audio/{n}.wav", levels[utt])
    write_dir({utt: f"audio/{n}.wav" for n, utt in enumerate(names)})
    assert form() == levels
    # A file system may take upper and lower case for the same.
    paths = [path.lower() for path in read_table("dump/t/wav.scp").values()]
    assert len(set(paths)) == len(names)
    assert all(re.fullmatch(r"dump/t/data/format\.\w\w/[\w.-]+", path) for path in paths)


def test_more_utterances_move_none_and_fewer_leave_none_behind(form, caplog):
    for n in range(12):
        write_levels(f"audio/{n}.wav", 0.05 * (n or 20))
    wav = {f"u{n:02d}": f"audio/{n}.wav" for n in range(12)}
    write_dir({utt: path for utt, path in wav.items() if utt >= "u06"})
    form()
    first = read_table("dump/t/wav.scp")
    write_dir(wav)  # the new ones are sorted before the others
    assert form()["u03"] == 0.15 and "6 files written, 6 found" in caplog.text
    assert first.items() <= read_table("dump/t/wav.scp").items()
    Path("dump/t/data/mine.flac").write_bytes(b"of the user")
    Path(first["u06"]).with_name("mine-too.flac").write_bytes(b"of the user")
    Path(first["u06"] + ".123.tmp").write_bytes(b"of a run that was killed")
    write_dir({"u03": wav["u03"]})
    form()
    left = [path for path in made_files() if "mine" not in path]
    assert left == [read_table("dump/t/wav.scp")["u03"]]
    assert len(made_files()) == 3
    assert "removed 12 files that no utterance has any more" in caplog.text


def test_files_of_an_earlier_version_are_replaced(form):
    write_levels("audio/a.wav", 0.5)
    write_levels("dump/t/data/format.1/u.flac", -0.25, rate=16000)
    write_levels("dump/t/data/format.1/other.flac", -0.25, rate=16000)
    write_table("dump/t/wav.scp", {"u": "dump/t/data/format.1/u.flac", "x": "audio/a.wav"})
    write_dir({"u": "audio/a.wav"})
    assert form() == {"u": 0.5}
    assert [Path(path).name[:2] for path in made_files()] == ["ot", "u-"]
    assert os.path.exists("audio/a.wav")


def test_the_checksums_go_along_with_the_utterances(form, ok):
    for name, level in LEVELS.items():
        write_levels(f"audio/{name}.wav", level)
    write_dir({name: f"audio/{name}.wav" for name in LEVELS})
    form()
    ok("perturb_speed", "--data", "data/t", "--factors", "0.9 1", "--out", "data/sp")
    ok("filter_lengths", "--data", "dump/t", "--out", "dump/f", "--max_wav_duration", "0.52")
    sources, made = read_table("data/t/utt2audio"), read_table("dump/t/utt2audio")
    assert sources.keys() == made.keys() == LEVELS.keys()
    copies = {f"sp0.9-{utt}": line for utt, line in sources.items()}
    assert read_table("data/sp/utt2audio") == {**sources, **copies}
    assert read_table("dump/f/utt2audio") == made
