"""When tokens are emitted, when they can be shown, and how late that is."""

import itertools
import json

import numpy as np
import pytest
import soundfile
import torch

from espnet_kd.bin import measure_delay
from espnet_kd.common.records import DELAY
from espnet_kd.deploy import delay
from espnet_kd.deploy.artifact import Artifact, of_experiment
from espnet_kd.deploy.latency import Delays, Emission, Spoken, Timing
from espnet_kd.deploy.runtime import other_search, runtime_class
from espnet_kd.errors import UserError
from espnet_kd.espnet.alignment import emission_frames
from tests.deploy.test_speed import write_set
from tests.espnet.tiny import build, tiny_config, write_experiment

TIMING = Timing(1000, 10, 15, 4, 3, 2)  # frames of 40 ms, chunks of two


def test_a_frame_waits_for_its_chunk_and_what_is_looked_ahead_or_the_end():
    assert TIMING.latency == 0.115  # the middle of the 11th feature frame, and 15 ms
    assert [TIMING.ready(frame, 10**6) for frame in range(5)] == [
        0.115,
        0.115,
        0.195,
        0.195,
        0.275,
    ]
    assert TIMING.ready(2, 150) == 0.15
    assert (TIMING.frame_seconds, TIMING.chunk_seconds) == (0.04, 0.08)


def test_delays_are_of_tokens_that_are_right():
    delays = Delays(TIMING)
    spoken = Spoken(list("abcd"), [0.0, 0.04, 0.08, 0.12])
    delays.add(spoken, Emission("", list("axcde"), [0, 1, 2, 2, 3]), 170)
    np.testing.assert_allclose(delays.token, [0.115, 0.17 - 0.08, 0.17 - 0.12])
    np.testing.assert_allclose(delays.frames, [0.0, 0.0, -0.04])
    assert (delays.first, delays.last) == ([0.115], [delays.token[2]])
    delays.add(Spoken(["b"], [0.0]), Emission("", [], []), 170)
    delays.add(Spoken(["b", "a"], [0.0, 0.0]), Emission("", ["a"], [0]), 170)
    assert len(delays.token) == 4 and len(delays.first) == 1 and len(delays.last) == 2
    assert delays.summary()["first"] == {"median": 115.0, "p90": 115.0}
    assert Delays(TIMING).summary()["token"] is None


