"""The planner: a plan that can be run, and what it will cost."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from toy import TRAINING, call, inside, write_data, write_teacher, write_yaml

from espnet_kd.errors import UserError
from espnet_kd.plan.draft import geometric, rate_for, stages_for
from espnet_kd.spec.plan import load_plan, parse_plan

WORDS = "--teacher_exp teacher --teacher_model model.pth --target 0.5 --stages 2 --threads 1"
WORDS = f"{WORDS} --device cpu --train_config train.yaml".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a teacher and the statistics of a training set."""
    with inside(tmp_path_factory.mktemp("planner")) as folder:
        write_data()
        write_teacher(Path("teacher"))
        write_yaml("train.yaml", TRAINING)
        for part in ("train", "dev"):
            shutil.copy(f"stats/{part}/text_shape", f"stats/{part}/text_shape.char")
    return folder


def plan(place, capsys, *more):
    with inside(place):
        code, err = call("plan", [*WORDS, *more])
    return code, capsys.readouterr().out, err


def columns(printed, name):
    """The cells of a table's row by column."""
    lines = printed.splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("---"))
    row = next(line for line in lines if line.startswith(f"{name} "))
    spans = [match.span() for match in re.finditer("-+", lines[rule])]
    return {lines[rule - 1][a:b].strip(): row[a:b].strip() for a, b in spans}


def test_steps_are_geometric():
    assert geometric(0.35, 3, 10**6) == [0.705, 0.497, 0.35]
    assert geometric(0.5, 1, 10**6) == [0.5]
    assert [stages_for(target, 10**6) for target in (0.9, 0.4, 0.08, 40_000)] == [1, 1, 3, 4]
    rates = [rate_for(share, 0.002) for share in (0.62, 0.1, 0.042)]
    assert rates == [
        0.00049,
        0.002,
        0.0039,
    ]  # of conf/compression.yaml of noisy_digits: 0.0005, ...


def test_a_plan_and_its_cost(place, capsys):
    code, out, err = plan(place, capsys, "--stats_dir", "stats", "--out", "conf/new.yaml")
    assert code == 0, err
    stages = load_plan(str(place / "conf/new.yaml")).stages
    assert [(s.name, s.target.fraction) for s in stages] == [("stage1", 0.707), ("stage2", 0.5)]
    assert "12 utterances of stats in 3 batches an epoch" in out
    for name in ("stage1", "stage2"):
        row = columns(out, name)
        assert float(row["s/update"]) > 0 and float(row["peak GB"]) > 0.05
        assert float(row["teacher-epochs"]) > 0
        assert int(row["updates"]) == 3 * int(row["epochs"]) and float(row["hours"]) >= 0
    assert re.search(
        r"All students together: [0-9]+ updates, [0-9.]+ hours of audio, [0-9.]+ ep", out
    )
    with inside(place):
        words = "--plan conf/new.yaml --stage 1 --teacher_exp teacher --teacher_model model.pth"
        assert call("derive_student", [*words.split(), "--out", "derived"])[0] == 0
    derived = capsys.readouterr().out
    assert f"stage1: {columns(out, 'stage1')['parameters']} parameters" in derived
    for row, file in (("teacher", "teacher/model.pth"), ("stage1", "derived/init.pth")):
        size = (place / file).stat().st_size / 1e6
        assert size <= float(columns(out, row)["MB"]) + 0.005 <= 1.2 * size
    assert "MB on a device" not in out

    code, _, err = plan(place, capsys, "--out", "conf/new.yaml", "--no_estimate")
    assert code == 1 and "conf/new.yaml: is there already; --force true" in err
    more = ("--out", "conf/new.yaml", "--no_estimate", "--force", "true", "--epochs", "7")
    code, out, _ = plan(place, capsys, *more)
    assert code == 0 and columns(out, "stage1")["updates"] == "?"
    assert re.search("All students together: [0-9.]+ epochs of", out) and "s/update" not in out
    assert load_plan(str(place / "conf/new.yaml")).stages[0].epochs == 7


def test_without_data_a_batch_is_stated(place, capsys):
    stated = ("--seconds", "1", "--labels", "5", "--batch", "2", "--objective", "none")
    code, out, err = plan(place, capsys, *stated)
    assert code == 0, err
    assert "2 utterances of 1 s and 5 labels; no --stats_dir" in out
    assert columns(out, "stage2")["min/epoch"] == "?" and "objective: none" in out
    assert "first teacher" not in out and "band" not in out
    with inside(place):
        write_yaml("mixed.yaml", {**TRAINING, "kd_conf": {"first_weight": 0.5, "lattice": "band"}})
    out = plan(place, capsys, *stated[:6], "--train_config", "mixed.yaml")[1]
    assert "So does the first teacher beside the current one (first_weight)." in out
    assert "Students in a band are counted as on the whole lattice" in out


