"""Sizes for a target by measured sensitivity instead of a rule."""

import dataclasses
import logging
import math
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from espnet_kd.errors import UserError
from espnet_kd.students.architecture import Architecture

STEPS = 8  # a step takes about this part of the teacher's size


class Axis(NamedTuple):
    """One direction in which a model can shrink.

    Attributes:
        name: For the log.
        fields: Fields of `Architecture` that go down together.
        grid: They stay congruent to the teacher's modulo this.
        least: They are never below this.
        step: What is taken at a time, a multiple of `grid`.
    """

    name: str
    fields: Tuple[str, ...]
    grid: int
    least: int
    step: int


class _Trial(NamedTuple):
    """What a step along an axis was found to cost.

    Attributes:
        cost: Loss gained for each parameter saved.
        base: The model that the step was taken from.
        loss: The loss after it.
    """

    cost: float
    base: Architecture
    loss: float


def axes_of(teacher: Architecture) -> List[Axis]:
    """List the directions in which a model can shrink."""
    t = teacher
    grids = {
        "depth": (("num_blocks",), 1, 1),
        "width": (("hidden_size",), 2 * t.heads, 2 * t.heads),
        "feed-forward": (("linear_size",), 8, 8),
        "kernel": (("kernel_size",), 2, 3),
        "joint network": (("joint_size",), 8, 8),
    }
    if not t.conv_size1:  # a VGG-like front end is kept whole
        grids["front end"] = (("conv_size",), 4, 4)
    if t.decoder == "rnn":
        grids["predictor"] = (("decoder_size",), 8, 8)
        grids["label embedding"] = (("embed_size",), 8, 8)
    else:
        grids["label embedding"] = (("embed_size", "decoder_size"), 8, 8)
    return [
        Axis(name, fields, grid, least, grid * max(1, getattr(t, fields[0]) // STEPS // grid))
        for name, (fields, grid, least) in grids.items()
    ]


def allocate(
    teacher: Architecture,
    params: int,
    loss: Callable[[Architecture], float],
    where: str,
    measurements: int = 40,
) -> Architecture:
    """Shrink step by step where a parameter saved costs the least loss.

    A greedy descent: from the teacher down, each step is taken along the axis on which the
    loss of the untrained student (inherited weights) grows least for each parameter saved.
    What a step costs is measured again only when its last figure, from a larger model, is
    the lowest of all. When no measurement is left, the last figures stand. The last step is
    as small as it may be, and what it saves too much is given back where it costs most.

    Args:
        teacher: The sizes to start from.
        params: Parameters that the result has at most.
        loss: Measures a student without training; called at most `measurements` times.
        where: Name of the place in the plan, for messages.
        measurements: How many measurements there may be, at least one an axis and one more.

    Returns:
        The student's sizes; the same for the same losses.

    Raises:
        UserError: `params` is not less than the teacher's, or cannot be reached.
    """
    teacher.shrink_to(params, where)  # refuses what cannot be
    left = measurements

    def measure(what: str, student: Architecture) -> float:
        nonlocal left
        left -= 1
        found = loss(student)
        logging.info(
            f"sensitivity, measurement {measurements - left} of at most {measurements}: {what}, "
            f"{student.params:,} parameters, loss {found:.3f}"
        )
        return found if math.isfinite(found) else math.inf

    current, now = teacher, measure("the teacher", teacher)
    trials: Dict[str, _Trial] = {}
    while current.params > params:
        steps = {axis.name: _step(current, axis, params) for axis in axes_of(teacher)}
        possible = [name for name, student in steps.items() if student is not None]
        if not possible:
            raise UserError(f"{where}: no student of at most {params} parameters can be derived")
        while True:
            # An axis that was never measured comes first.
            best = min(possible, key=lambda name: trials[name].cost if name in trials else -1e30)
            student = steps[best]
            if left <= 0 or (best in trials and trials[best].base == current):
                break
            found = measure(f"{best} smaller", student)
            # What is saved beyond the target is worth nothing.
            saved = current.params - max(student.params, params)
            cost = (found - now) / saved if math.isfinite(found) else math.inf
            trials[best] = _Trial(cost, current, found)
        now = trials[best].loss
        logging.info(f"sensitivity: {best} is taken, {student.params:,} parameters")
        current = student
    for name in sorted(trials, key=lambda name: -trials[name].cost):
        axis = next(axis for axis in axes_of(teacher) if axis.name == name)
        current = _grown(current, axis, teacher, params)
    return current


def _grown(current: Architecture, axis: Axis, teacher: Architecture, params: int) -> Architecture:
    """Grow along an axis, not beyond the teacher, as far as the target allows."""
    size, full = (getattr(model, axis.fields[0]) for model in (current, teacher))
    for larger in range(size + axis.grid, full + 1, axis.grid):
        student = dataclasses.replace(current, **dict.fromkeys(axis.fields, larger))
        if student.params > params:
            break
        current = student
    return current


def _step(current: Architecture, axis: Axis, params: int) -> Optional[Architecture]:
    """Take one step along an axis, or less where that reaches the target."""
    size, student = getattr(current, axis.fields[0]), None
    for smaller in range(size - axis.grid, max(size - axis.step, axis.least) - 1, -axis.grid):
        student = dataclasses.replace(current, **dict.fromkeys(axis.fields, smaller))
        if student.params <= params:
            break
    return student
