"""Sound files that were cut off, or whose samples are no numbers."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_kd.data.audio import BadAudio, decode, read_header
from espnet_kd.fileio import read_table, write_table

FORMATS = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("WAV", "ULAW"), ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"),
    ("NIST", "PCM_16"), ("SVX", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


def write(path, audio_format="WAV", subtype="PCM_16", frames=16001, channels=1, endian=None):
    audio = 0.1 * np.random.default_rng(0).standard_normal((frames, channels)).clip(-9, 9)
    soundfile.write(path, audio, 16000, subtype, endian, audio_format)
    return path


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_file_that_was_cut_off_is_noticed(share, tmp_path):
    for audio_format, subtype in FORMATS:
        path = write(tmp_path / "x", audio_format, subtype)
        assert len(decode(path)[0]) == read_header(path).frames == 16001
        size = path.stat().st_size
        if audio_format in ("WAV", "OGG"):  # what programs append is no reason to refuse
            with open(path, "ab") as f:
                f.write(b"TAG" + b"\0" * 125)
            assert len(decode(path)[0]) == 16001
        os.truncate(path, int(share * size))
        with pytest.raises(BadAudio):
            decode(path)
        if audio_format not in ("FLAC", "MP3"):  # these show it when they are decoded
            with pytest.raises(BadAudio, match="cut off|malformed|zero-length"):
                read_header(path)


@pytest.mark.parametrize("audio_format", ["WAV", "W64", "AIFF", "AU", "NIST"])
def test_one_missing_sample_is_noticed(audio_format, tmp_path):
    for channels, endian in ((1, "BIG"), (3, "BIG"), (1, "LITTLE"), (3, "LITTLE")):
        if (audio_format, endian) in (("AIFF", "LITTLE"), ("W64", "BIG")):
            continue
        # An even number of bytes, which no padding follows.
        path = write(tmp_path / "x", audio_format, frames=16000, channels=channels, endian=endian)
        assert len(decode(path)[0]) == 16000
        size = path.stat().st_size
        os.truncate(path, size - 2)
        with pytest.raises(BadAudio, match=rf"cut off \({size - 2} of {size} bytes\)"):
            read_header(path)


UNKNOWN = [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0x7FFFFFFF, 0x7FFFFFFF - 36),
           (0x80000024, 0x80000000)]  # fmt: skip


def test_only_a_length_that_is_known_can_be_missed(tmp_path):
    path = write(tmp_path / "x.wav", frames=16000)
    content = path.read_bytes()

    def frames(riff, data):
        head = content[:4] + struct.pack("<I", riff) + content[8:40] + struct.pack("<I", data)
        path.write_bytes(head + content[44:])
        return len(decode(path)[0])

    for riff, data in [*UNKNOWN, (0, 32000), (99, 32000)]:  # of pipes, and of careless programs
        assert frames(riff, data) == 16000
    with pytest.raises(BadAudio, match=r"cut off \(32044 of 32046 bytes\)"):
        frames(0, 32002)
    path = write(tmp_path / "x", "AU", frames=16000)
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"\xff" * 4 + content[12:])
    assert len(decode(path)[0]) == 16000
    for head in [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"riff", b".snd", b"NIST_1A"]:
        path.write_bytes(head)
        with pytest.raises(BadAudio):
            read_header(path)


def test_a_wav_with_further_chunks(tmp_path):
    path = write(tmp_path / "x.wav")
    content = path.read_bytes()
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    path.write_bytes(content[:36] + odd + content[36:])
    assert len(decode(path)[0]) == 16001
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(BadAudio, match=r"cut off \(31060 of 32060 bytes\)"):
        read_header(path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    for path in (tmp_path / "x.wav", tmp_path):
        with pytest.raises(BadAudio, match="not a file"):
            read_header(path)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data directory of ten float files, of which `bad` is to be spoilt."""
    monkeypatch.chdir(tmp_path)
    utts = [f"u{n}" for n in range(9)] + ["bad"]
    for utt in utts:
        write(f"{utt}.wav", subtype="FLOAT")
    write_table("data/wav.scp", {utt: f"{utt}.wav" for utt in utts})
    for name in ("text", "utt2spk"):
        write_table(f"data/{name}", dict.fromkeys(utts, "A"))
    return Path("bad.wav")


def spoil(value, rate=16000):
    def do(path):
        audio = soundfile.read(path)[0]
        audio[5000] = value
        soundfile.write(path, audio, rate, "FLOAT")

    return do


