"""A packed model is complete: ESPnet alone loads it anywhere, and gives the same model."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from packable import MODEL, NOTE

from espnet_kd.deploy.artifact import of_experiment
from espnet_kd.deploy.bundle import Bundle
from espnet_kd.deploy.card import About, model_card

ARCHIVE = "exp/kd_s/packed/kd_s.zip"
HOME = "exp/kd_s"


@pytest.fixture
def here(packed, monkeypatch):
    monkeypatch.chdir(packed)
    return packed


def strings(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [s for item in value for s in strings(item)]
    return [value] if isinstance(value, str) else []


def test_what_is_in_the_archive(here):
    with zipfile.ZipFile(ARCHIVE) as z:
        assert set(z.namelist()) == {
            "meta.yaml", "README.md", f"{HOME}/config.yaml", f"{HOME}/{MODEL}",
            f"{HOME}/feats_stats.npz", f"{HOME}/decode.yaml",
        }  # fmt: skip
        meta = yaml.safe_load(z.read("meta.yaml"))
        config = yaml.safe_load(z.read(f"{HOME}/config.yaml"))
        assert z.read(f"{HOME}/{MODEL}") == (here / HOME / MODEL).read_bytes()
    assert meta["yaml_files"] == {"asr_train_config": f"{HOME}/config.yaml"}
    assert meta["files"] == {"asr_model_file": f"{HOME}/{MODEL}"}
    assert config["normalize_conf"]["stats_file"] == f"{HOME}/feats_stats.npz"
    # Nothing of the training's machine, of the teacher or of this package.
    assert not [s for s in strings(config) if str(here) in s or "asr_t" in s]
    assert "kd_conf" not in config
    assert "kd_conf" in yaml.safe_load((here / HOME / "config.yaml").read_text())
    assert sorted(p.name for p in (here / HOME / "packed").iterdir()) == ["README.md", "kd_s.zip"]


@pytest.mark.parametrize("more", ["", "--streaming true --decoding_window 320"])
def test_espnet_alone_decodes_elsewhere_with_the_python_of_the_card(here, run, tmp_path, more):
    words = f"{more} --left_context 4"
    code, _, err = pack(
        run, "--model", "s", "--inference_config", "decode.yaml", "--inference_args", words,
        "--out", str(tmp_path / "kd_s.zip"),
    )  # fmt: skip
    assert code == 0, err
    away = tmp_path / "espnet_kd"
    away.mkdir()
    (away / "__init__.py").write_text("raise ImportError('kept away')\n")
    speech = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(1))
    soundfile.write(tmp_path / "speech.wav", speech.numpy(), 16000)
    card = (tmp_path / "README.md").read_text()
    (code,) = re.findall("```python\n(.*?)```", card, re.S)
    code += "print(float(hypotheses[0].score))\n"
    code += "import torch\ntorch.save(speech2text.asr_model.state_dict(), 'loaded.pth')\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "kd_s" / HOME / "config.yaml").read_text())
    assert config["normalize_conf"]["stats_file"] == f"kd_s/{HOME}/feats_stats.npz"
    weights = torch.load(here / HOME / MODEL, weights_only=True)
    loaded = torch.load(tmp_path / "loaded.pth", weights_only=True)
    assert set(weights) == set(loaded)
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)

    from espnet_kd.espnet.espnet_runtime import EspnetRuntime
    from espnet_kd.espnet.timed_inference import decode

    artifact = of_experiment(Path(HOME), Path(HOME) / MODEL)
    options = ["--config", "decode.yaml", "--decoding", "stock", *words.split()]
    own = EspnetRuntime.load(artifact, options).speech2text
    assert own.beam_search.beam_size == 2 and own.streaming == bool(more)
    speech, _ = soundfile.read(tmp_path / "speech.wav", dtype="float32")
    hyps = decode(own, speech)
    text, score = done.stdout.split("\n")[-3:-1]
    assert text == own.hypotheses_to_results(hyps)[0][0]
    assert float(score) == pytest.approx(float(hyps[0].score), rel=1e-5)


def test_the_model_zoo_loads_it_by_its_name(here, tmp_path, monkeypatch):
    zoo = pytest.importorskip("espnet_model_zoo.downloader", reason="comes with espnet 202611")
    from espnet2.bin.asr_transducer_inference import Speech2Text

    real = zoo.ModelDownloader
    monkeypatch.setattr(zoo, "ModelDownloader", lambda: real(cachedir=tmp_path / "zoo"))
    archive = str(here / ARCHIVE)
    monkeypatch.chdir(tmp_path)  # nothing is found by a path of where it was packed
    model = Speech2Text.from_pretrained(archive).asr_model
    weights = torch.load(here / HOME / MODEL, weights_only=True)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    (config,) = (tmp_path / "zoo").glob(f"*/{HOME}/config.yaml")
    stats = yaml.safe_load(config.read_text())["normalize_conf"]["stats_file"]
    assert stats == str(config.with_name("feats_stats.npz"))


def test_card(here):
    card = (here / HOME / "packed/README.md").read_text()
    with zipfile.ZipFile(ARCHIVE) as z:
        assert z.read("README.md").decode() == card
    _, head, body = card.split("---\n", 2)
    head = yaml.safe_load(head)
    assert {"espnet", "automatic-speech-recognition"} < set(head["tags"])
    assert head["language"] == "en" and head["license"] == "unknown"
    assert "datasets" not in head and "base_model" not in head
    (index,) = head["model-index"]
    assert index["name"] == "kd_s"
    assert [(x["dataset"]["name"], x["metrics"][0]["value"]) for x in index["results"]] == [
        ("seen", 7.01), ("new", 9.87)
    ]  # fmt: skip
    for text in [
        f"> **{NOTE}**",
        "51.4 % smaller than the first teacher",
        "| Parameters (encoder, decoder, joint network) | 2,100 |",
        "| Teacher | teacher (4,321 parameters) |",
        "| Checkpoint | 0.46 MB |",
        "| teacher | 4,321 | – | 5.67 | – | 9.87 | – |",
        "| **s** | **2,100** | **51.4 %** | **7.01** | **+1.34 (+0.50 to +2.25) †** | **9.87** "
        "| **−0.50 (−1.25 to +0.25)** |",
        "--config exp/kd_s/decode.yaml",
        "--decoding_window 640",
        "Distillation: objective full, weight 0.5.",
        "- 7 epochs, 1,234 updates, 2.5 min on cpu",
        "espnet 202511",
        "Commit: `abc123`",
    ]:
        assert text in body, text
    assert "teacher_config" not in body and "torchaudio" not in body
    assert "/machine" not in body  # the command names folders of whoever ran it
    teacher = (here / "exp/asr_t/packed/README.md").read_text()
    assert "the first teacher of a family" in teacher and "2.5 min on cpu.\n" in teacher
    for text in ("Distillation", "knowledge-distillation", "| Teacher |", "its teachers"):
        assert text not in teacher


def card_of(here, name="s", config=None, **more):
    results = json.loads((here / "exp/results.json").read_text())
    entry = next(m for m in results["models"] if m["name"] == name)
    bundle = Bundle(here, Path(HOME), Path("c.yaml"), Path("m.pth"), None, [])
    text = model_card(About(results, entry, config or {}, {}, **more), bundle)
    return text, yaml.safe_load(text.split("---\n")[1])


def test_the_hub_learns_licence_data_teacher_and_scores(here):
    options = {"license": "mit", "datasets": ["a/b"], "repo": "me/digits", "language": "en"}
    text, head = card_of(here, **options)
    assert head["license"] == "mit" and head["datasets"] == ["a/b"]
    assert head["base_model"] == "me/digits_teacher"
    (index,) = head["model-index"]
    assert index["results"][0]["dataset"] == {"type": "a/b", "name": "seen"}
    assert [m["type"] for m in index["results"][0]["metrics"]] == ["wer", "cer"]
    assert "base_model" not in card_of(here, "teacher", **options)[1]
    assert "@inproceedings{rathod22" in text and "https://github.com/espnet/espnet" in text
    hub = pytest.importorskip("huggingface_hub", reason="not a dependency of ours")
    data = hub.ModelCard(text).data
    assert data.license == "mit" and data.base_model == "me/digits_teacher"
    assert [(r.dataset_name, r.metric_type) for r in data.eval_results][:2] == [
        ("seen", "wer"), ("seen", "cer")
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["first_teacher_config", "teacher_cache", "yet_unknown"])
def test_no_option_that_names_files_is_published(here, key):
    conf = {"objective": "full", "weight": 0.5, "first_weight": 0.25, key: "/somewhere/me/exp/x"}
    text, _ = card_of(here, config={"kd_conf": conf})
    assert "Distillation: objective full, weight 0.5, first_weight 0.25." in text
    assert "/somewhere/me" not in text and key not in text


def test_no_option_of_decoding_that_names_files_is_published(here):
    words = (
        "--beam_size 3 --lm_file /somewhere/me/lm.pth --streaming=true --bpemodel /somewhere/me/b"
    )
    text, _ = card_of(here, decoding=words)
    assert "/somewhere/me" not in text and "--beam_size 3" in text and "--streaming true" in text
    assert "options = {'beam_size': 3, 'streaming': True}" in text


def test_the_card_says_what_espnets_command_makes_of_it(here):
    results = json.loads((here / "exp/results.json").read_text())
    bundle = Bundle(here, Path(HOME), Path("c.yaml"), Path("m.pth"), None, [])

    def card():
        return model_card(About(results, results["models"][1], {}, {}), bundle)

    assert "aligned" not in card()
    results["decoding"] = "aligned"
    assert "They are of espnet_kd's aligned decoding" in card() and "was not measured" in card()
    results["models"][1]["wer_stock"] = {"seen": 8.125, "new": 10.5}
    assert "its last: with them this model's WER is 8.12 % on seen, 10.50 % on new." in card()
    # Whom the intervals speak of: reports before there were groups took utterances.
    assert "In them utterances of one speaker count as independent" in card()
    people = {"by": "speakers", "groups": 26, "speakers": 26}
    few = {"by": "recordings", "groups": 240, "speakers": 4}
    results["method"]["drawn"] = {"seen": people}
    assert "Drawn are 26 speakers of seen.\n" in card()
    results["method"]["drawn"] = {"seen": people, "new": few}
    assert "26 speakers of seen, 240 recordings of new. Where those are not speakers" in card()


def test_the_card_of_a_teacher_of_espnets_other_task(here):
    """Another command decodes it, which does not know all options of the first."""
    results = json.loads((here / "exp/results.json").read_text())
    results["decoding"] = "aligned"
    decoding = Path("decode.yaml")
    bundle = Bundle(here, Path(HOME), Path("c.yaml"), Path("m.pth"), decoding, [])
    config = {"encoder": "conformer", "encoder_conf": {"output_size": 16}, "ctc_conf": {}}
    about = About(results, results["models"][0], config, {}, decoding="--streaming true")
    card = model_card(about, bundle)
    assert "of ESPnet's task `asr`: the first teacher" in card
    assert "python -m espnet2.bin.asr_inference --ngpu 0" in card and "--beam_size 2" in card
    assert "from espnet2.bin.asr_inference import Speech2Text" in card
    assert "text, *_ = speech2text(speech)[0]" in card and "heard whole utterances" in card
    for words in "streaming", "asr_transducer", "aligned", "decode.yaml":
        assert words not in card


def decoding_of(card):
    return card.partition("## Decoding")[2].partition("## Training")[0]


def test_the_card_of_a_predictor_that_espnet_does_not_have(here):
    assert "espnet_kd" not in decoding_of(card_of(here)[0])
    card, _ = card_of(here, config={"decoder": "averaged"})
    assert "**ESPnet alone does not decode this model**: its predictor, `averaged`, is a" in card
    assert "python -m espnet_kd.bin.decode --decoding stock --ngpu 0" in card
    assert "```python\nimport espnet_kd.espnet.averaged_decoder\n" in card
    assert "hub, after `import espnet_kd.espnet.averaged_decoder`." in decoding_of(card)


def test_the_card_of_blocks_that_espnet_does_not_have(here):
    conf = {"cascade": {"causal_blocks": 2, "lookahead": 16}}
    card, _ = card_of(here, config={"encoder_conf": conf})
    assert "**ESPnet alone does not decode this model**: its last blocks go on from a" in card
    assert "python -m espnet_kd.bin.decode --ngpu 0" in card and "ESPnet and espnet_kd." in card
    assert "import TimedSpeech2Text as Speech2Text\n" in card and "from_pretrained" not in card
    assert "Decoding needs ESPnet only." in card_of(here)[0]


def test_an_imported_teacher_says_where_it_came_from(here):
    origin = {
        "imported_from": "/somewhere/me/espnet/egs2/x/asr1/exp/asr_theirs",
        "checkpoint": "best.pth",
        "checkpoint_sha256": "abc123",
    }
    for name in "teacher", "s":
        text, _ = card_of(here, name, origin=origin)
        assert "trained elsewhere, as `asr_theirs`, and its checkpoint `best.pth` was" in text
        assert "SHA-256 `abc123`" in text and "/somewhere/me" not in text
    assert "elsewhere" not in card_of(here)[0]


def test_card_of_a_student_that_learnt_from_no_teacher(here):
    results = json.loads((here / "exp/results.json").read_text())
    bundle = Bundle(here, Path(HOME), Path("c.yaml"), Path("m.pth"), None, [])
    config, entry = {"kd_conf": {"objective": "none"}}, results["models"][1]
    entry["teacher"] = None
    card = model_card(About(results, entry, config, {"init": "random"}, license="mit"), bundle)
    assert "Trained without a teacher." in card and "license: mit" in card
    for text in ("| Teacher |", "- knowledge-distillation", "--config", "language:", "inherited"):
        assert text not in card
    entry["teacher"] = "teacher"
    card = model_card(About(results, entry, config, {"init": "teacher"}), bundle)
    assert "Trained without a teacher." in card and "| Teacher |" not in card
    assert "First weights inherited from teacher (4,321 parameters)." in card


def test_card_of_a_student_trained_on_what_its_teacher_heard(here):
    results = json.loads((here / "exp/results.json").read_text())
    bundle = Bundle(here, Path(HOME), Path("c.yaml"), Path("m.pth"), None, [])
    config = {"kd_conf": {"objective": "none"}}
    student = {"init": "teacher", "labels": "teacher"}
    card = model_card(About(results, results["models"][1], config, student), bundle)
    assert "Trained on its teacher's transcripts of the training set." in card
    assert "| Teacher | teacher (4,321 parameters) |" in card
    assert "without the training of its teachers" in card
    assert "without a teacher" not in card and "- Distillation" not in card


def test_a_report_of_another_place_packs_the_models_beside_it(here, run, tmp_path, monkeypatch):
    results = json.loads((here / "exp/results.json").read_text())
    for model in results["models"]:
        model["relative_dir"] = Path(model["dir"]).name
    (here / "exp/results.json").write_text(json.dumps(results))
    # Another run, whose models have the same names.
    shutil.copytree(here / "exp", tmp_path / "other/exp")
    (tmp_path / "other/exp/kd_s/config.yaml").unlink()
    monkeypatch.chdir(tmp_path / "other")
    out = tmp_path / "x.zip"
    options = ("--results", str(here / "exp/results.json"), "--out", str(out))
    code, _, err = run("pack_model", "--model", "s", *options)
    assert code == 0 and out.is_file(), err


def pack(run, *words):
    return run("pack_model", "--results", "exp/results.json", *words)


def test_list(here, run, tmp_path):
    want = [f"teacher exp/asr_t {MODEL}", f"s exp/kd_s {MODEL}"]
    assert pack(run, "--list")[1].splitlines() == want
    results = json.loads((here / "exp/results.json").read_text())
    # Another model of the same training, in chunks that are not the run's.
    other = {**results["models"][1], "name": "s_lookahead", "dir": "exp/kd_s/lookahead"}
    results["models"].append(other)
    (tmp_path / "results.json").write_text(json.dumps(results))
    out = run("pack_model", "--results", str(tmp_path / "results.json"), "--list")[1]
    assert out.splitlines() == want


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model", "techer"], "no model 'techer' (did you mean 'teacher'?); known: teacher, s"),
        (
            ["--model", "s", "--inference_tag", "x"],
            "the decodings 'decode', not 'x'; run stage 17",
        ),
        (["--model", "s", "--out", "x.tar"], "--out x.tar: a .zip file is expected"),
        (["--model", "s", "--inference_config", "no.yaml"], "decoding config: no.yaml is not"),
    ],
)
def test_mistakes(here, run, words, message):
    if "--out" not in words:
        words = [*words, "--out", "elsewhere/x.zip"]
    code, _, err = pack(run, *words)
    assert code == 1 and message in err and err.count("\n") == 1
    assert not list(here.glob("elsewhere/*"))


def test_a_file_that_the_config_names_is_missing(here, run):
    stats = here / "exp/stats/train/feats_stats.npz"
    stats.rename(f"{stats}.away")
    try:
        code, _, err = pack(run, "--model", "s", "--out", "elsewhere/x.zip")
    finally:
        os.rename(f"{stats}.away", stats)
    assert code == 1
    assert "exp/kd_s/config.yaml: normalize_conf.stats_file: exp/stats/train/feats_st" in err


def test_a_full_disk_is_called_so(here, run, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "OSError: [Errno 28] No space left on device")
    monkeypatch.setattr("espnet_kd.deploy.packing.subprocess.run", lambda *_, **__: failed)
    code, _, err = pack(run, "--model", "s", "--out", "elsewhere/x.zip")
    assert code == 1 and "the disk is full" in err and err.count("\n") == 1
    assert "Error" not in err


def test_a_killed_run_leaves_nothing_in_the_way(here, run):
    before = (here / ARCHIVE).stat().st_size
    (here / HOME / "packed/.packing.x/content/exp").mkdir(parents=True)
    code, out, err = pack(run, "--model", "s", "--language", "en", "--inference_config",
                          "decode.yaml", "--inference_args", "--decoding_window 640")  # fmt: skip
    assert code == 0, err
    assert out.startswith(f"packed {ARCHIVE}: ")
    assert abs((here / ARCHIVE).stat().st_size - before) < 100  # a time in meta.yaml
    assert not list((here / HOME / "packed").glob(".packing*"))
