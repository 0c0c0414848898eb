"""Students of all paths, really derived: the same sizes, whatever the way."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from toy import TRAINING, call, inside, write_teacher, write_yaml

from espnet_kd.students.architecture import Architecture

PLAN = {
    "gate": {"otherwise": "split"},
    "stages": [
        {"name": "a", "target": 0.8, "epochs": 2},
        {"name": "b", "student": {"encoder": {"num_blocks": 2, "hidden_size": 8}}, "weight": 0.3},
    ],
}


def gate(verdict, wer):
    """What a gate leaves after four epochs; the teacher has 5 %."""
    rounds = [{"epochs": 4, "wer": wer, "teacher_wer": 5, "utterances": 9}]
    return {"verdict": verdict, "rounds": rounds}


SPLIT = gate("split", 9)
# Halfway is good, the whole way is not.
GOOD = {"b_half": gate("pass", 5), "b_again": SPLIT}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a teacher and a plan."""
    with inside(tmp_path_factory.mktemp("paths")) as folder:
        write_teacher(Path("teacher"))
        write_yaml("plan.yaml", PLAN)
        write_yaml("train.yaml", TRAINING)
    return folder


def derive(name, teacher, *more):
    """Derive a student as the recipe does; it stands for a trained one then."""
    words = f"--plan plan.yaml --students exp/kd --student {name} --train_config train.yaml "
    words += f"--teacher_exp {teacher} --teacher_model model.pth --first_teacher_exp teacher "
    words += f"--first_teacher_model model.pth --out exp/kd_{name}"
    code, err = call("derive_student", [*words.split(), *more])
    assert code == 0, err
    exp = Path(f"exp/kd_{name}")
    shutil.copy(exp / "init.pth", exp / "model.pth")
    config = yaml.safe_load((exp / "student.yaml").read_text())
    # What ESPnet's trainer fills in.
    write_yaml(exp / "config.yaml", {"init": None, "specaug": None, "specaug_conf": {}, **config})
    return json.loads((exp / "student.json").read_text())


def test_all_ways_end_at_the_same_sizes(place):
    with inside(place):
        a = derive("a", "teacher")
        b = derive("b", "exp/kd_a")
        paths = ("--paths", "scratch one_shot")
        one_shot = derive("one_shot", "teacher", *paths)
        scratch = derive("scratch", "teacher", *paths)
        assert one_shot["sizes"] == scratch["sizes"] == b["sizes"] != a["sizes"]
        assert (b["path"], one_shot["path"]) == ("progressive", "one_shot")

        config = yaml.safe_load(Path("exp/kd_one_shot/student.yaml").read_text())
        assert config["max_epoch"] == 2 + TRAINING["max_epoch"]
        assert config["kd_conf"]["teacher_model"] == "teacher/model.pth"
        assert config["kd_conf"]["weight"] == 0.3
        config = yaml.safe_load(Path("exp/kd_scratch/student.yaml").read_text())
        assert config["kd_conf"] == {"objective": "none"} and scratch["init"] == "random"

        Path("exp/kd_b/gate.json").write_text(json.dumps(SPLIT))
        half = derive("b_half", "exp/kd_a")
        again = derive("b_again", "exp/kd_b_half")
        for name in ("b_half", "b_again"):
            Path(f"exp/kd_{name}/gate.json").write_text(json.dumps(GOOD[name]))
        shutil.rmtree("exp/kd_one_shot")
        # The compression ends with the student in between: so does the other way.
        assert derive("one_shot", "teacher", *paths)["sizes"] == half["sizes"]
        assert again["sizes"] == b["sizes"]
        assert b["params"] < half["params"] <= (a["params"] * b["params"]) ** 0.5
        sizes = [Architecture(**x["sizes"]) for x in (a, half, b)]
        for name in ("num_blocks", "hidden_size", "linear_size", "joint_size"):
            down = [getattr(size, name) for size in sizes]
            assert down == sorted(down, reverse=True), name
