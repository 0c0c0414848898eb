"""The options by which every command line finds the same students."""

import argparse
from pathlib import Path
from typing import Any, List, Optional, Sequence

from espnet_kd.cli import str2bool
from espnet_kd.common.records import STUDENT
from espnet_kd.errors import check_name
from espnet_kd.plan.baselines import (
    PATHS,
    all_students,
    check_of_use,
    choose,
    path_named,
    read_epochs,
)
from espnet_kd.plan.effective import Effective, effective
from espnet_kd.plan.student import PLANNED, Student
from espnet_kd.plan.twins import trained_by
from espnet_kd.plan.verdict import read_rounds
from espnet_kd.run.training_options import ESPNET_EPOCHS
from espnet_kd.spec.contradictions import check_annealed_by
from espnet_kd.spec.plan import CompressionPlan, load_plan
from espnet_kd.spec.training_config import TrainingConfig, read_config


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add what the list of students depends on."""
    add = parser.add_argument
    add("--plan", required=True, help="compression plan (YAML)")
    add(
        "--paths",
        default=PLANNED,
        help=f"'{PLANNED}' (the plan's stages) and other ways to the same sizes: "
        + "; ".join(f"'{name}': {path.says}" for name, path in PATHS.items()).replace("%", "%%"),
    )
    add("--paths_at", default="", help="stages whose sizes other paths end at; none: the last")
    add(
        "--paths_epochs",
        default="sum",
        help="epochs of students in one step: sum of those of all stages up to their size, own: "
        "those of the stage of their size, own+2: two more; several words: a student each",
    )
    add("--ablate", type=str2bool, default=False, help="add all ablations")
    add(
        "--students",
        help="folders of students are <this>_<name>; what gates have found there counts, and what "
        "is there of a step that could be made once",
    )
    add("--train_config", help="training config for students (YAML)")


def way_of(args: argparse.Namespace, plan: CompressionPlan) -> Effective:
    """Return the progressive path after what its gates have found.

    Raises:
        UserError: see `read_rounds`.
    """

    def rounds_of(name: str) -> List[Any]:
        return read_rounds(Path(f"{args.students}_{name}")) if args.students else []

    return effective(plan, rounds_of)


def students_of(args: argparse.Namespace, plan: Optional[CompressionPlan] = None) -> List[Student]:
    """Return the students of all paths.

    Args:
        args: The options of `add_plan_options`.
        plan: The plan, if it has been read.

    Raises:
        UserError: see `load_plan`, `read_rounds`, `choose` and `all_students`.
    """
    base, plan = read_config(args.train_config), plan or load_plan(args.plan)
    with plan.lines_in_messages():
        for stage in plan.stages:
            stage.kd_conf(base).check_together(stage.where)
    epochs = base.max_epoch or ESPNET_EPOCHS
    paths = choose(args.paths.split(), args.ablate)
    how_long = read_epochs(args.paths_epochs.split())
    check_of_use(paths, args.paths_at.split(), how_long)

    def is_there(name: str) -> bool:
        return bool(args.students) and Path(f"{args.students}_{name}", STUDENT.file).is_file()

    with plan.lines_in_messages():
        at, planned = args.paths_at.split(), way_of(args, plan)
        students = all_students(plan, planned, paths, at, epochs, how_long, is_there, base)
        for student in students:  # a path may say what goes ill with what the stage says
            if student.path != PLANNED:
                asked = f"--paths {student.path}: "  # which some say in any case
                where = f"{asked}{student.where.removeprefix(asked)}"
                trained_by(student, base).check_together(where)
        if args.train_config:
            check_annealed_by(students, base)
    return students


def student_of(
    args: argparse.Namespace, name: str, plan: Optional[CompressionPlan] = None
) -> Student:
    """Return one student.

    Args:
        args: The options of `add_plan_options`.
        name: Name of the student.
        plan: The plan, if it has been read.

    Raises:
        UserError: there is none of that name; see `students_of`.
    """
    students = {student.name: student for student in students_of(args, plan)}
    check_name(f"{args.plan}: no student", name, students)
    return students[name]


def check_cacheable(students: Sequence[Student], base: TrainingConfig, band: int) -> None:
    """Check that a teacher cache can serve a plan's students, before the teacher is trained.

    Args:
        students: Students of all paths.
        base: The recipe's training config for students.
        band: Rows of the cache, 0: all.

    Raises:
        UserError: one cannot be trained from a cache (naming its stage and the option).
    """
    for student in students:
        kd = student.kd_conf(base)
        path = path_named(student.path)
        online = path is not None and not path.cached
        if kd.distils and not online:
            kd = kd.changed(teacher_cache="to be made").complete(student.where)
            kd.check_band(band, f"{student.where}: ")
