"""The speed of decoding: what is measured, in what order, and that it decodes as decoding does."""

import json

import numpy as np
import pytest
import soundfile

from espnet_kd.bin import measure_speed
from espnet_kd.deploy import speed
from espnet_kd.deploy.artifact import Artifact, of_experiment
from espnet_kd.deploy.runtime import RUNTIMES, Runtime, runtime_class
from espnet_kd.errors import UserError
from espnet_kd.espnet import timed_inference
from tests.espnet.tiny import tiny_config, write_experiment


def write_set(folder, number, seconds=0.5, name="u"):
    folder.mkdir(parents=True)
    random = np.random.default_rng(len(name))
    lines = []
    for k in range(number):
        file = folder / f"{name}{k:03d}.wav"
        soundfile.write(file, 0.1 * random.standard_normal(int(16000 * seconds) + 160 * k), 16000)
        lines.append(f"{name}{k:03d} {file}\n")
    (folder / "wav.scp").write_text("".join(reversed(lines)))
    return folder


def test_the_sample_is_small_spread_out_and_always_the_same(tmp_path):
    a, b = write_set(tmp_path / "a", 90, 0.02), write_set(tmp_path / "b", 30, 0.02, "v")
    chosen = [file.stem for file in speed.choose([a, b])]
    assert len(chosen) == speed.UTTERANCES and chosen == sorted(chosen)
    assert 5 <= sum(name.startswith("v") for name in chosen) <= 15  # a quarter, as of the sets
    assert [file.stem for file in speed.choose([a, b])] == chosen
    long = write_set(tmp_path / "long", 30, 8.0)
    assert 13 <= len(speed.choose([long])) <= 15  # two minutes
    longer = write_set(tmp_path / "longer", 12, 13.0)
    assert len(speed.choose([longer])) == speed.LEAST
    assert len(speed.choose([write_set(tmp_path / "one", 1)])) == 1
    (tmp_path / "one/wav.scp").write_text(f"x {tmp_path}/gone.wav\n")
    with pytest.raises(UserError, match=r"gone.wav: cannot be read .*; format the audio again"):
        speed.choose([tmp_path / "one"])


def test_all_models_share_every_moment(tmp_path, monkeypatch):
    """A machine that becomes ten times slower in the middle slows all models alike."""
    calls, now = [], [0.0]

    class Model(Runtime):
        streaming = False

        @classmethod
        def load(cls, artifact, options):
            model = cls()
            model.cost = float(artifact.format)
            return model

        def decode(self, speech):
            calls.append(self.cost)
            now[0] += self.cost * (10 if len(calls) > 33 else 1)
            return []

    monkeypatch.setattr(speed, "runtime_class", {"fake": Model}.get)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    files = [write_set(tmp_path / "d", 1, 1.0) / "u000.wav"] * 19
    models = {str(cost): Artifact("fake", str(cost), {}, ()) for cost in (0.4, 0.2, 0.1)}
    result = speed.measure(models, files, [])
    figures = result["models"]
    for key in "median", "p95":
        assert figures["0.4"][key] == pytest.approx(2 * figures["0.2"][key])
        assert figures["0.4"][key] == pytest.approx(4 * figures["0.1"][key])
    assert figures["0.4"]["p95"] == pytest.approx(10 * figures["0.4"]["median"])
    assert calls[3:12] == [0.2, 0.1, 0.4, 0.1, 0.4, 0.2, 0.4, 0.2, 0.1]  # after the warm-up
    assert (result["utterances"], result["audio_seconds"], result["threads"]) == (19, 19.0, 1)
    assert len(result["load"]) == 2 and result["cores"] >= 1


