"""Students that several paths would make: one training, and all of these paths have it.

Where an earlier run made both, both stay: what came after the second would otherwise have another
teacher, and its scores would be lost.
"""

import dataclasses
from typing import Callable, Dict, List, Sequence

from espnet_kd.errors import UserError
from espnet_kd.plan.student import PLANNED, Student
from espnet_kd.spec.distillation import Distillation
from espnet_kd.spec.stage import FIRST, PREVIOUS, Stage
from espnet_kd.spec.training_config import TrainingConfig

# What two students of one training may differ in: names, and what is compared apart.
APART = (
    "name", "path", "number", "where", "stages_above", "teacher", "taught_by", "epochs", "kd",
    "also_on",
)  # fmt: skip


def with_row(
    students: Sequence[Student],
    row: Sequence[Student],
    stages: Sequence[Stage],
    default_epochs: int,
    base: TrainingConfig,
    is_there: Callable[[str], bool],
) -> List[Student]:
    """Add the students of a path, but for those that another path makes by another name.

    Args:
        students: Students of the plan and of other paths.
        row: Students of the path, each after those that it comes from.
        stages: Stages of the plan.
        default_epochs: `max_epoch` of the students' training config.
        base: The recipe's training config for students.
        is_there: Whether a student of a name has been derived.
    """
    known = {student.name: student for student in students}
    made: List[Student] = []
    twins: Dict[str, str] = {}  # of the path's students, by their names
    for student in row:
        student = student.renamed(twins)
        # Of two twins that of another path: a path may be one of the plan's students alone.
        candidates = sorted(known.values(), key=lambda other: other.path == PLANNED)
        alike = (c for c in candidates if same_training(student, c, stages, default_epochs, base))
        twin = None if is_there(student.name) else next(alike, None)
        if twin is None:
            made.append(student)
        else:
            twins[student.name] = twin.name
    if not made and all(known[name].path == PLANNED for name in twins.values()):
        # All that the path makes: else nothing would be compared with the plan's own.
        made = [row[-1].renamed(twins)]
        twins.pop(row[-1].name)
    for twin_name in twins.values():
        other = known[twin_name]
        known[twin_name] = dataclasses.replace(other, also_on=(*other.also_on, row[0].path))
    return [*known.values(), *made]


def same_training(
    a: Student, b: Student, stages: Sequence[Stage], default_epochs: int, base: TrainingConfig
) -> bool:
    """Tell whether two students differ in name and path alone: to the bit, on one machine.

    Args:
        a: A student of a path.
        b: Another one.
        stages: Stages of the plan.
        default_epochs: `max_epoch` of the students' training config.
        base: That config.
    """
    if b.until is not None:  # a gate had it trained on: not in one run
        return False
    named = dataclasses.replace(a, **{name: getattr(b, name) for name in APART})
    return (
        _line(a, stages) == _line(b, stages)
        and a.teacher == b.teacher
        and a.taught_by_student == b.taught_by_student
        and a.last_epoch(default_epochs) == b.last_epoch(default_epochs)
        and trained_by(a, base) == trained_by(b, base)  # whatever of it is written, and where
        and (named.fingerprint(), named.training_digest())
        == (b.fingerprint(), b.training_digest())
    )


def _line(student: Student, stages: Sequence[Stage]) -> List[str]:
    """Name the stages that lead to a student's size."""
    above = student.stages_above or stages[: student.number]
    return [*(stage.name for stage in above), *(["half"] if student.half else [])]


def trained_by(student: Student, base: TrainingConfig) -> Distillation:
    """Return the distillation options by which a student is trained.

    Args:
        student: A student.
        base: The recipe's training config for students.
    """
    kd = student.kd_conf(base)
    # The first teacher is not mixed with itself (`espnet.derive`).
    return kd if student.taught_by_student else kd.changed(first_weight=0.0)


def check_there(students: Sequence[Student], is_there: Callable[[str], bool]) -> None:
    """Refuse students that learn from one of the plan's own path where that is not made.

    Args:
        students: Students of all paths.
        is_there: Whether a student of a name has been derived, by another run.

    Raises:
        UserError: that is so.
    """
    names = {PREVIOUS, FIRST, *(student.name for student in students)}
    for student in students:
        for name in student.named_teachers:
            if name not in names and not is_there(name):
                key = "teacher" if name == student.taught_by else "label_teachers"
                raise UserError(
                    f"{student.at(key)}: '{student.name}' of --paths {student.path} learns from "
                    f"the plan's own '{name}', which is not made; add '{PLANNED}' to --paths"
                )
