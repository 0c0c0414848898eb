"""Stages 2 and 3: speed, sampling rate, files kept or written, resuming."""

import logging
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from espnet_kd.data.audio import encode, resample, resampled_frames
from espnet_kd.data.pace import SAMPLE, Pace
from espnet_kd.data.parallel import parallel_map
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.progress import clock
from tests.patience import PATIENCE


@pytest.fixture
def prepared(make_corpus, ok, tmp_path, monkeypatch):
    """Return a function that prepares a tiny corpus at `data/train` of the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(size=4, **kwargs):
        make_corpus(size, **kwargs)
        ok("prepare_librispeech", "--corpus", "corpus", "--set", "tiny-train",
           "--out", "data/train")  # fmt: skip

    return make


def test_speed_perturbation_names_as_in_espnet(prepared, ok):
    prepared(2)
    ok("perturb_speed", "--data", "data/train", "--factors", "0.9 1.0 1.1", "--out", "data/sp")
    wav = read_table("data/train/wav.scp")
    assert read_table("data/sp/wav.scp") == {
        **wav,
        **{f"sp0.9-{utt}": path for utt, path in wav.items()},
        **{f"sp1.1-{utt}": path for utt, path in wav.items()},
    }
    assert read_table("data/sp/text")["sp0.9-7-30-0000"] == "WORD0 OF TEST"
    assert read_table("data/sp/utt2spk")["sp0.9-7-30-0000"] == "sp0.9-7-30"
    assert read_table("data/sp/spk2utt")["sp1.1-7-30"] == "sp1.1-7-30-0000"
    assert read_table("data/sp/utt2speed")["sp1.1-7-30-0000"] == "1.1"
    assert read_table("data/sp/utt2speed")["7-30-0000"] == "1.0"


@pytest.mark.parametrize("nj", [1, 2])
def test_speed_changes_length_and_pitch(nj, prepared, ok):
    prepared(2)
    seconds, tone = 1.0, 1000.0
    for path in read_table("data/train/wav.scp").values():
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * tone * np.arange(16000) / 16000), 16000)
    ok("perturb_speed", "--data", "data/train", "--out", "data/sp")
    ok("format_audio", "--data", "data/sp", "--out", "dump/sp", "--nj", nj)
    samples = read_table("dump/sp/utt2num_samples")
    wav = read_table("dump/sp/wav.scp")
    for prefix, factor in (("", 1.0), ("sp0.9-", 0.9), ("sp1.1-", 1.1)):
        audio, rate = soundfile.read(wav[f"{prefix}7-30-0000"])
        assert rate == 16000
        assert len(audio) == int(samples[f"{prefix}7-30-0000"]) == round(16000 * seconds / factor)
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
        peak = spectrum.argmax() * rate / len(audio)
        assert peak == pytest.approx(tone * factor, abs=rate / len(audio))
    assert wav["7-30-0000"].startswith("corpus/")  # at speed 1 the file stays where it is
    made = r"dump/sp/data/format\.([0-9a-f]{2})/sp0\.9-7-30-0000-\1[0-9a-f]{14}\.flac"
    assert re.fullmatch(made, wav["sp0.9-7-30-0000"])
    for name in ("text", "utt2spk", "spk2utt"):
        assert read_table(f"dump/sp/{name}") == read_table(f"data/sp/{name}")
    assert open("dump/sp/feats_type").read() == "raw\n"


@pytest.mark.parametrize(
    "extension, kept", [("flac", True), ("wav", True), ("opus", False), ("ogg", False)]
)
def test_only_slow_formats_are_copied(extension, kept, prepared, ok, caplog):
    caplog.set_level(logging.INFO)
    prepared(2, extension=extension)
    ok("format_audio", "--data", "data/train", "--out", "dump/train", "--audio_format", "wav")
    wav, source = read_table("dump/train/wav.scp"), read_table("data/train/wav.scp")
    assert (wav == source) == kept
    assert f"{0 if kept else 2} files written" in caplog.text
    assert f"{2 if kept else 0} used where they are" in caplog.text
    for utt, path in wav.items():
        copy, original = soundfile.read(path, dtype="int16"), soundfile.read(source[utt])
        assert copy[1] == 16000
        assert len(copy[0]) == int(read_table("dump/train/utt2num_samples")[utt])
        assert np.abs(copy[0] / 32768 - original[0]).max() <= 0.5 / 32768 + 1e-7


def test_channels_are_averaged_and_rates_converted_when_asked(prepared, ok):
    prepared(2, rate=8000)
    path = read_table("data/train/wav.scp")["7-30-0000"]
    left = 0.5 * np.sin(2 * np.pi * 500 * np.arange(4000) / 8000)
    soundfile.write(path, np.stack([left, 0 * left], axis=1), 8000)
    ok("format_audio", "--data", "data/train", "--out", "dump/t", "--resample", "true")
    audio, rate = soundfile.read(read_table("dump/t/wav.scp")["7-30-0000"])
    assert (rate, audio.shape) == (16000, (8000,))
    assert np.abs(audio[1000:-1000]).max() == pytest.approx(0.25, abs=0.01)


def test_sixteen_bit_audio_survives_exactly(tmp_path):
    pcm = np.array([-32768, -32767, -1, 0, 1, 255, 32766, 32767] * 100, dtype=np.int16)
    for audio_format in ("flac", "wav"):
        path = tmp_path / f"x.{audio_format}"
        encode(path, pcm.astype(np.float32) / 32768, 16000, audio_format)
        assert (soundfile.read(path, dtype="int16")[0] == pcm).all()
    encode(tmp_path / "loud.flac", np.array([1.5, -1.5] * 50), 16000, "flac")  # clips, not wraps
    assert (soundfile.read(tmp_path / "loud.flac", dtype="int16")[0][:2] == [32767, -32768]).all()


@pytest.mark.parametrize("rate, speed, target", [(16000, 0.9, 16000), (44100, 1.1, 16000)])
def test_length_is_known_before_resampling(rate, speed, target):
    for frames in (1, 999, 16000, 123457):
        audio = resample(np.zeros(frames, np.float32), rate, speed, target)
        assert len(audio) == resampled_frames(frames, rate, speed, target)


def test_finished_files_are_found_again(prepared, ok, caplog):
    prepared(6, extension="opus")
    ok("format_audio", "--data", "data/train", "--out", "dump/t")
    tables = {name: open(f"dump/t/{name}").read() for name in ("wav.scp", "utt2num_samples")}
    paths = sorted(read_table("dump/t/wav.scp").values())
    # As after a kill: no table, one file missing, one cut off. A clock that jumped does nothing.
    for name in ("wav.scp", "utt2audio"):
        os.unlink(f"dump/t/{name}")
    os.unlink(paths[0])
    with open(paths[1], "r+b") as f:
        f.truncate(20)
    os.utime(paths[2], (0, 0))
    before = {path: os.stat(path).st_mtime_ns for path in paths[2:]}
    caplog.clear()
    caplog.set_level(logging.INFO)
    ok("format_audio", "--data", "data/train", "--out", "dump/t")
    assert "2 files written, 4 found from an earlier run" in caplog.text
    assert {path: os.stat(path).st_mtime_ns for path in paths[2:]} == before
    assert {name: open(f"dump/t/{name}").read() for name in tables} == tables


def test_bad_audio_is_skipped_with_a_count(prepared, ok, caplog):
    prepared(20)
    wav = read_table("data/train/wav.scp")
    soundfile.write(wav["7-30-0000"], np.zeros(300), 16000)  # too short
    whole = open(wav["7-30-0002"], "rb").read()
    open(wav["7-30-0002"], "wb").write(whole[: len(whole) // 2])  # the header is whole
    ok("format_audio", "--data", "data/train", "--out", "dump/t", "--max_bad_share", "0.1")
    assert "skipped 2 unusable sound files" in caplog.text
    assert "7-30-0000.flac: too short (300 samples)" in caplog.text
    assert "7-30-0002.flac: unreadable" in caplog.text
    for name in ("wav.scp", "text", "utt2spk", "utt2num_samples"):
        assert set(read_table(f"dump/t/{name}")) == set(wav) - {"7-30-0000", "7-30-0002"}


@pytest.mark.parametrize(
    "number, code", [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)]
)
def test_a_kill_leaves_no_table_and_no_process(number, code, prepared, ok):
    prepared(120, extension="wav")
    ok("perturb_speed", "--data", "data/train", "--out", "data/sp")
    command = [sys.executable, "-m", "espnet_kd.bin.format_audio"]
    command += ["--data", "data/sp", "--out", "dump/t", "--nj", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    children = _children(process.pid)
    while len(children) < 2 or not os.path.exists("dump/t/data"):
        assert process.poll() is None
        time.sleep(0.01)
        children = _children(process.pid)
    if number == signal.SIGINT:  # Ctrl-C goes to the whole group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code
    if code > 0:
        lines = [line for line in err.splitlines() if not line.startswith("[progress]")]
        assert lines == ["format_audio: interrupted; run the same command to go on"]
    deadline = time.monotonic() + PATIENCE
    while any(_alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in children)
    assert not os.path.exists("dump/t/wav.scp")
    # Going on gives what an undisturbed run gives.
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert len(read_table("dump/t/wav.scp")) == 360


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return f.read().split()
    except FileNotFoundError:
        pytest.skip("no list of child processes on this system")


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_parallel_map_keeps_order_and_passes_errors_on():
    assert list(parallel_map(abs, range(-100, 0), 2)) == list(range(100, 0, -1))
    with pytest.raises(TypeError):
        list(parallel_map(abs, [1, "x"], 2))
    with pytest.raises(UserError, match="worker process was killed"):
        list(parallel_map(os._exit, [1], 2))


def test_a_sample_of_the_whole_set_foretells_the_time(caplog):
    caplog.set_level(logging.INFO)
    total, processes = 10 * SAMPLE, 2
    pace = Pace("data/x", total, processes)
    order = list(pace.order())
    assert sorted(order) == list(range(total))
    head = order[: pace.sample]
    assert len(head) == pace.sample == processes * SAMPLE
    assert head == list(range(0, total, 5))  # spread evenly
    for n in range(pace.sample):
        assert not caplog.messages, n
        pace.add(audio=10.0, worked=0.5)  # 4 utterances and 40 seconds of audio a second
    assert caplog.messages == [
        "data/x: 4.0 utt/s, 0.011 hours of audio a second with 2 processes, measured on 64 "
        "utterances: 320 utterances will take about 1:20, LibriSpeech's 960 h would take "
        f"{clock(961.06 * 3600 / 40)}"
    ]


def test_what_was_measured_is_said_at_the_end(caplog):
    caplog.set_level(logging.INFO)
    total = 4 * SAMPLE - 1  # too few to foretell anything
    pace = Pace("x", total, 1)
    assert list(pace.order()) == list(range(total))
    pace.close()  # all was found from an earlier run
    for _ in range(total):
        pace.add(audio=10.0, worked=0.5)
    pace.close()
    assert not caplog.messages  # it took no time
    pace.start -= 100
    pace.close()
    assert len(caplog.messages) == 1 and "0.35 hours of audio in 1:40, 1.3 utt/s" in caplog.text