def test_the_first_teacher_beside_another_and_hard_labels_are_in_the_cost(place, capsys):
    words = "--teacher_exp teacher --teacher_model model.pth --no_estimate --train_config"
    words = f"{words} train.yaml --plan half.yaml".split()

    def printed(**more):
        with inside(place):
            stages = [{"name": "a", "target": 0.7}, {"name": "b", "target": 0.5, **more}]
            write_yaml("half.yaml", {"stages": stages})
            assert call("plan", words)[0] == 0
        out = capsys.readouterr().out
        return float(columns(out, "b")["teacher-epochs"]), out

    epochs = TRAINING["max_epoch"]
    assert printed(first_weight=0.5)[0] == pytest.approx(printed()[0] + epochs / 3, abs=0.01)
    assert "The decoding of hard labels comes on top." in printed(labels="teacher")[1]


def test_sizes_that_are_measured_cannot_be_told_before(place, capsys):
    words = "--teacher_exp teacher --teacher_model model.pth --no_estimate --plan measured.yaml"
    with inside(place):
        stages = [{"name": "a", "target": 0.7, "allocate": "sensitivity"}]
        write_yaml("measured.yaml", {"stages": stages})
        code, err = call("plan", words.split())
    assert code == 1 and "allocate: the sizes of 'a' are measured when it is derived" in err
    assert err.endswith("for an estimate before that say 'rule' or 'deep'\n")


def test_no_way_leads_from_the_teacher_to_a_larger_size(place, capsys):
    code, _, err = plan(place, capsys, "--target", "0.3 MB", "--no_estimate")
    assert code == 1 and "--target: 0.3 MB is not smaller than the teacher, which" in err


def test_factors_and_few_bits_are_counted(place, capsys):
    words = "--teacher_exp teacher --teacher_model model.pth --no_estimate --train_config"
    words = f"{words} train.yaml --plan my.yaml".split()
    stages = [{"name": name, "method": "low_rank"} for name in ("a", "b")]
    stages[0]["target"], stages[1]["method_conf"] = 0.7, {"rank": 0.25}
    with inside(place):
        write_yaml("my.yaml", {"stages": stages})
        assert call("plan", words)[0] == 0
        low_rank = capsys.readouterr().out
        words_of_stage = "--plan my.yaml --stage 2 --teacher_exp teacher --teacher_model model.pth"
        assert call("derive_student", [*words_of_stage.split(), "--out", "low_rank"])[0] == 0
        derived = capsys.readouterr().out
        bits = {"name": "b", "method": "quantise", "method_conf": {"bits": 4}}
        write_yaml("my.yaml", {"stages": [{"name": "a", "target": 0.7}, bits]})
        assert call("plan", words)[0] == 0
        few_bits = capsys.readouterr().out
        code, err = call("plan", [*words, "--out", "new.yaml"])
    assert code == 1 and "nothing is drafted with --plan" in err
    factored = re.search(r"; ([0-9,]+) where factors are computed with", derived)[1]
    held = columns(low_rank, "b")
    assert factored == held["parameters on a device"] != held["parameters"]
    whole, bits = (columns(few_bits, name) for name in "ab")
    assert whole["parameters"] == bits["parameters"] and whole["MB on a device"] == ""
    assert 0 < float(bits["MB on a device"]) < float(bits["MB"])


@pytest.mark.parametrize(
    "words, message",
    [
        (("--target", "1.5"), "--target: expected a fraction between 0 and 1"),
        (("--target", "["), "--target: expected a fraction between 0 and 1"),
        (("--stages", "0"), "--stages 0: from 1 to 100 are possible"),
        (("--stages", "9" * 25), "from 1 to 100 are possible"),  # and does not hang
        (("--seconds", "nan"), "--seconds nan: from 0.1 to 3600 are possible"),
        (("--seconds", "-1", "--no_estimate"), "--seconds -1: from 0.1 to 3600"),
        (("--labels", "-5"), "--labels -5: from 1 to 10000 are possible"),
        (("--batch", "0"), "--batch 0: from 1 to 10000 are possible"),
        (("--batch", "9" * 9, "--no_estimate"), "from 1 to 10000"),  # and takes no memory
        (("--threads", "0"), "--threads 0: from 1 to 999 are possible"),
        (("--train_config", "no.yaml"), "no.yaml: no such file"),
        (("--teacher_exp", "none"), "none/config.yaml: no such file"),
        (("--stats_dir", "nowhere"), "nowhere/train/speech_shape: no such file"),
        (("--objective", "colapsed", "--no_estimate"), "did you mean 'collapsed'"),
        (("--target", "0.001", "--no_estimate"), "no student of at most"),
    ],
)
def test_refuses(place, capsys, words, message):
    code, _, err = plan(place, capsys, *words)
    assert code == 1 and message in err and "Traceback" not in err


