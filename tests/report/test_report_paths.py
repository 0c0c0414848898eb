"""A run of several paths: who learnt from whom, what it cost, which path is better."""

import json
import shutil
from pathlib import Path

import pytest
from fake_run import TAG, add_model, add_paths, write_json

from espnet_kd.bin.report import main
from espnet_kd.errors import UserError
from espnet_kd.report.breakdowns import length_bins
from espnet_kd.report.paths import by_path, lineage
from espnet_kd.report.words import interval, signed
from espnet_kd.scoring.bootstrap import Interval, paired_interval
from espnet_kd.scoring.counts import read_counts
from espnet_kd.scoring.matched_pairs import holm, matched_pairs


def run(names, *more):
    argv = ["--exp=exp", f"--inference_tag={TAG}", "--test_sets=seen new", "--draws=300"]
    with pytest.raises(SystemExit) as exit_:
        main([*argv, *(f"--model={name}=exp/asr_{name}" for name in names), *more])
    return exit_.value.code


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return (exp/, results.json, RESULTS.md) of a teacher and three paths."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCLITE", "none")
        patch.chdir(folder)
        assert run(add_paths(folder / "exp")) == 0
    exp = folder / "exp"
    return exp, json.loads((exp / "results.json").read_text()), (exp / "RESULTS.md").read_text()


def test_rows(report):
    models = {m["name"]: m for m in report[1]["models"]}
    found = {n: (m["path"], m["teacher"], m["stage"]) for n, m in models.items()}
    assert found == {
        "teacher": (None, None, 0),
        "stage1": ("progressive", "teacher", 1),
        "stage2": ("progressive", "stage1", 2),
        "one_shot_stage1": ("one_shot", "teacher", 1),
        "one_shot": ("one_shot", "teacher", 1),
        "scratch": ("scratch", None, 1),
    }
    # Of one's own and of the path: 10 updates an epoch, 90 + width seconds.
    cost = ("updates", "path_updates", "train_seconds", "path_seconds")
    assert [models["teacher"][key] for key in cost] == [40, None, 130, None]
    assert [models["stage2"][key] for key in cost] == [60, 100, 110, 230]
    assert [models["scratch"][key] for key in cost] == [100, 100, 110, 110]
    assert models["stage2"]["gate"]["verdict"] == "passed" and models["stage1"]["gate"] is None
    assert models["stage2"]["before_training"]["wer"] == 88.5
    assert models["one_shot"]["relative_dir"] == "asr_one_shot"


def test_a_model_that_no_plan_made_is_on_no_path(report, tmp_path, monkeypatch):
    shutil.copytree(report[0], tmp_path / "exp")
    monkeypatch.chdir(tmp_path)
    shutil.copytree("exp/asr_scratch", "exp/asr_mine")
    Path("exp/asr_mine/student.json").unlink()
    # The same names in another folder, as a second run has them.
    shutil.copytree("exp/asr_stage1", "elsewhere/asr_stage1")
    names = ("teacher", "stage1", "stage2", "one_shot", "mine")
    assert run(names, "--model=theirs=elsewhere/asr_stage1") == 0
    data = json.loads(Path("exp/results.json").read_text())
    found = {m["name"]: (m["path"], m["teacher"]) for m in data["models"]}
    assert found["mine"] == ("other", None) and found["stage2"] == ("progressive", "stage1")
    compared = [(c["model"], c["against"]) for c in data["comparisons"] if c["family"] == "paths"]
    assert ("mine", "one_shot") not in compared and ("stage2", "mine") in compared


