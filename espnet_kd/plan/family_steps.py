"""What other paths make of the stages that a plan's `family` has become."""

import dataclasses
from typing import List, Sequence

from espnet_kd.errors import UserError
from espnet_kd.plan.student import Student
from espnet_kd.spec.method import DEFAULT, MethodOptions


def line_to(steps: Sequence[Student]) -> List[Student]:
    """Leave out the steps that the last one does not come from: other members of its family.

    Args:
        steps: Steps of the plan's way, each after its teacher.
    """
    line: List[Student] = list(steps[-1:])
    for step in reversed(steps[:-1]):
        if line[0].teacher == step.name:
            line.insert(0, step)
    return line


def alone(stage: Student) -> Student:
    """Return a stage of a family as one that makes a student of its size alone.

    Args:
        stage: Any stage; others than a family's are returned as they are.
    """
    if stage.method_conf.made_of is not None:
        return dataclasses.replace(stage, method=DEFAULT, method_conf=MethodOptions())
    if getattr(stage.method_conf, "nested", None) is None:
        return stage
    conf = stage.method_conf.without("nested")
    return dataclasses.replace(stage, method_conf=conf if conf.written else MethodOptions())


def check_steps(path: str, steps: Sequence[Student]) -> None:
    """Refuse a path through steps that are trained in one.

    Args:
        path: Name of the path.
        steps: Steps that it would take.

    Raises:
        UserError: it would go through the members of a family.
    """
    member = next((step for step in steps if step.method_conf.made_of is not None), None)
    if member is not None:
        raise UserError(
            f"--paths {path}: goes through all steps, and '{member.name}' is trained inside "
            f"'{member.teacher}' ('family'); take one_shot, inherited or scratch, or name a stage "
            "with --paths_at"
        )
