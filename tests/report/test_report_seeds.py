"""The command line `report_seeds` on three runs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_run import TAG, WORDS, add_paths

from espnet_kd.bin.compare_arms import main as compare_arms
from espnet_kd.bin.report import main as report
from espnet_kd.bin.report_seeds import main
from espnet_kd.scoring.bootstrap import paired_interval
from espnet_kd.scoring.counts import read_counts
from espnet_kd.scoring.score import score

SEEDS = ("seed1", "seed2", "seed3")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCLITE", "none")
        patch.chdir(folder)
        for k, name in enumerate(SEEDS):
            exp = folder / name
            models = [f"--model={n}={name}/asr_{n}" for n in add_paths(exp, 100 * k, labels=())]
            with pytest.raises(SystemExit) as exit_:
                argv = [f"--exp={name}", f"--inference_tag={TAG}", "--test_sets=seen new"]
                report([*argv, "--draws=50", *models])
            assert exit_.value.code == 0
    return folder


@pytest.fixture
def runs(made, tmp_path, monkeypatch):
    """Return a copy; the reports were made in another place than where they are read."""
    shutil.copytree(made, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def run(*more, names=SEEDS):
    argv = [f"--run=runs/{name}" for name in names]
    with pytest.raises(SystemExit) as exit_:
        main([*argv, "--out=SEEDS.md", "--draws=200", *more])
    return exit_.value.code


def errors(runs, model, test_set):
    found = [
        read_counts(runs / name / f"asr_{model}" / TAG / test_set / "score_wer/counts.tsv")
        for name in SEEDS
    ]
    words = np.array([c.ref_words for c in found[0].values()])
    return np.array([[c.errors for c in counts.values()] for counts in found]), words


def edit(run_dir, change):
    path = run_dir / "results.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_table_and_plot(runs, tmp_path):
    assert run("--plot") == 0
    text = (tmp_path / "SEEDS.md").read_text()
    assert "![WER of every run](SEEDS.png)" in text
    assert (tmp_path / "SEEDS.png").read_bytes().startswith(b"\x89PNG")
    rows = [[x.strip() for x in y.strip("|").split("|")] for y in text.splitlines() if "|" in y]
    assert [row[1:3] for row in rows if row[0] == "new"] == [
        ["teacher", "–"],
        ["stage1", "teacher"],
        ["stage2", "teacher"],
        ["one_shot_stage1", "teacher"],
        ["one_shot", "teacher"],
        ["scratch", "teacher"],
        ["stage1", "one_shot_stage1"],
        ["stage2", "one_shot"],
        ["stage2", "scratch"],
        ["one_shot", "scratch"],
    ]
    row = next(row for row in rows if row[:3] == ["new", "stage2", "one_shot"])
    own, words = errors(runs, "stage2", "new")
    other, _ = errors(runs, "one_shot", "new")
    rates = 100 * own.sum(1) / words.sum()
    assert row[4:7] == [f"{x:.2f}" for x in rates]
    assert row[7:9] == [f"{rates.mean():.2f}", f"{rates.std(ddof=1):.2f}"]
    i = paired_interval(own.sum(0), other.sum(0), 3 * words, draws=200)
    assert row[9] == f"{i.diff:+.2f}".replace("-", "−")
    assert row[10].startswith(f"{i.low:+.2f} to {i.high:+.2f}".replace("-", "−"))
    wins = (own.sum(1) < other.sum(1)).sum()
    assert row[12].split(",")[0] == f"{wins} of 3"
    data = json.loads((tmp_path / "SEEDS.json").read_text())
    entry = data["differences"][-3]
    assert (entry["model"], entry["against"], entry["test_set"]) == ("stage2", "one_shot", "new")
    assert entry["interval"]["low"] == pytest.approx(i.low, abs=1e-3) and entry["wins"] == wins
    (family,) = data["families"]
    assert family["against"] == "one_shot" and data["method"]["margin"] == 0.5
    assert "- Of all 2 sizes together, between progressive and one shot the cost was" in text
    assert [d["size"] for d in family["differences"][:2]] == [family["sizes"][1], None]
    assert data["models"][2]["wer"]["new"] == pytest.approx(rates, abs=1e-3)


def test_figures_do_not_take_the_place_of_a_report(runs, capsys):
    for name in ("runs/seed1/RESULTS.md", "SEEDS.json", "runs/seed1/speed.md", ".", "runs"):
        with pytest.raises(SystemExit) as exit_:
            main(["--run=runs/seed1", "--run=runs/seed2", f"--out={name}"])
        assert exit_.value.code == 1
        assert f"--out {name}: a Markdown file is expected" in capsys.readouterr().err


def test_models_of_some_runs_are_left_out_and_named(runs, tmp_path):
    edit(runs / "seed2", lambda data: data["models"].pop(3))
    assert run() == 0
    text = (tmp_path / "SEEDS.md").read_text()
    assert "- left out, not in every run: one_shot_stage1" in text
    assert "| one_shot_stage1 |" not in text and "SEEDS.png" not in text


def test_a_size_that_one_run_lacks_is_in_no_cost_and_other_epochs_are_told(runs, tmp_path):
    def of_three_sizes(data):
        data["families"][0]["sizes"].append(["stage3", "one_shot_stage3"])

    edit(runs / "seed1", of_three_sizes)
    edit(runs / "seed2", lambda data: data["models"][2].update(epochs=7))
    assert run() == 0
    text = (tmp_path / "SEEDS.md").read_text()
    # Of a run with three sizes and two with two: a mean of both is the cost of neither.
    assert "The family of 2 sizes" in text and "Of all 2 sizes together" not in text
    assert "All trainings of a family" not in text
    (family,) = json.loads((tmp_path / "SEEDS.json").read_text())["families"]
    assert family["cost"]["updates"] is None
    said = "- **stage2 was not trained alike, its epochs are 6 (run 1), 7 (run 2), 6 (run 3).**"
    assert said in text.splitlines()


@pytest.mark.parametrize("older", [False, True])
def test_a_first_step_that_some_runs_made_once_is_of_both_ways(runs, tmp_path, older):
    def once(data):
        data["models"] = [m for m in data["models"] if m["name"] != "one_shot_stage1"]
        (first,) = [m for m in data["models"] if m["name"] == "stage1"]
        first["also_on"] = ["one_shot"]
        if older:
            for model in data["models"]:
                del model["also_on"]
            data["families"][0]["shared"] = [["stage1", "stage1"]]

    for name in SEEDS[1:]:
        edit(runs / name, once)
    assert run() == 0
    (family,) = json.loads((tmp_path / "SEEDS.json").read_text())["families"]
    assert family["sizes"] == [["stage1", "stage1"], ["stage2", "one_shot"]]
    assert family["shared"] == [["stage1", "stage1"]]


def test_reports_before_there_were_paths(runs, tmp_path, monkeypatch):
    def make_old(data):
        for model in data["models"]:
            del model["path"], model["relative_dir"]

    for name in SEEDS:
        edit(runs / name, make_old)
    monkeypatch.chdir(runs)  # such a report names experiments from where it was made
    with pytest.raises(SystemExit) as exit_:
        main([*(f"--run={name}" for name in SEEDS), "--out=OLD.md", "--draws=50"])
    assert exit_.value.code == 0
    assert "| stage2 | teacher |" in (runs / "OLD.md").read_text()


def one_training_in_two_runs(runs):
    edit(runs / "seed3", lambda d: d["models"][1].update(relative_dir="../seed1/asr_stage1"))


def one_seed_in_two_runs(runs):
    shutil.copy(runs / "seed1/asr_stage1/facts.json", runs / "seed3/asr_stage1/facts.json")


def other_references(runs):
    refs = {f"s0-u{n}": WORDS[n % 10] for n in range(20)}
    score(refs, refs, dict.fromkeys(refs, "s0"), runs / f"seed3/asr_s/{TAG}/new/score_wer", "wer")
    shutil.copy(
        runs / f"seed3/asr_s/{TAG}/new/score_wer/counts.tsv",
        runs / f"seed3/asr_stage2/{TAG}/new/score_wer/counts.tsv",
    )


def set_(name, *keys, value):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return lambda runs: edit(runs / name, change)


def test_reports_from_before_there_was_another_decoding_are_espnet_s(runs):
    set_("seed2", "decoding", value="stock")(runs)
    edit(runs / "seed3", lambda data: data.pop("decoding"))
    assert run() == 0


def test_sizes_chosen_by_measurement_may_differ_a_little(runs):
    set_("seed2", "models", 2, "params", value=606)(runs)
    assert run() == 0
    assert "| stage2 | teacher | 600 to 606 |" in Path("SEEDS.md").read_text()


@pytest.mark.parametrize(
    "break_, message",
    [
        (
            set_("seed2", "test_sets", value=["seen"]),
            "runs/seed2/results.json: test_sets: ['seen'], but runs/seed1 has ['seen', 'new']",
        ),
        (
            set_("seed3", "inference_tag", value="other"),
            "seed3/results.json: inference_tag: other",
        ),
        (
            set_("seed2", "decoding", value="aligned"),
            "seed2/results.json: aligned decoding, but runs/seed1 has other decoding; pool",
        ),
        (other_references, "runs/seed3: stage2 was scored on other references of new than"),
        (
            set_("seed2", "models", 2, "params", value=7),
            "runs/seed2: stage2 has 7 parameters (path progressive), in runs/seed1 600 (path",
        ),
        (set_("seed2", "models", 4, "path", value="x"), "one_shot has 600 parameters (path x)"),
        (set_("seed3", "models", 0, "name", value="t"), "seed3: no model 'teacher', the first"),
        (one_training_in_two_runs, "--run runs/seed1 and --run runs/seed3: both report"),
        (one_seed_in_two_runs, "stage1 was trained with seed 2 in both (facts.json); pool runs"),
        (set_("seed1", "models", value=[]), "results.json: models: expected at least one; run"),
        (
            lambda runs: edit(runs / "seed2", lambda data: data["method"].pop("margin")),
            "runs/seed2/results.json: method.margin: none (an older report), but runs/seed1 has "
            "0.5; run stage 17 again for each, or name the margin with --margin",
        ),
        (lambda runs: (runs / "seed1/results.json").unlink(), "results.json: no such file; run"),
        (lambda runs: shutil.rmtree(runs / "seed2/asr_scratch"), "no such file; score this model"),
    ],
)
def test_what_cannot_be_pooled_is_one_line(runs, tmp_path, capsys, monkeypatch, break_, message):
    monkeypatch.setenv("SCLITE", "none")
    break_(runs)
    assert run() == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "SEEDS.md").exists()


def test_a_margin_on_the_command_line_settles_which(runs, tmp_path):
    edit(runs / "seed2", lambda data: data["method"].pop("margin"))
    assert run("--margin=0.75") == 0
    assert (tmp_path / "SEEDS.md").read_text().startswith("# Several seeds")


def test_one_group_allows_no_conclusion(runs, tmp_path):
    for path in runs.glob("*/*/*/new/score_wer/ref.trn"):
        text = path.read_text().splitlines()
        lines = [line.rpartition("\t(") for line in text]
        path.write_text("".join(f"{a}\t(x-{b.partition('-')[2]}\n" for a, _, b in lines))
    assert run("--draw=speakers") == 0
    text = (tmp_path / "SEEDS.md").read_text()
    assert "- **new is all of one speaker, or of one recording: no interval.**" in text
    assert not any("†" in line for line in text.splitlines() if line.startswith("| new "))


@pytest.mark.parametrize("names", [("seed1",), ("seed1", "seed1")])
def test_runs_are_named_once(runs, capsys, names):
    assert run(names=names) == 1
    assert "name two runs or more, each once" in capsys.readouterr().err


def test_a_model_that_says_nothing_in_a_run_allows_no_conclusion(runs, tmp_path):
    counts = runs / f"seed2/asr_stage2/{TAG}/new/score_wer/counts.tsv"
    head, *lines = counts.read_text().splitlines()
    silent = [f"{u}\t{w}\t0\t0\t{w}\t0" for u, w in (line.split("\t")[:2] for line in lines)]
    counts.write_text("\n".join([head, *silent]) + "\n")
    assert run() == 0
    text = (tmp_path / "SEEDS.md").read_text()
    assert "- **stage2 outputs nothing on new (run 2): comparisons with it say nothing.**" in text
    rows = [line for line in text.splitlines() if line.startswith("| new | stage2 | teacher")]
    assert len(rows) == 1 and "†" not in rows[0]


def test_too_few_utterances_allow_no_conclusion(runs, tmp_path):
    for counts in runs.glob("*/*/*/new/score_wer/counts.tsv"):
        for file, lines in ((counts, 6), (counts.with_name("ref.trn"), 5)):
            file.write_text("".join(file.read_text().splitlines(keepends=True)[:lines]))
    assert run() == 0
    text = (tmp_path / "SEEDS.md").read_text()
    assert "- **new has 5 utterances, too few for an interval.**" in text
    assert not any("†" in line for line in text.splitlines() if line.startswith("| new "))


def arms(*words):
    with pytest.raises(SystemExit) as exit_:
        compare_arms(["--out=ARMS.md", "--draws=200", *words])
    return exit_.value.code


def test_students_of_two_arms_are_compared_as_those_of_one(runs, tmp_path):
    """One student against one of another arm, as if both stood in one report."""
    shutil.copytree(runs, tmp_path / "other", ignore=shutil.ignore_patterns("seed1"))
    shutil.copytree(runs / "seed1", tmp_path / "other/seed4")
    assert arms("--pair=runs/stage2=other/one_shot", "--pair=runs/stage1=runs/scratch") == 0
    rows = (tmp_path / "ARMS.md").read_text().splitlines()
    (row,) = [line for line in rows if line.startswith("| new | runs/stage2 | other/one_shot |")]
    run(names=("seed2", "seed3"))  # what both arms have
    known = (tmp_path / "SEEDS.md").read_text().splitlines()
    (same,) = [line for line in known if line.startswith("| new | stage2 | one_shot |")]
    assert row.split(" | ")[5:] == same.split(" | ")[8:]
    assert any(line.startswith("| seen | runs/stage1 | runs/scratch |") for line in rows)
    text = "\n".join(rows)
    assert "- Means over seed2, seed3, which all arms have." in text
    assert "- left out, not in every arm: runs/seed1, other/seed4\n" in text
    assert "(docs/results.md), and of two the interval misses in up to 13 of 100 cases. †" in text
    assert re.search(
        r"- the arms' first teachers are different .*: runs, [0-9,]+ parameters", text
    )
    assert arms("--pair=runs/stage1=runs/scratch") == 0  # of one teacher, with three seeds
    text = (tmp_path / "ARMS.md").read_text()
    assert "first teachers" not in text and "left out" not in text and "of two" not in text


def test_a_student_of_an_arm_that_says_nothing_is_told_of(runs, tmp_path):
    counts = runs / f"seed2/asr_stage2/{TAG}/new/score_wer/counts.tsv"
    head, *lines = counts.read_text().splitlines()
    silent = [f"{u}\t{w}\t0\t0\t{w}\t0" for u, w in (line.split("\t")[:2] for line in lines)]
    counts.write_text("\n".join([head, *silent]) + "\n")
    shutil.copytree(runs, tmp_path / "other")
    for seed in SEEDS:  # as earlier versions, which did not say it
        edit(tmp_path / "other" / seed, lambda report: report.pop("decoding"))
    assert arms("--pair=runs/stage2=other/one_shot") == 0
    text = (tmp_path / "ARMS.md").read_text()
    assert "- **runs/stage2 outputs nothing on new (seed2): comparisons with it say noth" in text
    assert "other/stage2" not in text


@pytest.mark.parametrize(
    "pair, message",
    [
        ("runs/stage2", "not of the form ARM/STUDENT=ARM/STUDENT"),
        ("runs/stage2=stage2", "not of the form"),
        ("runs/stage2=./runs/stage2", "one student on both sides"),
        ("runs/stage2=few/../runs/stage2", "one student on both sides"),
        ("runs/stage3=runs/stage2", "did you mean 'stage"),
        ("runs/stage2=few/stage2", "arms need two seeds in common that are reported, not runs: "),
        ("runs/stage2=apart/runs/stage2", "have one name"),
    ],
)
def test_arms_that_cannot_be_compared_are_one_line(runs, tmp_path, capsys, pair, message):
    shutil.copytree(runs / "seed1", tmp_path / "few/seed1")
    assert arms(f"--pair={pair}") == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not (tmp_path / "ARMS.md").exists()


def test_arms_of_other_references_are_refused(runs, tmp_path, capsys):
    shutil.copytree(runs, tmp_path / "other")
    for counts in (tmp_path / "other").glob("*/*/*/new/score_wer/counts.tsv"):
        counts.write_text("".join(counts.read_text().splitlines(keepends=True)[:-1]))
    for ref in (tmp_path / "other").glob("*/*/*/new/score_wer/ref.trn"):
        ref.write_text("".join(ref.read_text().splitlines(keepends=True)[:-1]))
    assert arms("--pair=runs/stage2=other/stage2") == 1
    assert "other references of new" in capsys.readouterr().err


def say_otherwise(folder):
    """Put another word of the same count into the references of a set."""
    for ref in folder.glob("asr_*/*/new/score_wer/ref.trn"):
        ref.write_text(ref.read_text().replace("three", "drei"))


def test_references_of_as_many_words_are_not_the_same(runs, tmp_path, capsys):
    shutil.copytree(runs, tmp_path / "other")
    for seed in SEEDS:
        say_otherwise(tmp_path / "other" / seed)
    assert arms("--pair=runs/stage2=other/stage2") == 1
    assert "other references of new" in capsys.readouterr().err
    for ref in (tmp_path / "other").glob("*/*/*/new/score_wer/ref.trn"):  # of an older version
        ref.write_text(ref.read_text().replace("drei", "THREE"))  # sclite takes them for one
    assert arms("--pair=runs/stage2=other/stage2") == 0
    say_otherwise(runs / "seed2")
    assert run() == 1
    assert "was scored on other references of new than" in capsys.readouterr().err
