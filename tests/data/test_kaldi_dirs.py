"""Kaldi's data directories as people have them: commands, archives, paths from somewhere else."""

import logging
import shlex
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet_kd.data import audio_source
from espnet_kd.data.audio_source import commands_of, place_of, resolved
from espnet_kd.fileio import read_table

RATE = 16000


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    """Four sound files in the current folder; returns their samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()
    audio_source._content.cache_clear()
    pcm = {}
    for n in range(4):
        noise = np.random.default_rng(n).standard_normal(4000 + 100 * n)
        pcm[f"u{n}"] = (3000 * noise).clip(-30000, 30000).astype(np.int16)
        soundfile.write(f"{n}.wav", pcm[f"u{n}"], RATE)
        soundfile.write(f"home/{n}.flac", pcm[f"u{n}"], RATE)
    return pcm


def write_dir(wav, folder="data/set", **tables):
    Path(folder).mkdir(parents=True, exist_ok=True)
    tables = {"text": {utt: "SOME WORDS" for utt in wav}, **tables, "wav.scp": wav}
    for name, table in tables.items():
        lines = "".join(f"{key} {value}\n" for key, value in table.items())
        Path(folder, name).write_text(lines)


FORMAT = "format_audio", "--data", "data/set", "--out", "dump/set"


def check(pcm):
    wav = read_table("dump/set/wav.scp")
    assert wav.keys() == pcm.keys()
    for utt, path in wav.items():
        assert np.array_equal(soundfile.read(path, dtype="int16")[0], pcm[utt]), utt


def test_commands_give_the_audio_and_are_named(sounds, ok, caplog):
    caplog.set_level(logging.INFO)
    Path("a file.wav").write_bytes(Path("3.wav").read_bytes())
    write_dir(
        {
            "u0": "cat 0.wav |",
            "u1": "cat 1.wav | cat - |",
            "u2": "(cat 2.wav); true |",  # by a shell
            "u3": "cat 'a file.wav'|",
        }
    )
    ok(*FORMAT)
    check(sounds)
    line = "data/set/wav.scp: runs commands for audio: cat (4 times), sh (1 times), e.g. 'cat 0."
    assert line in caplog.text
    assert "no utt2spk; each utterance is taken for a speaker of its own" in caplog.text
    # Found again while the files that are read are the same.
    caplog.clear()
    ok(*FORMAT)
    assert "0 files written, 4 found from an earlier run" in caplog.text
    for name in "0.wav", "a file.wav":
        Path(name).write_bytes(Path("1.wav").read_bytes())
    caplog.clear()
    ok(*FORMAT)
    assert "2 files written, 2 found" in caplog.text


def test_what_a_command_cuts_is_found_by_segments(sounds, ok):
    write_dir({"r": "cat 0.wav |"}, segments={"a": "r 0 0.1", "b": "r 0.1 -1"},
              text={"a": "A", "b": "B"}, spk2utt={"s": "a b"})  # fmt: skip
    ok(*FORMAT)
    check({"a": sounds["u0"][:1600], "b": sounds["u0"][1600:]})
    assert read_table("dump/set/utt2spk") == {"a": "s", "b": "s"}


@pytest.mark.parametrize(
    "command, words",
    [
        ("cat gone.wav |", "'cat' ends with code 1: cat: gone.wav"),
        ("cat gone.wav | cat |", "'cat' ends with code 1"),
        ("true |", "its command gives nothing"),
        ("echo no audio |", "unreadable ("),
        ("head -c 5000 0.wav |", "cut off (5000 of 8044 bytes)"),
        ("exit 3; |", "'sh' ends with code 3"),
        ("x.ark:123", "unreadable (No such file or directory"),
        ("0.wav:3", "0.wav at 3 is no WAV, FLAC or AUDIO"),
        ("0.wav:999999", "is no WAV, FLAC or AUDIO"),
        ("feats.ark:2", "is a matrix, that is, features"),
        ("0.wav:0[0:5]", "a range [0:5] of an archive; use segments"),
    ],
)
def test_audio_that_cannot_be_had_counts(command, words, sounds, cli):
    kaldiio.save_ark("feats.ark", {"a": np.zeros((3, 4), "float32")})
    write_dir({"u0": command, "u1": "1.wav"})
    code, err = cli(*FORMAT)
    assert code == 1 and "1 of 2 utterances are unusable" in err and words in err, err
    assert cli(*FORMAT, "--max_bad_share", "0.5")[0] == 0


@pytest.mark.parametrize(
    "command, words",
    [
        ("no_such_program 0.wav |", "1 entries run 'no_such_program', which is not installed"),
        ("|", "an entry is '|': there is no command in it"),
    ],
)
def test_a_command_that_cannot_run_is_told_first(command, words, sounds, cli):
    write_dir({"u0": command, "u1": "1.wav"})
    code, err = cli(*FORMAT)
    assert code == 1 and f"data/set/wav.scp: {words}" in err.splitlines()[-1], err


@pytest.mark.parametrize("kind", ["raw", "flac", "wav"])
def test_places_in_archives(kind, sounds, ok):
    """As `--audio_format flac.ark` and `wav.ark` of ESPnet, and Kaldi, write them."""
    if kind == "raw":
        with open("a.ark", "wb") as f:
            places = {}
            for n, utt in enumerate(sounds):
                f.write(f"{utt} ".encode())
                places[utt] = f"a.ark:{f.tell()}"
                f.write(Path(f"{n}.wav").read_bytes())
    else:
        audio = {utt: (RATE, pcm) for utt, pcm in sounds.items()}
        kaldiio.save_ark(
            "a.ark", audio, scp="a.scp", write_function="soundfile",
            write_kwargs={"format": kind, "subtype": "PCM_16"},
        )  # fmt: skip
        places = read_table("a.scp")
    assert place_of(places["u1"]).path == "a.ark"
    write_dir(places)
    ok(*FORMAT)
    check(sounds)
    # Another content at the same place is other audio.
    first = read_table("data/set/utt2audio")
    raw = bytearray(Path("a.ark").read_bytes())
    raw[-2] ^= 1
    Path("a.ark").write_bytes(raw)
    if kind != "flac":
        ok(*FORMAT)
        differ = {u for u, line in read_table("data/set/utt2audio").items()
                  if line.split()[0] != first[u].split()[0]}  # fmt: skip
        assert differ == {"u3"}


def test_the_home_folder_is_found(sounds, ok):
    write_dir({f"u{n}": f"~/{n}.flac" for n in range(3)} | {"u3": "cat ~/3.flac |"})
    ok(*FORMAT)
    check(sounds)
    assert "~" not in Path("dump/set/wav.scp").read_text()


def test_paths_of_another_recipe_are_found(sounds, tmp_path, monkeypatch):
    folder = tmp_path / "dump/raw/train"
    wav = {"a": "0.wav", "b": "cat 1.wav|", "c": "0.wav:44", "d": "gone.wav", "e": "cat $X |"}
    monkeypatch.chdir("/")
    at = str(tmp_path)
    assert resolved(wav, folder) == {
        "a": f"{at}/0.wav", "b": f"cat {at}/1.wav |", "c": f"{at}/0.wav:44", "d": "gone.wav",
        "e": "cat $X |",
    }  # fmt: skip


@pytest.mark.parametrize(
    "command, words",
    [
        ("sox a.wav -r 16k -t wav - |", [["sox", "a.wav", "-r", "16k", "-t", "wav", "-"]]),
        ("flac -dc -s a.flac|", [["flac", "-dc", "-s", "a.flac"]]),
        ("a x | b y |", [["a", "x"], ["b", "y"]]),
        ("a 'x y' |", [["a", "x y"]]),
        ("a $X |", None),
        ("a *.wav |", None),
        ("a x; b |", None),
        ("a <x |", None),
        ("a && b |", None),
        ("a `b` |", None),
        ("a 'x |", None),
        ("X=1 a |", None),
        ("a | | b |", None),
    ],
)  # fmt: skip
def test_which_commands_need_a_shell(command, words):
    assert commands_of(command) == words


def test_a_command_runs_once_a_recording(sounds, ok):
    """Its utterances come one after the other."""
    script = "import sys\nopen('runs', 'a').write('x')\n"
    Path("s.py").write_text(script + "sys.stdout.buffer.write(open('0.wav', 'rb').read())")
    run = shlex.quote(sys.executable)
    write_dir({"r": f"{run} s.py |"}, segments={f"u{n}": f"r 0.0{n} -1" for n in range(5)},
              text={f"u{n}": "A" for n in range(5)})  # fmt: skip
    ok(*FORMAT)
    assert Path("runs").read_text() == "x"