def test_a_first_step_made_once_and_a_second_exit_are_told_of(report, tmp_path, monkeypatch):
    shutil.copytree(report[0], tmp_path / "exp")
    monkeypatch.chdir(tmp_path)
    assert "*Lookahead*" not in report[2]
    write_json(Path("exp/asr_scratch/student.json"), {"path": "lookahead"})
    conf = "encoder_conf: {cascade: {causal_blocks: 2, lookahead: 16}}\n"
    Path("exp/asr_scratch/config.yaml").write_text(conf)
    names = ("teacher", "stage1", "stage2", "one_shot", "scratch")
    assert run(names, "--also_on=stage1=one_shot", "--train_watts=250") == 0
    data = json.loads(Path("exp/results.json").read_text())
    (family,) = data["families"]
    assert family["shared"] == [["stage1", "stage1"]] and len(family["sizes"]) == 2
    assert data["models"][1]["also_on"] == ["one_shot"]
    assert [m["name"] for m in data["models"] if "not_stock" in m] == ["scratch"]
    both = family["cost"], family["cost_against"]
    assert [cost["updates"] for cost in both] == [100, 140]  # the first step is of both
    kwh = [250 * cost["seconds"] / 3.6e6 for cost in both]
    assert [cost["kwh"] for cost in both] == pytest.approx(kwh, rel=1e-3)
    text = Path("exp/RESULTS.md").read_text()
    (costs,) = (x for x in text.splitlines() if x.startswith("| All trainings of a family |"))
    assert costs.endswith("| kWh |")
    assert "| – | the same step |" in text and "*The same step*" in text
    assert "- *Made once*: stage1 is also that of one shot, which would have trained" in text
    assert "- *Lookahead*: the second student of a training with `cascade`" in text
    assert "- *scratch* is not a stock ESPnet model, and decodes with espnet_kd: its last" in text


def test_comparisons(report):
    exp, data, _ = report
    found = data["comparisons"]
    pairs = [(c["model"], c["against"]) for c in found if c["family"] == "paths"]
    expected = [("stage1", "one_shot_stage1"), ("stage2", "one_shot"), ("stage2", "scratch")]
    expected += [("one_shot", "scratch")]
    assert pairs == [pair for pair in expected for _ in ("seen", "new")]
    assert [c["model"] for c in found if c["family"] == "teacher"][::2] == [
        m["name"] for m in data["models"][1:]
    ]
    p_values = {"teacher": [], "paths": []}
    for c in found:
        own, other = (
            read_counts(exp / f"asr_{c[key]}" / TAG / c["test_set"] / "score_wer/counts.tsv")
            for key in ("model", "against")
        )
        errors, baseline = ([x.errors for x in y.values()] for y in (own, other))
        i = paired_interval(errors, baseline, [x.ref_words for x in own.values()], draws=300)
        test = matched_pairs(errors, baseline)
        values = (c["diff"], c["low"], c["high"], c["z"], c["p"])
        assert values == pytest.approx((i.diff, i.low, i.high, test.z, test.p), abs=1e-4)
        p_values[c["family"]].append(test.p)
    for family, p in p_values.items():
        corrected = [c["p_holm"] for c in found if c["family"] == family]
        assert corrected == pytest.approx(holm(p), abs=1e-4)
    verdicts = {(c["model"], c["against"], c["test_set"]): c["verdict"] for c in found}
    assert verdicts["one_shot", "scratch", "new"] == "significant"
    assert verdicts["stage1", "teacher", "seen"] == "not significant"


def test_breakdowns(report):
    exp, data, _ = report
    conditions = {b["test_set"]: b for b in data["breakdowns"] if b["by"] == "condition"}
    assert list(conditions) == ["seen", "new"]
    b = conditions["new"]
    assert b["labels"] == ["clean", "snr-5", "snr10"] and b["utterances"] == [40, 40, 40]
    for name in ("teacher", "scratch"):
        counts = list(read_counts(exp / f"asr_{name}/{TAG}/new/score_wer/counts.tsv").values())
        for label, first in (("snr10", 0), ("clean", 1), ("snr-5", 2)):
            part = counts[first::3]
            rate = 100 * sum(c.errors for c in part) / sum(c.ref_words for c in part)
            assert b["wer"][name][b["labels"].index(label)] == pytest.approx(rate, abs=1e-4)
    lengths = next(b for b in data["breakdowns"] if b["by"] == "length")
    total = data["models"][0]["errors"]["wer"]["seen"]["ref_words"]
    assert sum(lengths["words"]) == total and sum(lengths["utterances"]) == 120
    errors = sum(w * n / 100 for w, n in zip(lengths["wer"]["scratch"], lengths["words"]))
    assert 100 * errors / total == pytest.approx(data["models"][5]["wer"]["seen"], abs=1e-3)


