"""Sizes for a target by measured sensitivity instead of a rule."""

import functools
import logging
import math
from typing import Callable, Dict, List, NamedTuple, Optional

from espnet_kd.errors import UserError
from espnet_kd.spec.size_table import PER_BLOCK, Axis, PerBlock
from espnet_kd.students.architecture import PARAMETERS, Architecture, Chooser, Counted
from espnet_kd.students.importance import spaced_blocks

STEPS = 8  # a step takes about this part of the size that a leg of the way starts from
LEG = 2.6  # largest factor of a leg
# Powers of the wanted share that sizes do not fall below on a long way. Ours: the untrained loss
# of what is left of a model tells little, and leaves a large predictor beside a tiny encoder.
FLOORS = {
    "width": 0.4,
    "feed-forward": 0.85,
    "front end": 0.5,
    "predictor": 0.5,
    "joint network": 0.5,
    "label embedding": 0.5,
}
UNMEASURED = 1.5  # factor that is warned of when it was taken on figures of larger models


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
    most: int,
    loss: Callable[[Architecture], float],
    where: str,
    measurements: int = 40,
    kept: Optional[Chooser] = None,
    counted: Counted = PARAMETERS,
) -> Architecture:
    """Shrink step by step where a parameter (or byte) saved costs the least loss.

    A greedy descent: from the teacher down, each step is taken along the axis on which the
    loss of the untrained student (inherited weights) grows least for each parameter saved.
    What a step costs is measured again only when its last figure, from a larger model, is
    the lowest of all. When no measurement is left, the last figures stand. The last step is
    as small as it may be, and what it saves too much is given back where it costs most.

    What a model that was cut to pieces loses by one more cut says little. So a long way is gone
    in legs of a factor of at most `LEG`, after each of which everything is measured anew, with
    as many measurements; and no leg of several goes below the floors of the whole way
    (`floors_of`).

    Args:
        teacher: The sizes to start from.
        most: Size of the result, at most.
        loss: Measures a student without training; called at most `measurements` times a leg.
        where: Name of the place in the plan, for messages.
        measurements: Largest number of measurements of a leg, at least one an axis and one more.
        kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.
        counted: What a size is: parameters, or the bytes of a checkpoint.

    Returns:
        The student's sizes; the same for the same losses.

    Raises:
        UserError: `most` is not less than the teacher's size, or cannot be reached.
    """
    teacher.check_reach(most, where, counted)
    choose = kept or functools.partial(spaced_blocks, teacher.num_blocks)
    unit, size = counted
    whole = size(teacher)
    ratio = whole / most
    legs = max(1, math.ceil(math.log(ratio) / math.log(LEG)))
    floors = floors_of(teacher, most / whole) if legs > 1 else {}
    if legs > 1:
        logging.warning(
            f"{where}: a step of a factor of {ratio:.1f} is large for 'allocate: sensitivity', "
            "whose sizes were 2 to 5 points worse than those of 'deep' at factors of 12 and 24 "
            "(docs/results/progressive.md)"
        )
    current, of_all = teacher, (loss, choose, measurements, counted)
    for leg in range(1, legs + 1):
        goal = most if leg == legs else round(whole / ratio ** (leg / legs))
        if legs > 1:
            logging.info(f"sensitivity, leg {leg} of {legs}: to {goal:,} {unit}")
        if size(current) <= goal:  # the leg before has ended lower than it had to
            continue
        try:
            current = _Descent(teacher, current, goal, floors, *of_all).run()
        except _OutOfReach:
            logging.warning(
                f"{where}: sensitivity cannot reach {goal:,} {unit} above its floors "
                f"({', '.join(f'{name} {least}' for name, least in floors.items())}); it goes "
                "below them: look at the sizes"
            )
            floors = {}
            try:
                current = _Descent(teacher, current, goal, {}, *of_all).run()
            except _OutOfReach:
                raise UserError(
                    f"{where}: no student of at most {most:,} {unit} can be derived"
                ) from None
    return current


def floors_of(teacher: Architecture, share: float) -> Dict[str, int]:
    """Return the least sizes of a student, by the label of the axis.

    Two blocks; heads that are wide enough (`narrowest`); and powers (`FLOORS`) of the wanted
    share: the square root is what would be left if all matrices shrank alike.
    """
    floors = {"depth": min(2, teacher.num_blocks)}
    for axis in axes_of(teacher):
        if axis.label in FLOORS:
            full, grid = _largest(teacher, axis), teacher.grid(axis)
            least = teacher.narrowest if axis.label == "width" else 0
            part = int(share ** FLOORS[axis.label] * full) // grid * grid
            floors[axis.label] = min(full, max(least, part, grid))
    return floors


