"""A family of sizes made in steps, against the same sizes made otherwise: error rates and cost.

Whoever wants several sizes compares families, not sizes: a difference is averaged over the sizes,
which also averages the luck of a training out.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, TypeVar

import numpy as np

from espnet_kd.report.costs import SAME, Cost
from espnet_kd.report.paths import ONE_SHOT, OWN, PROGRESSIVE, OnPath, alike, by_way
from espnet_kd.scoring.bootstrap import (
    DRAWS,
    SEED,
    Interval,
    interval_of_seeds,
    paired_intervals,
)

MARGIN = 0.5  # points, where neither the plan nor the command line names one


class Member(OnPath, Protocol):
    """A student of a family."""

    @property
    def name(self) -> str:
        """Name in the report."""

    @property
    def steps(self) -> Optional[int]:
        """Trainings since the first teacher."""

    @property
    def cost(self) -> Cost:
        """Cost of its own training."""

    @property
    def stepwise(self) -> bool:
        """Whether its training is one that no student in one step has."""


Student = TypeVar("Student", bound=Member)


@dataclass(frozen=True)
class Margin:
    """Points within which one way counts as no worse.

    Attributes:
        points: Points of the error rate.
        where: What named it, before the report was made.
    """

    points: float = MARGIN
    where: str = "the default"

    def says(self) -> str:
        """Say that it was not chosen after the fact."""
        return f"{self.points:g} points, set before ({self.where})"


@dataclass(frozen=True)
class Family:
    """Sizes that two ways have both made.

    Attributes:
        against: Path of the other way.
        sizes: (student of the steps, student of the other way), the largest first.
        shared: Sizes that are one training on both ways: the first step.
    """

    against: str
    sizes: List[Tuple[str, str]]
    shared: List[Tuple[str, str]]

    @property
    def compared(self) -> List[Tuple[str, str]]:
        """Sizes that may differ."""
        return [pair for pair in self.sizes if pair not in self.shared]


@dataclass(frozen=True)
class FamilyResult:
    """Differences of a family on a test set, steps minus the other way.

    Attributes:
        family: The sizes.
        test_set: Name of the test set.
        by_size: Interval of each size that may differ.
        mean: Interval of the mean over them.
        sound: Whether all models recognise speech, and the set allows a conclusion.
    """

    family: Family
    test_set: str
    by_size: List[Interval]
    mean: Interval
    sound: bool


def families(students: Sequence[Student]) -> List[Family]:
    """List the other ways that have made two sizes of the steps or more."""
    ways = by_way(students)
    steps = ways.get(PROGRESSIVE, [])
    result = []
    for path, other in ways.items():
        if path == PROGRESSIVE:
            continue
        # Stages that keep all sizes, to fine-tune, are no further size: the last of them counts.
        sizes = {(a.params, a.device_bytes): (a, b) for a in steps for b in other if alike(a, b)}
        both = sorted(sizes.values(), key=lambda pair: -pair[0].params)
        names = [(a.name, b.name) for a, b in both]
        # Made twice in one shot it is the same; not with more epochs, nor with another objective
        # or schedule.
        twice = path in (ONE_SHOT, OWN)
        shared = [
            (a.name, b.name)
            for a, b in both
            if a is b or (twice and a.steps == 1 and not a.stepwise and _cost_alike(a, b))
        ]
        if len(names) > len(shared) and len(names) > 1:
            result.append(Family(path, names, shared))
    return result


def _cost_alike(a: Member, b: Member) -> bool:
    """Tell whether two trainings may be one: not of a plan's `family`, whose members add to it."""
    costs = a.cost.teacher_epochs, b.cost.teacher_epochs
    known = [cost for cost in costs if cost is not None]
    return len(known) < len(costs) or max(known) - min(known) <= SAME * max(known)


def compare_family(
    family: Family,
    test_set: str,
    errors: Mapping[str, np.ndarray],
    words: np.ndarray,
    sound: bool,
    draws: int = DRAWS,
    seed: int = SEED,
) -> FamilyResult:
    """Compare the two ways: one run by the bootstrap of its report, several over trainings, too.

    Args:
        family: The sizes.
        test_set: Name of the test set.
        errors: Errors by model. (runs, groups)
        words: Reference tokens. (groups,)
        sound: See `FamilyResult`.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
    """
    both = [np.stack([errors[pair[k]] for pair in family.compared]) for k in range(2)]
    both = [np.concatenate([part, part.mean(0)[None]]) for part in both]  # the mean comes last
    if both[0].shape[1] == 1:
        intervals = paired_intervals(both[0][:, 0], both[1][:, 0], words, draws, seed)
    else:
        intervals = [interval_of_seeds(a, b, words) for a, b in zip(*both)]
    *by_size, mean = intervals
    return FamilyResult(family, test_set, by_size, mean, sound)


def verdict(interval: Interval, margin: Margin, sound: bool = True) -> str:
    """Say what an interval shows of the steps, at a margin that was set before."""
    if not sound or interval.low == interval.high:  # nothing varies: there is no interval
        return "no conclusion"
    if interval.high < 0:
        return "better"
    if interval.high < margin.points:
        worse = "worse, but " if interval.low > 0 else ""
        return f"{worse}non-inferior at margin {margin.points:g}"
    if interval.low > margin.points:
        return f"worse by more than {margin.points:g}"
    return "worse" if interval.low > 0 else "not shown"


def trainings_of(ancestors: Mapping[str, Sequence[Path]], names: Sequence[str]) -> List[Path]:
    """List all trainings that made some students, each once; none where one's are unknown."""
    if not all(ancestors[name] for name in names):
        return []
    folders = [folder for name in names for folder in ancestors[name]]
    return list({folder.resolve(): folder for folder in folders}.values())


def family_to_json(
    family: Family, results: Sequence[FamilyResult], costs: Tuple[Cost, Cost], margin: Margin
) -> Dict[str, Any]:
    """Return what `results.json` says of a family.

    Args:
        family: The sizes.
        results: Its differences, one entry a test set.
        costs: Cost of the steps, and of the other way.
        margin: Margin of the verdicts.
    """
    differences = [
        {
            "test_set": result.test_set,
            "size": size,
            **asdict(interval),
            "verdict": verdict(interval, margin, result.sound),
        }
        for result in results
        for size, interval in (
            *zip(map(list, family.compared), result.by_size),
            (None, result.mean),
        )
    ]
    return {
        "against": family.against,
        "sizes": [list(pair) for pair in family.sizes],
        "shared": [list(pair) for pair in family.shared],
        "differences": differences,  # `size` null: the mean over the sizes that differ
        "cost": asdict(costs[0]),
        "cost_against": asdict(costs[1]),
    }