@pytest.mark.parametrize(
    "do, options, words",
    [
        (spoil(np.nan), [], "bad.wav: a sample is nan, where 1 is full scale"),
        (spoil(np.inf), [], "bad.wav: a sample is inf"),
        (spoil(-np.inf, 8000), ["--resample", "true"], "bad.wav: a sample is inf"),
        (spoil(1e30), [], "bad.wav: a sample is 1e+30"),
        (spoil(30000.0, 8000), ["--resample", "true"], "bad.wav: louder than can be written"),
        (lambda p: os.truncate(p, 30000), [], "bad.wav: cut off (30000 of 640"),
    ],
    ids=["nan", "inf", "resampled", "huge", "integers", "cut"],
)
def test_they_are_skipped_with_the_reason(do, options, words, data, cli, ok, caplog):
    do(data)
    code, err = cli("format_audio", "--data", "data", "--out", "dump", *options)
    assert code == 1 and words in err.splitlines()[-1]
    assert "1 of 10 utterances are unusable" in err.splitlines()[-1]
    ok("format_audio", "--data", "data", "--out", "dump", "--max_bad_share", "0.1", *options)
    assert words in caplog.text
    if "louder" in words:  # where nothing is converted, training reads them as they are
        spoil(30000.0)(data)
        ok("format_audio", "--data", "data", "--out", "kept")
        assert read_table("kept/wav.scp")["bad"] == "bad.wav"
    assert "bad" not in read_table("dump/wav.scp") and len(read_table("dump/text")) == 9


def flac_of(path, frames, promised, channels=1, rate=16000, subtype="PCM_16"):
    """A FLAC whose header gives another length than it has."""
    audio = 0.1 * np.random.default_rng(0).standard_normal((frames, channels)).clip(-9, 9)
    soundfile.write(path, audio, rate, subtype, format="FLAC")
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | promised >> 32  # of STREAMINFO: 36 bits
    content[22:26] = struct.pack(">I", promised & 0xFFFFFFFF)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "rate, subtype", [(16000, "PCM_16"), (11025, "PCM_24"), (44100, "PCM_S8")]
)
def test_a_flac_longer_than_its_header_says_is_noticed(rate, subtype, tmp_path):
    path = tmp_path / "x.flac"
    for frames in (1, 4095, 4096, 4097, 32001):
        for channels in (1, 2):
            flac_of(path, frames, frames, channels, rate, subtype)
            assert read_header(path).frames == frames
            if frames > 1:
                flac_of(path, frames, frames - 1, channels, rate, subtype)
                with pytest.raises(BadAudio, match=rf"{frames} samples, {frames - 1} by its"):
                    read_header(path)
    flac_of(path, 32001, 16000)
    with pytest.raises(BadAudio, match=r"longer than its header says \(32001 samples, 16000 by"):
        decode(path)


@pytest.mark.parametrize("audio_format, field", [("WAV", "<I"), ("AIFF", ">I")])
def test_samples_behind_the_length_of_a_header_are_noticed(audio_format, field, tmp_path):
    path = write(tmp_path / "x", audio_format)
    content = bytearray(path.read_bytes())
    at = content.index(b"data" if audio_format == "WAV" else b"SSND") + 4
    length = struct.unpack_from(field, content, at)[0]
    struct.pack_into(field, content, at, length // 2)
    path.write_bytes(content)
    with pytest.raises(BadAudio, match="longer than its header says|malformed|cut off"):
        decode(path)
    # Another part of the file, which may be large, is none.
    struct.pack_into(field, content, at, length)
    part = b"LIST" + struct.pack(field, 60000) + b"x" * 60000
    path.write_bytes(content + b"\0" * (len(content) % 2) + part)
    assert len(decode(path)[0]) == 16001


def test_a_file_without_sound_is_noticed(tmp_path):
    path, audio = tmp_path / "x.wav", 0.1 * np.ones((9000, 2))
    soundfile.write(path, 0 * audio, 16000)
    with pytest.raises(BadAudio, match="silent, every sample is 0$"):
        decode(path)
    audio[:, 1] *= -1
    soundfile.write(path, audio, 16000)
    with pytest.raises(BadAudio, match="its channels cancel each other out"):
        decode(path)
    audio[5, 1] = 0.1
    soundfile.write(path, audio, 16000)
    assert len(decode(path)[0]) == 9000