@pytest.mark.parametrize("streaming", ["", "--streaming true --decoding_window 320"])
def test_it_decodes_what_decoding_decodes(tmp_path, streaming):
    data = write_set(tmp_path / "d", 3)
    config = tiny_config(non_linguistic_symbols=None, cleaner=None, g2p=None)
    exps = [write_experiment(tmp_path / f"m{seed}", config, seed) for seed in (1, 2)]
    (tmp_path / "decode.yaml").write_text("beam_size: 2\n")
    words = ["--config", str(tmp_path / "decode.yaml"), *streaming.split()]
    out = tmp_path / "out/x/y"
    timed_inference.main(
        [*words, "--asr_train_config", str(exps[0] / "config.yaml"),
         "--asr_model_file", str(exps[0] / "model.pth"), "--output_dir", str(out),
         "--data_path_and_name_and_type", f"{data}/wav.scp,speech,sound"]
    )  # fmt: skip
    model = runtime_class("espnet").load(of_experiment(exps[0], exps[0] / "model.pth"), words)
    assert model.streaming == bool(streaming)
    for line in (out / "1best_recog/token").read_text().splitlines():
        utt, _, tokens = line.partition(" ")
        speech, _ = soundfile.read(data / f"{utt}.wav", dtype="float32")
        assert " ".join(model.decode(speech)) == tokens
    if streaming == "":
        assert model.decode(speech[:500]) is None

    with pytest.raises(SystemExit) as exit_:
        measure_speed.main(
            [*(f"--model={exp.name}={exp}" for exp in exps), "--inference_model=model.pth",
             f"--data={data}", f"--inference_config={tmp_path / 'decode.yaml'}",
             f"--inference_args={streaming}", f"--out={tmp_path / 'speed.json'}"]
        )  # fmt: skip
    assert exit_.value.code == 0
    result = json.loads((tmp_path / "speed.json").read_text())
    assert list(result["models"]) == ["m1", "m2"] and result["streaming"] == bool(streaming)
    for figures in result["models"].values():
        assert 0 < figures["median"] <= figures["p95"]
        assert 50 < figures["peak_memory_mb"] < 4000  # ESPnet's imports included


def test_an_artifact_is_its_files(tmp_path):
    exp = write_experiment(tmp_path / "m")
    artifact = of_experiment(exp, exp / "model.pth")
    sizes = {name: (exp / name).stat().st_size for name in ("config.yaml", "model.pth")}
    assert artifact.bytes == {"config": sizes["config.yaml"], "checkpoint": sizes["model.pth"]}
    assert artifact.size_mb == sizes["model.pth"] / 1e6  # what is carried beside it is not counted
    assert artifact.runtime in RUNTIMES
    with pytest.raises(UserError, match=r"gone.pth: no such checkpoint; train"):
        of_experiment(exp, exp / "gone.pth")
    with pytest.raises(UserError, match=r"runtime: 'espent' is not one of espnet"):
        runtime_class("espent")


def test_mistakes(tmp_path, capsys):
    exp = write_experiment(tmp_path / "m")
    with pytest.raises(SystemExit) as exit_:
        measure_speed.main([f"--model=m={exp}", "--data", "d", "--out", "speed.json"])
    assert exit_.value.code == 1
    err = capsys.readouterr().err
    assert f"{exp}/valid.loss_transducer.ave.pth: no such checkpoint; train" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words, told",
    [
        ("--beam_size 1000", "--beam_size 1000: at most 7, the number of tokens, is possible"),
        ("--beam_size x", "options of decoding: argument --beam_size: invalid int value: 'x'"),
        ("--foo 3", "options of decoding: unrecognized arguments: --foo 3"),
        ("--note 'x", "--inference_args --note 'x: No closing quotation"),
        ("--decoding stock --streaming true --decoding_window 40", "ESPnet's own streaming fails"),
    ],
)
def test_mistakes_in_the_options_of_decoding(tmp_path, capsys, words, told):
    """The process in which memory is measured says them as this one would."""
    config = tiny_config(non_linguistic_symbols=None, cleaner=None, g2p=None)
    exp = write_experiment(tmp_path / "m", config)
    data = write_set(tmp_path / "d", 1)
    with pytest.raises(SystemExit) as exit_:
        measure_speed.main(
            [f"--model=m={exp}", "--inference_model=model.pth", f"--data={data}",
             f"--inference_args={words}", f"--out={tmp_path / 'speed.json'}"]
        )  # fmt: skip
    assert exit_.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert told in last, last


def test_mistakes_of_an_exported_model_s_options(tmp_path):
    (tmp_path / "decode.yaml").write_text("beam_size: x\n")
    with pytest.raises(UserError, match=r"decode.yaml: beam_size: 'x' is not a whole number"):
        runtime_class("onnx").load(
            Artifact("onnx", "", {}, ()), [f"--config={tmp_path}/decode.yaml"]
        )
