"""The front end in numpy against ESPnet's, in one piece and in many."""

import dataclasses

import numpy as np
import pytest

from espnet_kd.device.features import FeatureStream, FrontEnd
from tests.device.test_description import a_description

FRONT_ENDS = [
    {},
    {"htk": True, "fmin": 20.0, "fmax": 7600.0, "n_mels": 40},
    {"n_fft": 512, "win_length": 512, "hop_length": 128, "n_mels": 80},
    {"n_fft": 256, "win_length": 199, "hop_length": 80, "sampling_rate": 8000, "fmax": 4000.0},
]


def some_audio(samples, seed=0):
    rng = np.random.default_rng(seed)
    audio = rng.standard_normal(samples) * 0.1 * np.abs(np.sin(np.arange(samples) / 3000))
    audio[samples // 2 : samples // 2 + 3000] = 0  # digital silence: the floor
    return audio.astype(np.float32)  # (S,)


@pytest.mark.parametrize("changes", FRONT_ENDS)
def test_features_are_those_of_espnet(changes):
    torch = pytest.importorskip("torch")
    default = pytest.importorskip("espnet2.asr.frontend.default")
    d = a_description(**changes)
    options = {f: getattr(d, f) for f in ("n_fft", "win_length", "hop_length", "n_mels", "htk")}
    theirs = default.DefaultFrontend(
        fs=d.sampling_rate, fmin=int(d.fmin), fmax=int(d.fmax), **options
    )
    for samples in (20000, 16000, 401):
        audio = some_audio(samples)
        lengths = torch.tensor([samples])
        expected, _ = theirs(torch.from_numpy(audio)[None], lengths)  # (1, T, F)
        features = FrontEnd(d)(audio)
        assert features.shape == expected[0].shape
        np.testing.assert_allclose(features, expected[0].numpy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("changes", FRONT_ENDS)
@pytest.mark.parametrize("samples", [0, 1, 150, 640, 16000, 16001, 16159])
def test_features_do_not_depend_on_how_audio_comes(changes, samples):
    front_end = FrontEnd(a_description(**changes))
    audio, rng = some_audio(samples), np.random.default_rng(1)
    whole = front_end(audio)
    assert len(whole) == (1 + samples // front_end.description.hop_length if samples else 0)
    stream, pieces, taken = FeatureStream(front_end), [], 0
    while taken < samples:
        step = int(rng.integers(1, 900))
        pieces.append(stream.push(audio[taken : taken + step]))
        taken += step
    pieces.append(stream.end())
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_frame_is_there_as_soon_as_its_window_is():
    d = a_description()
    stream = FeatureStream(FrontEnd(d))
    assert len(stream.push(np.zeros(200))) == 0
    assert len(stream.push(np.zeros(1))) == 1
    assert len(stream.push(np.zeros(158))) == 0
    assert len(stream.push(np.zeros(1))) == 1
    assert stream._kept.size < d.win_length + d.hop_length + 200


def test_more_frames_than_fit_at_once():
    d = dataclasses.replace(a_description(), hop_length=8, win_length=16, n_fft=16)
    front_end = FrontEnd(d)
    audio = some_audio(8 * 2500)
    late = front_end(audio[8 * 1500 :])
    np.testing.assert_allclose(front_end(audio)[1510:2490], late[10:990], atol=1e-6)
