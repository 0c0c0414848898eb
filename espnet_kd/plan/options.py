"""The options by which every command line finds the same students."""

import argparse
from pathlib import Path
from typing import Any, Dict, List

from espnet_kd.common.yaml_file import lines_in_messages, read_document
from espnet_kd.errors import check_name
from espnet_kd.kd_options import DistillOptions
from espnet_kd.plan.effective import Effective, effective
from espnet_kd.plan.gate import read_rounds
from espnet_kd.plan.paths import PATHS, all_students, choose
from espnet_kd.plan.plan import load_plan
from espnet_kd.plan.stage import PLANNED, StagePlan, check_training
from espnet_kd.run.training_options import ESPNET_EPOCHS


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add what the list of students depends on."""
    add = parser.add_argument
    add("--plan", required=True, help="compression plan (YAML)")
    add(
        "--paths",
        default=PLANNED,
        help=f"'{PLANNED}' (the plan's stages) and other ways to the same sizes: "
        + "; ".join(f"'{name}': {path.says}" for name, path in PATHS.items()),
    )
    add("--paths_at", default="", help="stages whose sizes other paths end at; none: the last")
    add("--ablate", choices=("true", "false"), default="false", help="add all ablations")
    add("--students", help="where students are, <this>_<name>; what their gates said counts")
    add("--train_config", help="training config for students (YAML)")


def way_of(args: argparse.Namespace) -> Effective:
    """Return the progressive path after what its gates have found.

    Raises:
        UserError: see `load_plan` and `read_rounds`.
    """

    def rounds_of(name: str) -> List[Any]:
        return read_rounds(Path(f"{args.students}_{name}")) if args.students else []

    return effective(load_plan(args.plan), rounds_of)


def students_of(args: argparse.Namespace) -> List[StagePlan]:
    """Return the students of all paths.

    Raises:
        UserError: see `load_plan`, `read_rounds`, `choose` and `all_students`.
    """
    base, plan = read_config(args.train_config), load_plan(args.plan)
    with lines_in_messages(plan.path, plan.lines):
        for stage in plan.stages:
            conf = DistillOptions.checked(stage.kd_conf(base), stage.where)
            DistillOptions(**conf).check_layers(stage.where)
    epochs = base.get("max_epoch") or ESPNET_EPOCHS
    paths = choose(args.paths.split(), args.ablate == "true")
    return all_students(plan, way_of(args), paths, args.paths_at.split(), epochs)


def student_of(args: argparse.Namespace, name: str) -> StagePlan:
    """Return one student.

    Raises:
        UserError: there is none of that name; see `students_of`.
    """
    students = {student.name: student for student in students_of(args)}
    check_name(f"{args.plan}: no student", name, students)
    return students[name]


def read_config(path: Any) -> Dict[str, Any]:
    """Read the students' training config; no path: an empty one.

    Returns:
        Its content, and its path as `__file__`, for messages.

    Raises:
        UserError: no such file, or no YAML.
    """
    if not path:
        return {}
    config, lines = read_document(path, "a training config for students is needed")
    with lines_in_messages(path, lines):
        check_training(config, f"{path}: ")
    return {**config, "__file__": path}