@torch.no_grad()
def test_a_transcript_is_aligned_along_the_likeliest_path():
    """Against all ways to spread the labels over the frames."""
    model = build(tiny_config(), seed=3).eval()
    model.joint_network.lin_out.weight.mul_(6)
    encoded = [torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (6, 3)]
    labels = [[3, 4, 3], [5]]
    for x, text, frames in zip(encoded, labels, emission_frames(model, encoded, labels)):
        dec = model.decoder(torch.tensor([[0, *text]]))[0]  # (U + 1, D)
        logp = model.joint_network(x[:, None], dec[None]).log_softmax(-1)  # (T, U + 1, V)
        scores = {}
        for path in itertools.combinations_with_replacement(range(len(x)), len(text)):
            blanks = [sum(frame <= t for frame in path) for t in range(len(x))]  # labels by then
            score = sum(float(logp[t, u, 0]) for t, u in enumerate(blanks))
            score += sum(float(logp[t, u, text[u]]) for u, t in enumerate(path))
            scores[path] = score
        assert tuple(frames) == max(scores, key=scores.get)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two experiments, and a set with transcripts."""
    folder = tmp_path_factory.mktemp("delay")
    for seed in (1, 2):
        write_experiment(folder / f"m{seed}", seed=seed)
    data = write_set(folder / "d", 5, 0.9)
    (data / "text").write_text("".join(f"u{k:03d} AB C{'A' * k}\n" for k in range(5)))
    (data / "utt2spk").write_text("".join(f"u{k:03d} s\n" for k in range(5)))
    return folder


def measured(folder, *words, models=("m1", "m2")):
    with pytest.raises(SystemExit) as exit_:
        measure_delay.main(
            [*(f"--model={name}={folder / name}" for name in models), f"--data={folder / 'd'}",
             "--inference_model=model.pth", f"--out={folder / 'delay.json'}", *words]
        )  # fmt: skip
    return exit_.value.code


def test_all_models_of_a_report_are_compared_with_the_first(run, capsys):
    words = "--inference_args=--streaming true --decoding_window 160"
    assert measured(run, words) == 0
    figures = DELAY.read(run)
    assert figures["utterances"] == 5 and figures["alignment"] == "m1"
    assert figures["words"] == [2] * 5
    for model in figures["models"].values():
        assert len(model["errors"]) == 5 and sum(model["errors"]) > 0
        assert model["latency_ms"] == pytest.approx(160 + 40, abs=0.1)
        assert model["tokens"] == 0 or model["token"]["median"] <= model["token"]["p90"]
    assert measured(run) == 0  # whole utterances have no delay, but errors
    assert "token" not in DELAY.read(run)["models"]["m2"]
    assert measured(run, "--inference_args=--quantize_asr_model true") == 1
    assert "of --decoding aligned alone" in capsys.readouterr().err.splitlines()[-1]
    data = json.loads((run / "delay.json").read_text())
    data["words"].pop()
    (run / "delay.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"delay.json: words: expected 5, found 4"):
        DELAY.read(run)


def test_sounds_of_another_rate_are_refused(tmp_path):
    file = write_set(tmp_path / "d", 1, 0.5) / "wav.scp"
    path = file.read_text().split()[1]
    soundfile.write(path, np.sin(np.arange(4000)) / 2, 8000)
    with pytest.raises(UserError, match=r"8000 Hz, but models hear 16000 Hz; name sets as"):
        delay._read(path, {16000})
    assert len(delay._read(path, {8000})) == len(delay._read(path, set())) == 4000


def test_frames_come_when_it_is_said_they_do(run):
    words = ["--streaming", "true", "--decoding_window", "160"]
    exp = run / "m1"
    model = runtime_class("espnet").load(of_experiment(exp, exp / "model.pth"), words)
    stream, timing = model.speech2text.stream, model.timing
    heard, come = 0, []  # samples at which each frame is there
    for piece in torch.zeros(12000).split(40):
        heard += len(piece)
        come += [heard] * len(stream.accept(piece, heard == 12000))
    for frame, samples in enumerate(come):
        assert 0 <= samples - 16000 * timing.ready(frame, 12000) < 40, frame


def test_utterances_are_spread_over_the_sets(run):
    few = delay.choose([run / "d", run / "d"], 1.9)
    assert len(few) == 2 and few[0].seconds <= few[1].seconds and few[0].text.startswith("AB C")
    assert len(delay.choose([run / "d"])) == 5
    assert len(delay.choose([run / "d"], 0.1)) == 1
    for most in (0.5, 1.0, 1.5, 2.0):  # once the mean length was counted on
        chosen = delay.choose([run / "d"] * 3, most)
        assert len(chosen) == 1 or sum(u.seconds for u in chosen) <= most


def test_exported_models_know_one_search(tmp_path):
    config = tmp_path / "decode.yaml"
    config.write_text("beam_size: 2\nbeam_search_config: {search_type: alsd}\n")
    assert other_search(["--beam_size", "3"]) is None
    with pytest.raises(UserError, match=r"default search, .* found search_type 'alsd' \(.*yaml"):
        files = {"encoder.onnx": tmp_path / "encoder.onnx"}
        runtime_class("onnx").load(Artifact("onnx", "", files, ()), ["--config", str(config)])
    config.write_text("beam_search_config: {search_type: default}\nlm_file: a.pth\n")
    assert other_search(["--config", str(config)]) == "lm_file 'a.pth'"
