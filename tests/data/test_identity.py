"""The checksum of all audio that a data directory refers to."""

import errno
import logging
import os
import shutil

import pytest

from espnet_kd.data import identity
from espnet_kd.data.identity import NAME, audio_state
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table, write_table


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data directory of four files, relative to the current folder."""
    monkeypatch.chdir(tmp_path)
    for n in range(4):
        write_file(f"audio/{n}.wav", b"sound %d" % n)
    write_table("data/wav.scp", {f"utt{n}": f"audio/{n}.wav" for n in range(4)})
    return "data"


def write_file(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)


@pytest.fixture
def read(monkeypatch):
    """The files whose content was read, in order."""
    paths = []
    digest = identity.audio_source.file_digest

    def count(path):
        paths.append(str(path))
        return digest(path)

    monkeypatch.setattr(identity.audio_source, "file_digest", count)
    monkeypatch.setattr(identity, "TICK_NS", 0)
    return paths


def test_content_is_read_once(data, read):
    state = audio_state(data)
    assert read == [f"audio/{n}.wav" for n in range(4)]
    assert audio_state(data) == state and len(read) == 4
    os.utime("audio/2.wav", (0, 0))  # a clock that jumped, a corpus copied once more
    assert audio_state(data) == state and read[4:] == ["audio/2.wav"]
    assert audio_state(data) == state and len(read) == 5
    os.unlink(f"data/{NAME}")
    assert audio_state(data) == state and len(read) == 9


def exchange(path, content, keep_mtime=False):
    before = os.stat(path)
    with open(path, "wb") as f:
        f.write(content)
    if keep_mtime:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert os.stat(path).st_mtime_ns == before.st_mtime_ns


def swap():
    table = read_table("data/wav.scp")
    write_table("data/wav.scp", {**table, "utt0": table["utt1"], "utt1": table["utt0"]})


def other_path():
    write_file("audio/new.wav", b"sound 9")
    write_table("data/wav.scp", {**read_table("data/wav.scp"), "utt0": "audio/new.wav"})


def one_less():
    table = read_table("data/wav.scp")
    del table["utt3"]
    write_table("data/wav.scp", table)


@pytest.mark.parametrize(
    "change",
    [
        lambda: exchange("audio/1.wav", b"SOUND 1"),
        lambda: exchange("audio/1.wav", b"SOUND 1", keep_mtime=True),
        lambda: exchange("audio/1.wav", b"sou"),
        lambda: shutil.copy("audio/1.wav", "audio/2.wav"),
        swap,
        other_path,
        one_less,
        lambda: write_table("data/utt2speed", {f"utt{n}": "0.9" for n in range(4)}),
    ],
    ids=["same-length", "same-length-and-mtime", "cut", "copied", "swapped", "path", "less",
         "speed"],
)  # fmt: skip
def test_other_audio_is_another_state(change, data):
    state = audio_state(data)
    change()
    changed = audio_state(data)
    assert changed != state
    assert audio_state(data) == changed


def move():
    os.rename("audio", "moved")
    write_table("data/wav.scp", {f"utt{n}": f"moved/{n}.wav" for n in range(4)})


def damage(content):
    def do():
        with open(f"data/{NAME}", "wb") as f:
            f.write(content)

    return do


@pytest.mark.parametrize(
    "change",
    [
        move,
        lambda: exchange("audio/1.wav", b"sound 1"),
        lambda: os.chmod("audio/1.wav", 0o600),
        lambda: write_table("data/text", {"utt0": "A"}),
        damage(b"\xff\0"),
        damage(b"utt0 half a lin\nutt0"),
        damage(b""),
    ],
    ids=["moved", "rewritten", "chmod", "text", "binary", "cut", "empty"],
)
def test_equal_audio_is_the_same_state(change, data):
    state = audio_state(data)
    change()
    assert audio_state(data) == state
    assert set(read_table(f"data/{NAME}")) == {f"utt{n}" for n in range(4)}


def test_a_change_is_named_until_the_directory_is_made_again(data, caplog):
    audio_state(data)
    before = read_table(f"data/{NAME}")
    exchange("audio/1.wav", b"SOUND 1")
    for _ in range(2):
        caplog.clear()
        audio_state(data)
        assert "1 of 4 sound files are not what they were" in caplog.text
        assert "'utt1': audio/1.wav" in caplog.text
    assert read_table(f"data/{NAME}")["utt1"] == before["utt1"]
    exchange("audio/1.wav", b"sound 1")
    caplog.clear()
    audio_state(data)
    assert not caplog.records


def test_a_file_written_twice_in_one_tick_is_noticed(data, monkeypatch):
    now = 10**18  # a clock that stands still
    monkeypatch.setattr(identity, "_times", lambda path: f" 7 {now} {now} {path}")
    monkeypatch.setattr(identity.time, "time_ns", lambda: now + 10**6)
    state = audio_state(data)
    exchange("audio/1.wav", b"SOUND 1")
    assert audio_state(data) != state


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: os.unlink("audio/1.wav"),
        lambda: os.unlink("audio/1.wav") or os.mkdir("audio/1.wav"),
        lambda: os.unlink("audio/1.wav") or os.mkfifo("audio/1.wav"),
    ],
    ids=["gone", "folder", "fifo"],
)
def test_a_file_that_is_not_there_is_named(spoil, data):
    whole = audio_state(data)
    spoil()
    with pytest.raises(UserError) as e:
        audio_state(data)
    where = "data/wav.scp: the sound file of 'utt1' cannot be read: audio/1"
    assert str(e.value).startswith(where)
    # A reader that skips bad files has the last word.
    missing = audio_state(data, may_miss=True)
    assert missing == audio_state(data, may_miss=True) != whole


def test_a_command_is_its_words_and_the_files_that_it_reads(data):
    def state(command):
        write_table("data/wav.scp", {"utt1": command})
        return audio_state(data, may_miss=True)

    first = state("sox audio/1.wav -t wav - |")
    shutil.copy("audio/1.wav", "moved")
    assert state("sox moved -t wav - |") == first  # of the same content
    assert state("sox -R audio/1.wav -t wav - |") != first != state("sox audio/2.wav -t wav - |")
    with open("audio/1.wav", "wb") as f:
        f.write(b"another")
    assert state("sox audio/1.wav -t wav - |") != first
    for entry in "sox audio/1.wav -t wav - |", "data_wav.ark:12":  # trainings read files only
        write_table("data/wav.scp", {"utt1": entry})
        with pytest.raises(UserError, match="data/wav.scp: 'utt1' is no sound file .*--corpus"):
            audio_state(data)


def test_a_directory_that_cannot_be_written(data, caplog, monkeypatch):
    def write(path, _):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(identity, "write_table", write)
    assert audio_state(data) == audio_state(data)
    assert "data: utt2audio is not kept (Read-only file system)" in caplog.text
    assert not os.path.exists(f"data/{NAME}")


def test_many_files_are_read_in_order(data, monkeypatch):
    wav = {f"u{n:03d}": f"audio/many{n}.wav" for n in range(50)}
    for utt, path in wav.items():
        write_file(path, utt.encode())
    write_table("data/wav.scp", wav)
    state = audio_state(data)
    os.unlink(f"data/{NAME}")
    monkeypatch.setattr(identity, "CHUNK", 7)
    assert audio_state(data) == state
