"""Streaming recognition with a model whose answer is known."""

import numpy as np
import pytest

from espnet_kd.device.recogniser import Listener, Pauses, Recogniser
from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open
from tests.device.test_description import a_description

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests.device.tone_model import write_tone_model

    return write_tone_model(tmp_path_factory.mktemp("tone"))


def played(text):
    from tests.device.tone_model import tones

    return tones(text)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("step", [37, 1600, 100000])
def test_text_does_not_depend_on_how_audio_comes(folder, beam, step):
    listener = Listener(Recogniser.load(folder, beam))
    audio, segments = played("  AB C CBA"), []
    for start in range(0, len(audio), step):
        segments += listener.push(audio[start : start + step])
    segments += listener.end()
    assert [s.text for s in segments] == ["AB C CBA"]
    starts = [w.start for w in segments[0].words]
    np.testing.assert_allclose(starts, [0.48, 1.2, 1.68], atol=0.06)
    assert segments[0].end == pytest.approx(2.4, abs=0.3)


def test_every_frame_is_heard(folder):
    recogniser = Recogniser.load(folder)
    frames = []
    encode = recogniser.networks.encode

    def counted(x, states):
        frames.append((x.shape[1], int(states["processed"][0])))
        return encode(x, states)

    recogniser.networks.encode = counted
    for samples in (16000, 16159, 1100, 900, 0):
        frames.clear()
        recogniser.decode(np.zeros(samples, np.float32))
        total = 1 + samples // 160 if samples else 0
        expected = max(0, ((total - 1) // 2 - 1) // 2)  # of two convolutions, as ESPnet has
        assert sum((t - 3) // 4 for t, _ in frames) == expected
        assert [p for _, p in frames] == [4 * i for i in range(len(frames))]


@pytest.mark.parametrize("beam", [1, 2])
def test_many_are_decoded_as_each_alone(folder, beam):
    recogniser = Recogniser.load(folder, beam)
    audio = [played(text) for text in ("AB C", "C", "ABC ABC CBA", " B")]
    audio.append(np.zeros(100, np.float32))
    many = recogniser.decode_many(audio)
    assert many == [recogniser.decode(samples) for samples in audio]
    words = [recogniser.spelling.text(text.labels) for text in many]
    assert words == ["AB C", "C", "ABC ABC CBA", "B", ""]


def test_pauses_end_segments_and_nothing_grows(folder):
    recogniser = Recogniser.load(folder)
    listener = Listener(recogniser, Pauses(0.8, 2.0, 20.0))
    audio = played("..." + "A BC.." * 10 + "......AB" + "..")
    segments, sizes = [], []
    for start in range(0, len(audio), 1600):
        segments += listener.push(audio[start : start + 1600])
        sizes.append((len(listener._waiting), listener._frames))
    assert [s.text for s in segments] == ["A BC"] * 10 + ["AB"]
    starts = [3 + 2.96 * i for i in range(10)] + [3 + 29.6 + 6]
    np.testing.assert_allclose([s.start for s in segments], starts, atol=0.06)
    assert max(waiting for waiting, _ in sizes) < 50
    assert max(frames for _, frames in sizes) < 100
    assert listener.end() == []


def test_a_segment_that_never_pauses_ends(folder):
    listener = Listener(Recogniser.load(folder), Pauses(1.0, 2.4, 3.0))
    segments = listener.push(played("AB" * 40)) + listener.end()  # 19 s
    assert len(segments) == 4
    heard = "".join(s.text for s in segments)  # a letter that is cut in two may be heard twice
    assert heard.replace("AA", "A").replace("BB", "B") == "AB" * 40


def test_a_short_pause_ends_a_long_segment(folder):
    listener = Listener(Recogniser.load(folder), Pauses(1.0, 2.4, 3.0))
    segments = listener.push(played("ABC" * 5 + "  " + "CBC")) + listener.end()
    assert [s.text for s in segments] == ["ABC" * 5, "CBC"]


def test_a_folder_that_is_damaged_is_refused_in_one_line(tmp_path):
    from tests.device.tone_model import write_tone_model

    folder = write_tone_model(tmp_path / "model")
    joiner = folder / "joiner.onnx"
    content = joiner.read_bytes()
    joiner.write_bytes(b"\0" * len(content))
    with pytest.raises(UserError, match="joiner.onnx: onnxruntime refuses it: .*export the model"):
        Recogniser.load(folder)
    joiner.write_bytes(content)
    tokens = folder / "tokens.txt"
    lines = tokens.read_text()
    tokens.write_text(lines.replace("C 3", "C 4"))
    with pytest.raises(UserError, match="tokens.txt: line 4: expected '<token> 3', found 'C 4'"):
        Recogniser.load(folder)
    description = a_description(
        states={"att": [1, 8, 4], "conv": [1, 4, 2], "h": [1, 4], "c": [1, 4]}
    )
    sizes = {p.name: p.stat().st_size for p in folder.glob("*.[ot]*")}
    from espnet_kd.device.description import write_description

    with atomic_open(tokens) as f:
        f.write(lines)
    write_description(folder, type(description)(**{**vars(description), "bytes": sizes}))
    with pytest.raises(UserError, match="predictor.onnx: expected the inputs y, h, c, found 'y'"):
        Recogniser.load(folder)
    states = {"att": [1, 9, 4], "conv": [1, 4, 2]}
    write_description(folder, a_description(predictor="stateless", states=states, bytes=sizes))
    with pytest.raises(UserError, match="model.json and the graphs do not fit together: "):
        Recogniser.load(folder)