def test_a_teacher_of_another_folder_says_from_where_it_can_be_read(place, capsys):
    """Its config names statistics by a path that begins in its recipe's folder."""
    config = yaml.safe_load((place / "teacher/config.yaml").read_text())
    stats = {"normalize": "global_mvn", "normalize_conf": {"stats_file": "exp/stats/feats.npz"}}
    with inside(place):
        write_yaml("recipe/exp/asr_x/config.yaml", {**config, **stats})
        shutil.copy("teacher/model.pth", "recipe/exp/asr_x/model.pth")
    words = ("--teacher_exp", "recipe/exp/asr_x", "--no_estimate")
    told = "exp/asr_x/config.yaml: names exp/stats/feats.npz, which is not there; "
    code, _, err = plan(place, capsys, *words)
    assert code == 1 and f"{told}run this in the folder of the recipe that made it" in err
    (place / "recipe/exp/stats").mkdir()
    (place / "recipe/exp/stats/feats.npz").touch()
    code, _, err = plan(place, capsys, *words)
    assert code == 1 and f"{told}it is below {(place / 'recipe').resolve()}: run this there" in err


def test_a_plan_that_is_there_takes_no_words_of_a_draft(place, capsys):
    words = [w for w in WORDS if w not in ("--target", "0.5", "--stages", "2")]
    with inside(place):
        for more in (["--stages", "2"], ["--epochs", "2"], ["--objective", "full"]):
            code, err = call("plan", [*words, "--plan", "plan.yaml", *more])
            told = f"{more[0]} {more[1]}: nothing is drafted with --plan; leave it out"
            assert code == 1 and told in err


def test_steps_to_a_size_in_bytes_are_bytes():
    assert geometric("2 MB", 3, 10**6, 4_100_000) == ["3.227 MB", "2.541 MB", "2 MB"]
    assert stages_for("0.4 MB", 10**6, 4_100_000) == 3
    with pytest.raises(
        UserError, match="5 MB is not smaller than the teacher, which has 1,000,00"
    ):
        geometric("5 MB", 2, 10**6, 4_100_000)


def test_a_draft_of_a_size_in_bytes_says_the_sizes_of_its_table(place, capsys):
    code, out, err = plan(place, capsys, "--target", "0.1 MB", "--stages", "1", "--no_estimate")
    assert code == 0, err
    row = next(line for line in out.splitlines() if line.startswith("stage1 "))
    assert f" {re.search('# ([0-9,]+) parameters: ', out)[1]} " in row


@pytest.mark.parametrize("target, stages, way", [("0.35", "1", "deep"), ("0.35", "3", "rule")])
def test_large_steps_keep_blocks_and_width(place, capsys, target, stages, way):
    code, out, err = plan(place, capsys, "--target", target, "--stages", stages, "--no_estimate")
    assert code == 0, err
    assert [s.allocate for s in parse_plan(out[out.index("# Made") :], "p").stages] == [way] * int(
        stages
    )
    said = re.findall("# ([0-9,]+) parameters: ", out)
    table = [columns(out, f"stage{k}")["parameters"] for k in range(1, int(stages) + 1)]
    assert said == table


def test_a_draft_has_rates_where_a_student_s_ends_at_zero_and_says_whose_they_are(place, capsys):
    with inside(place):
        write_teacher(Path("adam"), optim="adam", optim_conf={"lr": 0.002})
        write_yaml("falls.yaml", {**TRAINING, "scheduler": "warmupanneal"})
    words = ["--teacher_exp", "adam", "--no_estimate"]
    code, out, err = plan(place, capsys, *words, "--train_config", "falls.yaml")
    assert code == 0, err
    rates = [float(rate) for rate in re.findall(r"lr: ([0-9.]+)", out)]
    assert len(rates) == 2 and 0 < rates[0] < rates[1] < 0.002
    assert "# 4 times as much was best" in out
    code, out, err = plan(place, capsys, *words)  # warmuplr
    assert code == 0 and "optim_conf" not in out and "times as much" not in out, err
