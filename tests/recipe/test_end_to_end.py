"""The real recipe from stage 1 to stage 17: what a user finds afterwards."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from mini_run import STAGES, TEACHER_EPOCHS

pytestmark = pytest.mark.slow
NAMES = ["teacher"] + [stage["name"] for stage in STAGES]
EPOCHS = [TEACHER_EPOCHS] + [stage["epochs"] for stage in STAGES]
INFERENCE = ("encoder.", "decoder.", "joint_network.")


@pytest.fixture
def run(first_run, monkeypatch):
    monkeypatch.chdir(first_run[0].dir)  # configs name files relative to the recipe
    return first_run[0]


@pytest.fixture
def results(run):
    return json.loads((run.dir / "exp/results.json").read_text())


def folders(run):
    return [run.dir / folder for folder in (run.teacher, *run.students)]


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def build(folder):
    """The model that a config describes, by ESPnet's own Task."""
    from espnet2.tasks.asr_transducer import ASRTransducerTask

    return ASRTransducerTask.build_model_from_file(folder / "config.yaml", None, "cpu")[0]


def test_what_the_run_says(first_run):
    printed = first_run[1]
    for stage in (1, 2, 3, 4, 5, 10, 11, 12, 13, 16, 17, 18, 19):
        assert f"Stage {stage}: " in printed and f"Stage {stage} took " in printed
    assert "Compression stage 2 of 2: third" in printed
    assert "already done" not in printed
    for number, name in enumerate(NAMES):
        assert f"| {number} | {name} | " in printed


def test_results_json(results):
    assert set(results) >= {"models", "environment", "note", "test_sets", "inference_tag"}
    assert "SYNTHETIC" in results["note"]
    assert {"espnet", "torch", "python", "command"} <= set(results["environment"])
    models = results["models"]
    assert [m["name"] for m in models] == NAMES and [m["stage"] for m in models] == [0, 1, 2]
    for model, epochs in zip(models, EPOCHS):
        for rate in ("wer", "cer"):
            assert set(model[rate]) == {"test_seen"}
            assert 0 <= model[rate]["test_seen"]
            assert model["errors"][rate]["test_seen"]["sentences"] == 6
        assert model["epochs"] == epochs
        assert 0 < model["rtf"]["median"] <= model["rtf"]["p95"]
        for key in ("train_seconds", "peak_memory_mb", "size_mb"):
            assert model[key] > 0, key
    assert models[0]["compression"] == 0 and models[0]["wer_diff"] is None
    assert models[-1]["compression"] > 0.6
    for model in models[1:]:
        assert model["compression"] == pytest.approx(
            1 - model["params"] / models[0]["params"], abs=1e-4
        )
        diff = model["wer_diff"]["test_seen"]
        assert diff["low"] <= diff["diff"] <= diff["high"]
        assert diff["diff"] == pytest.approx(
            model["wer"]["test_seen"] - models[0]["wer"]["test_seen"], abs=1e-3
        )


def test_parameters_are_those_of_the_checkpoint(run, results):
    for model, folder in zip(results["models"], folders(run)):
        built = build(folder)
        wanted = {n: p.numel() for n, p in built.named_parameters() if n.startswith(INFERENCE)}
        state = load(folder / run.model)
        assert {name: state[name].numel() for name in wanted} == wanted
        assert model["params"] == sum(wanted.values())
        assert model["size_mb"] == pytest.approx((folder / run.model).stat().st_size / 1e6, 1e-3)
        if folder != folders(run)[0]:
            student = json.loads((folder / "student.json").read_text())
            assert student["params"] == model["params"]
            assert student["compression"] == pytest.approx(model["compression"], abs=1e-4)


