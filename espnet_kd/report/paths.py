"""On which path a student lies, who taught it, and what the whole path cost."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Protocol, Sequence, Tuple, TypeVar

from espnet_kd.common.records import GATE, STUDENT, Figures, GateResult, Student
from espnet_kd.errors import UserError
from espnet_kd.report.costs import Cost, cost_of
from espnet_kd.spec.stage import THROUGH

PROGRESSIVE = "progressive"
OTHER = "other"  # of a model that no plan made
# Where there are several paths they stand in this order, then the others as they come.
ONE_SHOT = "one_shot"
OWN = "one_shot_own"  # each size with the epochs of its stage
KNOWN = (PROGRESSIVE, ONE_SHOT, "inherited", "scratch")
SAME_BYTES = 0.05  # bits that were learnt take not quite the same bytes


class OnPath(Protocol):
    """Whatever has a path and a number of parameters."""

    @property
    def path(self) -> Any:
        """Name of the path."""

    @property
    def params(self) -> int:
        """Number of parameters."""

    @property
    def device_bytes(self) -> Optional[float]:
        """Bytes on a device of a model whose method has a form for it; None: it has none."""

    @property
    def also_on(self) -> Sequence[str]:
        """Names of other paths that would have made the same student, and have none for it."""


Named = TypeVar("Named", bound=OnPath)


@dataclass(frozen=True)
class Lineage:
    """Origin and costs of a student; None where the run did not record it.

    Attributes:
        path: `progressive`, `one_shot`, `scratch`, ..., `other`; None for the first teacher.
        teacher: Experiment it was derived from, and learnt from unless `taught_by` is named.
        taught_by: Experiment whose posteriors it learnt, if those are another's.
        steps: Trainings since the first teacher, its own among them.
        trainings: Their experiments, its own first.
        cost: Cost of its own training.
        path_cost: Cost of all of them.
        gate: `verdict`, and the WERs it was based on.
        before_training: Loss and WER of the student as it was derived.
        stepwise: Whether its training is one that no student in one step has: in rounds, since a
            gate asked for more epochs, or at a place in the schedule of several stages.
    """

    path: Optional[str] = None
    teacher: Optional[str] = None
    taught_by: Optional[str] = None
    steps: Optional[int] = None
    trainings: Tuple[Path, ...] = ()
    cost: Cost = Cost()
    path_cost: Cost = Cost()
    gate: Optional[GateResult] = None
    before_training: Optional[Figures] = None
    stepwise: bool = False


def lineage(exp: Path, first: Path, params: int) -> Lineage:
    """Follow `student.json` from a student's experiment back to that of the first teacher.

    Args:
        exp: The student's experiment.
        first: Experiment of the first teacher.
        params: Parameters of the first teacher.

    Raises:
        UserError: a file is not what it should be, or a student is its own ancestor.
    """
    student = STUDENT.read_if_there(exp) or Student()
    # Runs before there were paths knew one.
    path = student.get("path") or (PROGRESSIVE if student else OTHER)
    ancestors, complete = _way(exp, first)
    gate = GATE.read_if_there(exp)
    rounds = gate.get("rounds", []) if gate else []
    return Lineage(
        path=path,
        teacher=student.get("teacher"),
        taught_by=student.get("taught_by"),
        steps=len(ancestors) if complete else None,
        trainings=tuple(ancestors) if complete else (),
        cost=cost_of([exp], first, params),
        path_cost=cost_of(ancestors, first, params) if complete else Cost(),
        gate=gate,
        before_training=student.get("before_training") or None,
        stepwise=len(rounds) > 1 or student.get("anneal") == THROUGH,
    )


def _way(exp: Path, first: Path) -> Tuple[List[Path], bool]:
    """Return the students from `exp` up to the first teacher, and whether all were found."""
    ancestors = [exp]
    while True:
        student = STUDENT.read_if_there(ancestors[-1]) or Student()
        if not student:
            # Beyond the first step: a teacher that is no student, where every way begins.
            return (ancestors[:-1], True) if len(ancestors) > 1 else (ancestors, False)
        above = student.get("teacher")
        if not above:
            return ancestors, True
        teacher = Path(above)
        if not teacher.is_dir():  # exp/ was moved: experiments lie side by side
            teacher = ancestors[-1].parent / teacher.name
        if teacher.resolve() == first.resolve():
            return ancestors, True
        if not teacher.is_dir():
            return ancestors, False
        if teacher.resolve() in (folder.resolve() for folder in ancestors):
            where = f"{ancestors[-1]}/{STUDENT.file}: teacher"
            raise UserError(f"{where}: {teacher} learnt from this student itself")
        ancestors.append(teacher)


def by_path(students: Iterable[Named]) -> Dict[str, List[Named]]:
    """Group students by path, in the order of `KNOWN`; within a path the largest first."""
    students = list(students)
    paths = dict.fromkeys(s.path for s in students)
    order = [p for p in KNOWN if p in paths] + [p for p in paths if p not in KNOWN]
    return {
        path: sorted((s for s in students if s.path == path), key=lambda s: -s.params)
        for path in order
    }


def by_way(students: Iterable[Named]) -> Dict[str, List[Named]]:
    """Group students by path, a step that is made once with all paths that begin with it."""
    students = list(students)
    return {
        path: sorted(
            [*(s for s in students if path in s.also_on), *group], key=lambda s: -s.params
        )
        for path, group in by_path(students).items()
    }


def pairs(students: Iterable[Named]) -> List[Tuple[Named, Named]]:
    """Return the pairs of students of one size that answer whether the path matters.

    Each student of the progressive path with each of equal size on another path, then each
    one-shot student with each from scratch that was trained as long.
    """
    groups = by_path(students)
    progressive = groups.get(PROGRESSIVE, [])
    others = [s for path, group in groups.items() if path != PROGRESSIVE for s in group]
    pairs_of_one_size = [(a, b) for a in progressive for b in others if alike(a, b)]
    return pairs_of_one_size + [
        (a, b)
        for path, group in groups.items()
        for a in group
        for b in groups.get(f"scratch{path.removeprefix(ONE_SHOT)}", [])
        if _split(path)[0] == ONE_SHOT and alike(a, b)
    ]


def alike(a: OnPath, b: OnPath) -> bool:
    """Tell whether two students have one size, on a device, too: of few bits or in floats."""
    ours, theirs = a.device_bytes or 0, b.device_bytes or 0
    return a.params == b.params and abs(ours - theirs) <= SAME_BYTES * max(ours, theirs)


def _split(path: str) -> Tuple[str, str]:
    """Split a path's name into that of the way, and of how long it trains (`_own2`)."""
    match = re.fullmatch(r"(.+?)(_own\d*)?", path)
    return (match[1], match[2] or "") if match else (path, "")


def way_and_length(path: str) -> Tuple[str, int]:
    """Return the way that a path is, and a number that orders how long its students train.

    0: as long as all stages together; 1: own epochs; 3: two more than these.
    """
    name, how_long = _split(path)
    return name, 1 + int(how_long.removeprefix("_own") or 0) if how_long else 0


def spoken(path: str) -> str:
    """Return the name of a path as it stands in a sentence."""
    name, how_long = _split(path)
    extra = how_long.removeprefix("_own")
    how = f" with own epochs{f' and {extra} more' if extra else ''}" if how_long else ""
    return name.replace("_", " ") + how
