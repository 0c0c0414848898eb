"""The plan after what its gates have found: a pure function of both.

Nothing else is remembered, so that a run which was killed goes on to the same result.
"""

import dataclasses
from typing import Callable, List, NamedTuple, Sequence

from espnet_kd.plan.student import Student
from espnet_kd.plan.verdict import Round, decide
from espnet_kd.spec.plan import CompressionPlan
from espnet_kd.spec.stage import Stage


class Effective(NamedTuple):
    """The progressive path as it is to be run.

    Attributes:
        students: All of them in their order.
        chain: Students that are a step of the way down: without the ones that a gate did not
            let pass.
        stopped: Whether a gate has ended the compression.
    """

    students: List[Student]
    chain: List[Student]
    stopped: bool

    @property
    def best(self) -> List[Student]:
        """The chain; if not even the first student passed, that one."""
        return self.chain or self.students[-1:]


def effective(plan: CompressionPlan, rounds_of: Callable[[str], Sequence[Round]]) -> Effective:
    """Apply the gates.

    Args:
        plan: The plan.
        rounds_of: Reader of what was measured of a student, by its name; empty: nothing yet,
            then it is taken to pass.
    """
    students: List[Student] = []
    chain: List[Student] = []
    for stage in plan.stages:
        tries = [Student.of(stage)]
        while tries:
            student = tries.pop(0)
            above = student.method_conf.made_of or (chain[-1].name if chain else None)
            student = dataclasses.replace(student, teacher=above)
            rounds = list(rounds_of(student.name)) if student.gate else []
            verdict = decide(student.gate, rounds) if student.gate and rounds else "pass"
            student = _trained_on(student, rounds, verdict)
            students.append(student)
            if verdict == "stop":
                return Effective(students, chain, True)
            if verdict == "split":
                tries = _in_two_steps(Student.of(stage), plan.stages[: stage.number])
            else:
                chain.append(student)
    return Effective(students, chain, False)


def _trained_on(student: Student, rounds: Sequence[Round], verdict: str) -> Student:
    """Say how long a student is trained that was, or is to be, trained longer."""
    if verdict == "longer":
        assert student.gate is not None  # whose verdict it is
        return dataclasses.replace(student, until=rounds[-1].epochs + student.gate.epochs)
    if len(rounds) > 1:
        return dataclasses.replace(student, until=rounds[-1].epochs)
    return student


def _in_two_steps(stage: Student, stages_above: Sequence[Stage]) -> List[Student]:
    """The student in between, and the stage once more, with its own sizes.

    Neither is split again: whichever of them does not pass ends the compression.
    """
    assert stage.gate is not None  # which asks for it
    gate = stage.gate.changed(otherwise="stop")
    both = dataclasses.replace(stage, gate=gate, stages_above=tuple(stages_above))
    return [
        dataclasses.replace(both, name=f"{stage.name}_half", half=True),
        dataclasses.replace(both, name=f"{stage.name}_again"),
    ]