def test_the_report_says_the_same(run, results):
    text = (run.dir / "exp/RESULTS.md").read_text()
    assert "SYNTHETIC" in text and "## Environments" in text
    for model in results["models"]:
        row = next(x for x in text.splitlines() if x.startswith(f"| {model['stage']} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:3] == [model["name"], f"{model['params']:,}"]
        assert f"{model['wer']['test_seen']:.2f}" in cells
        assert f"{model['cer']['test_seen']:.2f}" in cells
    for name in ("wer_vs_params.png", "loss_curves.png", "dev_wer_curves.png"):
        png = (run.dir / "exp" / name).read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 5000
        assert name in text


def test_scores_lie_where_espnet_users_look(run):
    for folder in folders(run):
        for kind in ("wer", "cer"):
            path = folder / run.inference_tag / "test_seen" / f"score_{kind}/result.txt"
            assert re.search(r"^\| *Sum/Avg *\| *6 ", path.read_text(), re.M)
    said = [(f / run.inference_tag / "test_seen/text").read_text() for f in folders(run)]
    # Otherwise the tests that compare hypotheses would compare nothing.
    assert all(len([x for x in text.splitlines() if " " in x]) >= 4 for text in said), said


def test_history_and_facts(run):
    for folder, epochs in zip(folders(run), EPOCHS):
        history = json.loads((folder / "history.json").read_text())
        assert [h["epoch"] for h in history] == list(range(1, epochs + 1))
        distilled = folder != folders(run)[0]
        for h in history:
            for part in ("train", "valid"):
                assert h[part]["loss_transducer"] > 0 and h[part]["seconds"] > 0
                assert ("loss_kd" in h[part]) == distilled
        facts = json.loads((folder / "facts.json").read_text())
        assert facts["epochs"] == epochs and facts["device"] == "cpu" and facts["seed"] == 1
        assert facts["updates"] == sum(h["train"]["updates"] for h in history) == 12 * epochs
    losses = [h["valid"]["loss_transducer"] for h in history]
    assert losses[-1] < losses[0]


def test_nothing_of_the_teacher_is_in_a_student(run):
    teacher, *students = folders(run)
    for folder in students:
        own = {name: tuple(tensor.shape) for name, tensor in build(folder).state_dict().items()}
        for path in folder.glob("*.pth"):
            state = load(path) if path.name != "checkpoint.pth" else load_checkpoint(path)
            assert {n: tuple(t.shape) for n, t in state.items()} == own, path.name
        config = yaml.safe_load((folder / "config.yaml").read_text())
        # What distillation needs stands under its own key only.
        assert config["kd_conf"]["teacher_config"] == str(
            (teacher if folder == students[0] else students[0]).relative_to(run.dir)
            / "config.yaml"
        )
        assert not any("teacher" in str(v) for k, v in config.items() if k in MODEL_KEYS)


MODEL_KEYS = ("model_conf", "encoder_conf", "decoder_conf", "joint_network_conf")


def load_checkpoint(path):
    """The model's part of a trainer's checkpoint; the optimizer knows no more than that."""
    states = torch.load(path, map_location="cpu", weights_only=False)
    learnt = sum(len(group["params"]) for group in states["optimizers"][0]["param_groups"])
    built = build(path.parent)
    assert learnt == len(list(built.parameters()))
    return states["model"]


def test_a_second_run_skips_everything_and_says_so(run):
    before = run.state()
    printed = run.ok()
    after = run.state()
    changed = {name for name in before if before[name] != after.get(name)}
    # The report is made anew: it costs nothing, and its models may have been scored since.
    plots = {f"wer_vs_{what}.png" for what in ("params", "bytes", "rtf")}
    plots |= {"loss_curves.png", "dev_wer_curves.png"}
    report = {"RESULTS.md", "results.json", ".done.report", *plots}
    assert changed <= {f"exp/{name}" for name in report}
    assert set(before) == set(after)
    for what in [
        "Stage 1: already done, skipped (data)",
        "Stage 3: already done, skipped (dump/raw/test_seen)",
        "Stage 4: already done, skipped (dump/raw/train)",
        "Stage 5: already done, skipped (data/en_token_list/char)",
        "Stage 10: already done, skipped (exp/asr_stats_raw_en_char)",
        f"Stage 11: already done, skipped ({run.teacher})",
        f"Stage 12: already done, skipped ({run.teacher}/{run.inference_tag}/test_seen)",
        f"Stage 13: already done, skipped ({run.teacher}/{run.inference_tag}/test_seen)",
    ]:
        assert what in printed, what
    for student in run.students:
        assert printed.count(f"Stage 16: already done, skipped ({student})") == 2
        assert printed.count(f"skipped ({student}/{run.inference_tag}/test_seen)") == 2
        assert printed.count(f"skipped ({student}/{run.stock_tag}/test_seen)") == 2
    assert "Training exp/" not in printed and ") Decoding " not in printed


def test_one_compression_stage_is_done_again_killed_and_ends_the_same(run, results):
    """Last here: it trains the last student anew, with the same outcome for a seed."""
    last = run.students[-1]
    kept_history, model = run.dir / last / "history.json", load(run.dir / last / run.model)
    history = kept_history.read_text()
    before = run.state()

    def in_the_middle():
        if not kept_history.exists():
            return False
        new = kept_history.stat().st_mtime_ns > before[f"{last}/history.json"]
        return new and 3 <= len(json.loads(kept_history.read_text())) < EPOCHS[-1]

    stages = {"stage": 16, "stop_stage": 17, "compression_stage": 2}
    printed = run.killed(in_the_middle, **stages, force="true")
    assert f"Training {last}" in printed and "took" not in printed
    assert not (run.dir / last / ".done.train").exists()
    printed = run.ok(**stages)
    assert "Compression stage 2 of 2" in printed and "Compression stage 1" not in printed
    after = run.state()
    changed = {name for name in before if before[name] != after.get(name)}
    kept = {name for name in before if not name.startswith(str(last)) and name.count("/") > 1}
    assert not kept & changed
    for name in ("init.pth", "config.yaml", "checkpoint.pth", "history.json", "10epoch.pth"):
        assert f"{last}/{name}" in changed, name
    # The same model bit by bit: what was decoded with it still holds.
    assert f"{last}/{run.inference_tag}/test_seen/text" not in changed
    again = json.loads((run.dir / "exp/results.json").read_text())
    assert [m["name"] for m in again["models"]] == NAMES
    for row in results["models"] + again["models"]:
        del row["rtf"], row["decode_memory_mb"]
    assert again["models"][:2] == results["models"][:2]
    assert again["models"][2]["wer"] == results["models"][2]["wer"]
    assert figures(history) == figures(kept_history.read_text())
    new = load(run.dir / last / run.model)
    assert all(torch.equal(model[name], new[name]) for name in model)
    assert Path(run.dir / last / "train.1.log").is_file()


def figures(history):
    """A history without what a clock measured."""
    return [
        {p: {k: v for k, v in h[p].items() if "second" not in k} for p in ("train", "valid")}
        for h in json.loads(history)
    ]
