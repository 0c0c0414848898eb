"""Sizes for a target by measured sensitivity instead of a rule."""

import functools
import logging
import math
from typing import Callable, Dict, List, NamedTuple, Optional

from espnet_kd.errors import UserError
from espnet_kd.spec.size_table import PER_BLOCK, Axis, PerBlock
from espnet_kd.students.architecture import Architecture, Chooser
from espnet_kd.students.importance import spaced_blocks

STEPS = 8  # a step takes about this part of the teacher's size


class _Trial(NamedTuple):
    """The cost of a step along an axis, as it was measured.

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
    return [axis for axis in teacher.axes if axis.label]


def allocate(
    teacher: Architecture,
    params: int,
    loss: Callable[[Architecture], float],
    where: str,
    measurements: int = 40,
    kept: Optional[Chooser] = None,
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
        measurements: Largest number of measurements, at least one an axis and one more.
        kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.

    Returns:
        The student's sizes; the same for the same losses.

    Raises:
        UserError: `params` is not less than the teacher's, or cannot be reached.
    """
    teacher.shrink_to(params, where, kept)  # refuses what cannot be
    choose = kept or functools.partial(spaced_blocks, teacher.num_blocks)
    left = measurements

    def measure(what: str, student: Architecture) -> float:
        nonlocal left
        left -= 1
        value = loss(student)
        logging.info(
            f"sensitivity, measurement {measurements - left} of at most {measurements}: {what}, "
            f"{student.params:,} parameters, loss {value:.3f}"
        )
        return value if math.isfinite(value) else math.inf

    current, now = teacher, measure("the teacher", teacher)
    trials: Dict[str, _Trial] = {}
    while current.params > params:
        offers = {
            axis.label: _step(current, axis, teacher, params, choose) for axis in axes_of(teacher)
        }
        steps = {name: student for name, student in offers.items() if student is not None}
        if not steps:
            raise UserError(f"{where}: no student of at most {params} parameters can be derived")
        while True:
            # An axis that was never measured comes first.
            best = min(steps, key=lambda name: trials[name].cost if name in trials else -1e30)
            student = steps[best]
            if left <= 0 or (best in trials and trials[best].base == current):
                break
            value = measure(f"{best} smaller", student)
            # What is saved beyond the target is worth nothing.
            saved = current.params - max(student.params, params)
            cost = (value - now) / saved if math.isfinite(value) else math.inf
            trials[best] = _Trial(cost, current, value)
        now = trials[best].loss
        logging.info(f"sensitivity: {best} is taken, {student.params:,} parameters")
        current = student
    for name in sorted(trials, key=lambda name: -trials[name].cost):
        axis = next(axis for axis in axes_of(teacher) if axis.label == name)
        current = _grown(current, axis, teacher, params, choose)
    return current


def _grown(
    current: Architecture, axis: Axis, teacher: Architecture, params: int, kept: Chooser
) -> Architecture:
    """Grow along an axis, not beyond the teacher, as far as the target allows."""
    whole = teacher.with_blocks(kept(current.num_blocks))
    if axis.field == "num_blocks":
        whole = teacher
    size, full, grid = _largest(current, axis), _largest(whole, axis), teacher.grid(axis)
    for larger in range(size + grid, full + 1, grid):
        student = _with_size(current, axis, larger, teacher, kept)
        if student.params > params:
            break
        current = student
    return current


def _step(
    current: Architecture, axis: Axis, teacher: Architecture, params: int, kept: Chooser
) -> Optional[Architecture]:
    """Take one step along an axis, or less where that reaches the target."""
    size, grid, student = _largest(current, axis), teacher.grid(axis), None
    step = grid * max(1, _largest(teacher, axis) // STEPS // grid)
    for smaller in range(size - grid, max(size - step, axis.least or grid) - 1, -grid):
        student = _with_size(current, axis, smaller, teacher, kept)
        if student.params <= params:
            break
    return student


def _largest(model: Architecture, axis: Axis) -> int:
    return max(model.of_blocks(axis))


def _with_size(
    current: Architecture, axis: Axis, size: int, teacher: Architecture, kept: Chooser
) -> Architecture:
    """Give a model another size along an axis.

    Blocks that differ have each lost equally many units of their teacher's, none more than
    leaves the least; another depth has other blocks.
    """
    depth = size if axis.field == "num_blocks" else current.num_blocks
    whole = teacher.with_blocks(kept(depth))
    before = teacher.with_blocks(kept(current.num_blocks))
    sizes: Dict[str, PerBlock] = {"num_blocks": depth}
    for other in PER_BLOCK:
        pairs = zip(before.of_blocks(other), current.of_blocks(other))
        taken = max(full - now for full, now in pairs)
        if other is axis:
            taken = _largest(before, axis) - size
        grid = other.grid
        least = other.least or grid
        sizes[other.field] = tuple(
            max(full - taken, min(full, least + (full - least) % grid))
            for full in whole.of_blocks(other)
        )
    if not axis.per_block:
        sizes[axis.field] = size
    return current.resized(**sizes)
