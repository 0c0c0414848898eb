"""Which differences are more than chance, given how many are looked at."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence

from espnet_kd.report.caveats import remark
from espnet_kd.report.paths import pairs
from espnet_kd.report.rows import Row
from espnet_kd.report.scores import Scores
from espnet_kd.scoring.bootstrap import Interval
from espnet_kd.scoring.matched_pairs import holm, matched_pairs

LEVEL = 0.05
TEACHER, PATHS = "teacher", "paths"
SIGNIFICANT = "significant"


@dataclass(frozen=True)
class Comparison:
    """WER of `model` minus that of `against` on a test set.

    Attributes:
        model: Name of a student.
        against: Name of the first teacher, or of a student of the same size.
        family: `teacher` or `paths`: the comparisons that Holm's correction takes together.
        test_set: Name of the test set.
        interval: The difference in points and its 95 % interval (paired bootstrap).
        z: Statistic of the matched-pairs test.
        p: p value of its test.
        p_holm: The p value after correction for all comparisons of the family.
        remark: Why this difference allows no verdict; such comparisons are not corrected for.
    """

    model: str
    against: str
    family: str
    test_set: str
    interval: Interval
    z: float
    p: float
    p_holm: float
    remark: Optional[str] = None

    @property
    def verdict(self) -> str:
        """Say what both tests allow to be said; every mark of significance follows it."""
        if self.remark:
            return self.remark
        if not self.interval.significant or self.p >= LEVEL:
            return "not significant"
        if self.p_holm >= LEVEL:
            return "significant alone, not among all comparisons"
        return SIGNIFICANT

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Comparison":
        """Read what `to_json` wrote (`remark` is missing in older reports)."""
        tests: Dict[str, Any] = {name: data.get(name) for name in ("z", "p", "p_holm", "remark")}
        return cls(
            data["model"],
            data["against"],
            data["family"],
            data["test_set"],
            Interval(data["diff"], data["low"], data["high"]),
            **tests,
        )

    def to_json(self) -> Dict[str, Any]:
        """Return the comparison for `results.json`."""
        data = asdict(self)
        data.update(data.pop("interval"), verdict=self.verdict)
        data["z"] = self.z if math.isfinite(self.z) else None  # JSON knows no infinity
        return data


def compare(rows: Sequence[Row], test_sets: Sequence[str], scores: Scores) -> List[Comparison]:
    """Compare all students with the first teacher, and the paths with each other."""
    first, *students = rows
    with_teacher = [
        _compare(row, first, TEACHER, s, row.wer_diff[s], scores)
        for row in students
        if row.wer_diff is not None
        for s in test_sets
    ]
    compared = pairs(students)
    names = [(a.name, b.name) for a, b in compared]
    intervals = {s: scores.intervals(names, "wer", s) for s in test_sets}
    between_paths = [
        _compare(a, b, PATHS, s, intervals[s][k], scores)
        for k, (a, b) in enumerate(compared)
        for s in test_sets
    ]
    return [*_corrected(with_teacher), *_corrected(between_paths)]


def _compare(
    model: Row, other: Row, family: str, test_set: str, interval: Interval, scores: Scores
) -> Comparison:
    ours, theirs = (scores.errors(m.name, "wer", test_set) for m in (model, other))
    grouping = scores.groupings[test_set]
    test = matched_pairs(ours, theirs, grouping)
    counts = [scores.counts[m.name, "wer", test_set] for m in (model, other)]
    why = remark(model.name, other.name, counts, grouping.count)
    return Comparison(
        model.name, other.name, family, test_set, interval, test.z, test.p, test.p, why
    )


def _corrected(family: List[Comparison]) -> List[Comparison]:
    corrected = iter(holm([c.p for c in family if not c.remark]))
    return [c if c.remark else replace(c, p_holm=next(corrected)) for c in family]