def test_results_md(report):
    exp, _, text = report
    lines = text.splitlines()
    main_table = lines[lines.index(next(x for x in lines if x.startswith("| Stage"))) + 2 :]
    names = [line.split("|")[2].strip() for line in main_table[: main_table.index("")]]
    assert names == [
        "teacher",
        *("*progressive*", "stage1", "stage2"),
        *("*one shot*", "one_shot_stage1", "one_shot"),
        *("*scratch*", "scratch"),
    ]
    assert "The progressive student stage2 against one_shot, one shot at the same size" in lines[2]
    assert "The one shot student one_shot against scratch" in lines[2]
    assert "corrected for the 10 comparisons with the teacher and, separately, for the 8" in text
    assert next(x for x in lines if x.startswith("| stage2 | progressive")) == (
        "| stage2 | progressive | stage1 | 60 | 100 | 1.8 min | 3.8 min | 88.50 (3.00) "
        "| passed (3.25 against 3.00) |"
    )
    assert "| seen | clean | snr-5 | snr10 |" in lines
    for plot in ("wer_vs_params.png", "wer_vs_condition.png", "loss_curves.png"):
        assert f"]({plot})" in text
        assert (exp / plot).read_bytes().startswith(b"\x89PNG")


def test_families_are_the_same_in_words_and_numbers(report):
    _, data, text = report
    (family,) = data["families"]
    assert family["shared"] == [["stage1", "one_shot_stage1"]]
    size = ["stage2", "one_shot"]
    differences = family["differences"]
    assert [(d["test_set"], d["size"]) for d in differences] == [
        (test_set, of) for test_set in ("seen", "new") for of in (size, None)
    ]
    for d in differences:
        bounds = interval(Interval(d["diff"], d["low"], d["high"]), 2)
        assert f"| {signed(d['diff'], 2)} ({bounds}) | {d['verdict']} |" in text
    # The first paragraph has the mean, and which cost of all trainings was equal.
    first = next(line for line in text.splitlines() if line.startswith("The smallest student"))
    means = [d for d in differences if d["size"] is None]
    on = "; on ".join(
        f"{d['test_set']}, {signed(d['diff'], 2)} points "
        f"({interval(Interval(d['diff'], d['low'], d['high']), 2)}): {d['verdict']}"
        for d in means
    )
    family_of = (
        "The family of 2 sizes, progressive against one shot: in the mean over the one that"
    )
    assert f"{family_of} differs, on {on}. Of all 2 sizes together, between progressive" in first
    cost, other = family["cost"]["updates"], family["cost_against"]["updates"]
    assert f"updates ({cost} against {other})" in first.partition("together, ")[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLITE", "none")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "exp"


def test_one_label_makes_no_plot_and_unlabelled_models_are_let_in(place):
    add_model(place, "teacher", 40, 0.03, 1)  # scored before there were labels
    student = {"teacher": "exp/asr_teacher"}
    add_model(place, "s1", 30, 0.03, 2, student=student, labels=["far"])
    assert run(["teacher", "s1"]) == 0
    text = (place / "RESULTS.md").read_text()
    assert "| seen | far |" in text and not (place / "wer_vs_condition.png").exists()
    assert "between paths" not in text and "*progressive*" not in text


def test_records_that_say_little(place):
    """A check that measured no WER, a gate without figures, teachers without scores."""
    add_model(place, "teacher", 40, 0.03, 1)
    student = {"teacher": "exp/asr_teacher", "before_training": {"loss": 9.0, "wer": None}}
    add_model(place, "s1", 30, 0.03, 2, student=student, gate={"verdict": "continued"})
    assert run(["teacher", "s1"]) == 0
    text = (place / "RESULTS.md").read_text()
    assert "before training" not in text
    row = next(x for x in text.splitlines() if x.startswith("| s1 | progressive"))
    assert row.endswith("| 2.0 min | 2.0 min | continued |")


def test_other_labels_are_refused(place, capsys):
    add_model(place, "teacher", 40, 0.03, 1, labels=["far"])
    add_model(place, "s1", 30, 0.03, 2, labels=["near"])
    assert run(["teacher", "s1"]) == 1
    err = capsys.readouterr().err
    assert f"asr_s1/{TAG}/seen/utt2condition: not the labels of the other models" in err
    assert err.count("\n") == 1


def leave(exp, name, student=None, facts=None):
    write_json(exp / name / "facts.json", facts or {"updates": 10, "train_seconds": 1.5})
    if student is not None:
        write_json(exp / name / "student.json", student)
    return exp / name


def test_lineage_of_what_is_not_in_the_report(tmp_path):
    """The way leads over experiments that were not scored, in a folder that was moved."""
    first = leave(tmp_path, "first")
    leave(tmp_path, "a", {"teacher": "elsewhere/first"})
    b = leave(tmp_path, "b", {"teacher": "elsewhere/a"}, {"updates": 5, "train_seconds": 2.0})
    found = lineage(b, first, 10)
    cost = found.path_cost
    assert (found.path, found.steps, cost.updates, cost.seconds) == ("progressive", 2, 15, 3.5)
    assert found.trainings == (b, tmp_path / "a") and found.cost.updates == 5
    # A step that recorded nothing: the sum is not known, the way is.
    leave(tmp_path, "a", {"teacher": "elsewhere/first"}, {"updates": None})
    assert (lineage(b, first, 10).steps, lineage(b, first, 10).path_cost.updates) == (2, None)


def test_lineage_that_cannot_be_followed(tmp_path):
    first = leave(tmp_path, "first")
    gone = lineage(leave(tmp_path, "a", {"teacher": "exp/gone"}), first, 10)
    assert (gone.teacher, gone.steps, gone.path_cost.updates) == ("exp/gone", None, None)
    unknown = lineage(leave(tmp_path, "b"), first, 10)
    assert (unknown.path, unknown.teacher, unknown.steps) == ("other", None, None)
    other = leave(tmp_path, "other")  # a teacher that is no student: its way begins there
    alone = lineage(leave(tmp_path, "c", {"teacher": str(other)}), first, 10)
    assert alone.path_cost.updates == 10


def test_a_student_that_is_its_own_ancestor(tmp_path):
    first = leave(tmp_path, "first")
    leave(tmp_path, "a", {"teacher": "b"})
    b = leave(tmp_path, "b", {"teacher": "a"})
    with pytest.raises(UserError, match="a/student.json: teacher: .* learnt from this student"):
        lineage(b, first, 10)
    with pytest.raises(UserError, match="path: expected text, found '3'"):
        lineage(leave(tmp_path, "d", {"teacher": None, "path": 3}), first, 10)


def test_order_of_paths(report):
    class Student:
        def __init__(self, path, params):
            self.path, self.params = path, params

    given = [Student("x", 1), Student("scratch", 1), Student("one_shot", 1)]
    given += [Student("progressive", 1), Student("progressive", 2), Student("a", 1)]
    groups = by_path(given)
    assert list(groups) == ["progressive", "one_shot", "scratch", "x", "a"]
    assert [s.params for s in groups["progressive"]] == [2, 1]


def test_length_bins():
    # What has no words goes with the shortest; bins that would be empty are not there.
    assert length_bins([0, 1, 1, 2, 2, 3, 3, 12, 12, 12]) == {
        **dict.fromkeys((0, 1, 2, 3), "0–3"),
        12: "12",
    }
    lengths = [n for n in range(1, 41) for _ in range(3)]
    bins = length_bins(lengths)
    words = {}
    for n in lengths:
        words[bins[n]] = words.get(bins[n], 0) + n
    assert list(words) == ["1–20", "21–28", "29–35", "36–40"]
    assert max(words.values()) < 1.25 * min(words.values())
    assert length_bins([5, 5]) == {5: "5"} and length_bins([]) == {}
