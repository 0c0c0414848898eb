"""The command line: sources, formats, bad sound, and what it may not import."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from espnet_kd.bin.transcribe import main
from espnet_kd.device.recogniser import Word
from espnet_kd.device.sources import Intake, Source
from espnet_kd.device.subtitles import clock, cues

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
soundfile = pytest.importorskip("soundfile")

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio", "espnet", "espnet2", "librosa", "scipy"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from espnet_kd.bin.transcribe import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests.device.tone_model import tones, write_tone_model

    folder = write_tone_model(tmp_path_factory.mktemp("tone") / "model")
    soundfile.write(folder.parent / "a.wav", tones("AB C..CB"), 16000)
    (folder.parent / "talks").mkdir()
    for name in ("b", "a"):
        soundfile.write(folder.parent / f"talks/{name}.flac", tones("ABC", rate=44100), 44100)
    return folder


def run(capsys, *words):
    with pytest.raises(SystemExit) as e:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return e.value.code, captured.out, captured.err


def test_text_of_a_file_without_torch_and_espnet(folder):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(folder), str(folder.parent / "a.wav")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "AB C\nCB\n"), done.stderr
    assert "s of audio in" in done.stderr and "RTF" in done.stderr


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_raw_samples_on_stdin(folder, kind):
    from tests.device.tone_model import tones

    audio = np.stack([tones("AB C", rate=8000)] * 2, 1)  # (S, 2)
    raw = (audio * 32767).astype("<i2") if kind == "int16" else audio.astype("<f4")
    command = [sys.executable, "-c", BLOCKED, str(folder), "-", "--partials", "true"]
    command += ["--raw_rate", "8k", "--raw_channels", "2", "--raw_format", kind]
    done = subprocess.run(command, input=raw.tobytes() + b"\0", capture_output=True)
    *partials, text = done.stdout.decode().splitlines()
    assert text == "AB C", done.stderr
    assert "... A |" in partials and all(p.startswith("... ") for p in partials)


def test_a_folder_in_json_lines(folder, capsys):
    talks = folder.parent / "talks"
    code, out, _ = run(capsys, folder, talks, "--output_format", "json", "--beam_size", 2)
    lines = [json.loads(line) for line in out.splitlines()]
    finals = [line for line in lines if line["type"] == "final"]
    assert [line["source"] for line in finals] == [str(talks / "a.flac"), str(talks / "b.flac")]
    for line in finals:
        assert line["text"] == "ABC"
        assert [t["text"] for t in line["tokens"]] == ["A", "B", "C"]
        times = [t["time"] for t in line["tokens"]]
        np.testing.assert_allclose(times, [0, 0.24, 0.48], atol=0.06)
    for line in lines:
        assert "ABC".startswith(line["text"])
        assert line["type"] == "final" or line["text"].startswith(line["stable"])
    assert len(lines) > len(finals)


def test_subtitles(folder, capsys, tmp_path):
    code, out, _ = run(capsys, folder, folder.parent / "a.wav", "--output_format", "srt")
    assert out.startswith("1\n00:00:00,000 --> 00:00:00,")
    assert "\nAB C\n\n2\n00:00:02,9" in out and out.endswith("\nCB\n\n")
    talks = folder.parent / "talks"
    code, out, _ = run(
        capsys, folder, talks, "--output_format", "vtt", "--output_dir", tmp_path / "subtitles"
    )
    assert (code, out) == (0, "")
    for name in ("a", "b"):
        text = (tmp_path / f"subtitles/{name}.vtt").read_text()
        assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.") and "\nABC\n" in text


def test_long_lines_become_several_cues():
    words = [Word("x" * 20, i, i + 1) for i in range(9)]
    assert [len(cue) for cue in cues(words)] == [4, 4, 1]
    assert [len(cue) for cue in cues([Word("x", 3 * i, 3 * i + 1) for i in range(5)])] == [3, 2]
    assert clock(3723.0456, ",") == "01:02:03,046"


def test_bad_samples_are_told_and_do_no_harm(folder, capsys, tmp_path, caplog):
    from tests.device.tone_model import tones

    audio = np.stack([tones("AB C"), np.zeros(len(tones("AB C")), np.float32)], 1)
    audio[3000:3003, 0] = [np.nan, np.inf, -np.inf]
    audio[3010:3020, 1] = 3.0
    soundfile.write(tmp_path / "bad.wav", audio, 16000, subtype="FLOAT")
    code, out, err = run(capsys, folder, tmp_path / "bad.wav", "--channel", 1)
    assert (code, out) == (0, "AB C\n")
    assert "bad.wav: 3 samples that are NaN or infinite: taken for silence" in caplog.text
    assert "bad.wav: 10 samples beyond full scale: limited to it" in caplog.text
    loud = np.sign(tones("AB C"))
    soundfile.write(tmp_path / "loud.wav", loud, 16000)
    run(capsys, folder, tmp_path / "loud.wav")
    assert "% of the samples at full scale: the recording is clipped" in caplog.text


def test_resampling_in_pieces_keeps_length_and_channels():
    intake = Intake(44100, 16000, 0)
    blocks = [np.full((441, 2), 0.5, np.float32)] * 100
    mono = np.concatenate([intake.push(b) for b in blocks] + [intake.push(blocks[0][:0], True)])
    assert abs(len(mono) - 16000) <= 1
    np.testing.assert_allclose(mono[200:-200], 0.5, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "a.wav"], "nowhere/model.json: no such file; export the model again"),
        (["{model}", "nothing.wav"], "nothing.wav: no such file or folder"),
        (["{model}", "/dev/null"], "/dev/null: neither a file nor a folder; pipe raw samples"),
        (["{model}", "{model}"], "no sound files in it"),
        (["{model}", "{model}/tokens.txt"], "tokens.txt: not a sound file that libsndfile reads"),
        (["{model}", "{model}/../talks", "--output_format", "srt"], "2 files: subtitles of more"),
        (["{model}", "a.wav", "--beam_size", "6"], "beam size 6: expected at most the number of"),
        (["{model}", "-", "--output_dir", "x"], "--output_dir: for files alone"),
        (["{model}", "a.raw"], "a.raw: does not say its sampling rate and kind of samples; give"),
        (["{model}", "{model}/../a.wav", "--channel", "2"], "--channel 2: the source has 1 ch"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    sys_words = [word.format(model=folder) for word in words]
    for name in {"a.wav", "a.raw"} & set(words):
        (tmp_path / name).touch()
    code, out, err = run(capsys, *sys_words)
    assert code == 1 and message in err and len(err.splitlines()) == 1


def test_a_file_that_was_cut_off_or_has_no_length_is_told(folder, capsys, tmp_path, caplog):
    (tmp_path / "cut.wav").write_bytes((folder.parent / "a.wav").read_bytes()[:-20000])
    code, out, _ = run(capsys, folder, tmp_path / "cut.wav")
    assert (code, out) == (0, "AB C\n")
    assert "cut.wav: cut off (" in caplog.text and "; what is there was transcribed" in caplog.text
    content = bytearray((folder.parent / "talks/a.flac").read_bytes())
    content[21] &= 0xF0  # number of samples in STREAMINFO, 36 bits: 0 where a pipe was written
    content[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(content)
    code, out, err = run(capsys, folder, tmp_path / "piped.flac")
    assert (code, out) == (1, "") and "piped.flac: no length in its header; encode it" in err


def test_a_bad_file_does_not_keep_others_from_being_heard(folder, capsys, tmp_path, caplog):
    talks, texts = tmp_path / "talks", tmp_path / "texts"
    talks.mkdir()
    content = (folder.parent / "a.wav").read_bytes()
    for name, sound in ((b"a", b"junk"), (b"b\xff", content), (b"c", content)):
        with open(os.fsencode(talks) + b"/" + name + b".wav", "wb") as f:
            f.write(sound)
    code, _, err = run(capsys, folder, talks, "--output_dir", texts)
    assert code == 1 and "2 of 3 files were not transcribed, see above" in err
    assert "a.wav: not a sound file" in caplog.text and "its name is not UTF-8" in caplog.text
    assert [path.name for path in texts.iterdir()] == ["c.txt"]


def test_sound_of_another_rate_without_soxr(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    code, _, err = run(capsys, folder, folder.parent / "talks/a.flac")
    assert code == 1 and "sound of 44100 Hz for a model of 16000 Hz needs soxr; install" in err


def test_a_sound_file_is_no_raw_samples(folder, capsys, monkeypatch):
    with open(folder.parent / "a.wav", "rb") as f:
        monkeypatch.setattr(sys, "stdin", f)
        code, out, err = run(capsys, folder, "-")
    assert (code, out) == (1, "") and "stdin: a sound file, whose header would be taken" in err


def test_ctrl_c_breaks_off_no_work_on_live_sound():
    blocks = (np.full((10, 1), i / 10, np.float32) for i in range(9))
    heard = []
    for block in Source(blocks, Intake(16000, 16000), live=True):
        heard.append(len(block))
        if len(heard) == 2:
            os.kill(os.getpid(), signal.SIGINT)
    assert heard == [10, 10, 0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class FakeMicrophone:
    """Plays a letter and a pause to whoever listens, then Ctrl-C is pressed."""

    PortAudioError = OSError

    def __init__(self, *args, **kwargs):
        from tests.device.tone_model import tones

        self.audio = tones("AB.C", rate=48000)[:, None]

    def query_devices(self, kind):
        return {"default_samplerate": 48000.0}

    InputStream = property(lambda self: FakeMicrophone)
    __enter__ = __exit__ = lambda self, *args: None

    def read(self, count):
        if not len(self.audio):
            raise KeyboardInterrupt
        block, self.audio = self.audio[:count], self.audio[count:]
        return block, not len(self.audio)


def test_the_microphone_until_it_is_interrupted(folder, capsys, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "sounddevice", FakeMicrophone())
    monkeypatch.setattr(FakeMicrophone, "__enter__", lambda self: self)
    code, out, _ = run(capsys, folder, "--microphone", "--pause", "0.6")
    assert (code, out) == (0, "AB\nC\n")
    assert "microphone: sound was lost, 1 times" in caplog.text
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, _, err = run(capsys, folder, "--microphone")
    assert code == 1 and "--microphone needs sounddevice and PortAudio" in err


def test_a_terminal_shows_the_line_that_goes_on(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    _, out, _ = run(capsys, folder, folder.parent / "a.wav", "--beam_size", 2)
    assert "\x1b[KA" in out and "\x1b[KAB C\n" in out and out.endswith("\x1b[KCB\n\r\x1b[K")


def test_an_exported_folder_is_a_model_to_measure(folder):
    from espnet_kd.deploy.artifact import is_exported, of_exported
    from espnet_kd.deploy.runtime import runtime_class
    from tests.device.tone_model import tones

    assert is_exported(folder) and not is_exported(folder.parent)
    artifact = of_exported(folder)
    assert artifact.format == "float32"
    sizes = [p.stat().st_size for p in folder.glob("*.onnx")]
    assert artifact.size_mb == pytest.approx(sum(sizes) / 1e6)
    for options in ([], ["--streaming", "true", "--beam_size", "1"]):
        runtime = runtime_class(artifact.runtime).load(artifact, options)
        assert runtime.decode(tones("A B")) == ["A", "<space>", "B"]
        assert runtime.decode(np.zeros(900, np.float32)) is None


def test_options_that_contradict_each_other(folder, capsys):
    assert run(capsys, folder)[0] == 2
    assert run(capsys, folder, "a.wav", "--microphone")[0] == 2
    assert run(capsys, folder, "a.wav", "-")[0] == 2