class _OutOfReach(Exception):
    """No step is left above the floors."""


class _Descent:
    """One leg of the way down.

    Args:
        teacher: The sizes that the way starts from.
        start: The sizes that this leg starts from.
        most: Size of the result, at most.
        floors: Least sizes, by the label of the axis.
        loss: Measures a student without training.
        kept: Chooser of blocks.
        measurements: Largest number of measurements.
        counted: See `allocate`.
    """

    def __init__(
        self,
        teacher: Architecture,
        start: Architecture,
        most: int,
        floors: Dict[str, int],
        loss: Callable[[Architecture], float],
        kept: Chooser,
        measurements: int,
        counted: Counted,
    ) -> None:
        self.teacher, self.current, self.most, self.kept = teacher, start, most, kept
        self.start, self.floors = start, floors
        self.unit, self.size = counted
        self.loss, self.left, self.measurements = loss, measurements, measurements
        self.measured = self.size(start)  # of the smallest model that was measured and taken

    def measure(self, what: str, student: Architecture) -> float:
        """Measure a student; a loss that is no number is infinite."""
        self.left -= 1
        value = self.loss(student)
        logging.info(
            f"sensitivity, measurement {self.measurements - self.left} of at most "
            f"{self.measurements}: {what}, {self.size(student):,} {self.unit}, loss {value:.3f}"
        )
        return value if math.isfinite(value) else math.inf

    def run(self) -> Architecture:
        """Go down.

        Raises:
            _OutOfReach: no axis can shrink any further.
        """
        now = self.measure("the start", self.current)
        trials: Dict[str, _Trial] = {}
        while self.size(self.current) > self.most:
            offers = {axis.label: self.step(axis) for axis in axes_of(self.teacher)}
            steps = {name: student for name, student in offers.items() if student is not None}
            if not steps:
                raise _OutOfReach
            while True:
                # An axis that was never measured comes first.
                best = min(steps, key=lambda name: trials[name].cost if name in trials else -1e30)
                student = steps[best]
                known = trials.get(best)
                if known and (self.left <= 0 or known.base == self.current):
                    break
                value = self.measure(f"{best} smaller", student)
                # What is saved beyond the target is worth nothing.
                saved = self.size(self.current) - max(self.size(student), self.most)
                cost = (value - now) / saved if math.isfinite(value) else math.inf
                trials[best] = _Trial(cost, self.current, value)
            if trials[best].base == self.current:
                self.measured = self.size(student)
            now = trials[best].loss
            logging.info(f"sensitivity: {best} is taken, {self.size(student):,} {self.unit}")
            self.current = student
        if self.measured > UNMEASURED * self.size(self.current):
            logging.warning(
                f"sensitivity: the way from {self.measured:,} to {self.size(self.current):,} "
                f"{self.unit} was not measured, {self.measurements} measurements were too few; "
                "look at the sizes"
            )
        for name in sorted(trials, key=lambda name: -trials[name].cost):
            axis = next(axis for axis in axes_of(self.teacher) if axis.label == name)
            self.current = self.grown(axis)
        return self.current

    def step(self, axis: Axis) -> Optional[Architecture]:
        """Take one step along an axis, or less where that reaches the target."""
        size, grid, student = _largest(self.current, axis), self.teacher.grid(axis), None
        step = grid * max(1, _largest(self.start, axis) // STEPS // grid)
        least = max(self.floors.get(axis.label, 0), axis.least or grid)
        for smaller in range(size - grid, max(size - step, least) - 1, -grid):
            student = _with_size(self.current, axis, smaller, self.teacher, self.kept)
            if self.size(student) <= self.most:
                break
        return student

    def grown(self, axis: Axis) -> Architecture:
        """Grow along an axis, not beyond the teacher, as far as the target allows."""
        current, teacher = self.current, self.teacher
        whole = teacher.with_blocks(self.kept(current.num_blocks))
        if axis.field == "num_blocks":
            whole = teacher
        size, full, grid = _largest(current, axis), _largest(whole, axis), teacher.grid(axis)
        for larger in range(size + grid, full + 1, grid):
            student = _with_size(current, axis, larger, teacher, self.kept)
            if self.size(student) > self.most:
                break
            current = student
        return current


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
