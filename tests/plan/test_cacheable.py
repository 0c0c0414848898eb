"""Which plans a teacher cache can serve, before anything is trained."""

import pytest

from espnet_kd.cli import new_parser
from espnet_kd.errors import UserError
from espnet_kd.plan.baselines import PATHS, all_students
from espnet_kd.plan.effective import effective
from espnet_kd.plan.selection import add_plan_options, check_cacheable, students_of
from espnet_kd.spec.distillation import read_kd_conf
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import TrainingConfig


def check(tmp_path, stage, base=None, band=0, paths=("progressive",)):
    path = tmp_path / "compression.yaml"
    path.write_text(f"stages: [{{target: 0.7}}, {{target: 0.5{stage}}}]")
    plan = load_plan(str(path))
    base_config = TrainingConfig(kd=read_kd_conf((base or {}).get("kd_conf")))
    way = effective(plan, lambda name: [])
    check_cacheable(all_students(plan, way, paths, (), 10), base_config, band)


@pytest.mark.parametrize(
    "stage, base, band",
    [
        ("", {}, 5),
        (", objective: full_sum", {}, 0),
        (", objective: none, temperature: 2.0", {}, 0),
        (", temperature: 1.0", {"kd_conf": {"temperature": 1.0}}, 0),
        (", objective: collapsed", {"kd_conf": {"objective": "full"}}, 0),  # the plan overrules
    ],
)
def test_serves(tmp_path, stage, base, band):
    check(tmp_path, stage, base, band)


@pytest.mark.parametrize(
    "stage, base, band, message",
    [
        (", objective: full", {}, 0, r"stages\[1\].objective: with a teacher cache it must be"),
        (", first_weight: 0.5", {}, 0, r"stages\[1\].first_weight: with a teacher cache"),
        (", train: {kd_conf: {temperature: 2}}", {}, 0, r"stages\[1\].temperature"),
        ("", {"kd_conf": {"ctc_weight": 0.1}}, 0, r"stages\[0\].ctc_weight"),
        (", objective: full_sum", {}, 5, r"stages\[1\]: a teacher cache with a band serves"),
    ],
)
def test_refuses(tmp_path, stage, base, band, message):
    with pytest.raises(UserError, match=message):
        check(tmp_path, stage, base, band)


def test_paths_that_no_cache_ever_serves_are_trained_on_line(tmp_path):
    online = [name for name, path in PATHS.items() if not path.cached]
    assert online
    check(tmp_path, "", paths=online)


@pytest.mark.parametrize(
    "stage, path, message",
    [
        ("weight: 0, encoder_weight: 1", "progressive_half", "first_weight: found '0.5'"),
        ("weight: 0", "progressive_half", "first_weight: found '0.5'"),
        ("weight_schedule: [[0, 0], [9, 1]]", "one_shot_encoder", "weight_schedule: found"),
    ],
)
def test_what_a_path_adds_is_checked_before_anything_is_trained(tmp_path, stage, path, message):
    file = tmp_path / "compression.yaml"
    file.write_text(f"stages:\n- {{target: 0.7}}\n- {{target: 0.5, {stage}}}\n")
    words = ["--plan", str(file), "--paths", f"progressive {path}"]
    parser = new_parser("")
    add_plan_options(parser)
    with pytest.raises(UserError, match=f"--paths {path}: .*.yaml:3: stages.1..{message}"):
        students_of(parser.parse_args(words))
