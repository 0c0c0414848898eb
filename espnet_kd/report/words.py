"""Numbers as a reader wants them, and the answer in two sentences."""

from typing import Optional, Sequence

from espnet_kd.report.rows import Row
from espnet_kd.scoring.bootstrap import Interval

UNKNOWN = "–"


def signed(x: float, digits: int = 1) -> str:
    """Format with a sign; `−` is the typographic minus; a rounded zero has none."""
    text = f"{x:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def interval(i: Interval, digits: int = 1) -> str:
    """Format the bounds of an interval, finer where a bound would look like 0."""
    if min(abs(i.low), abs(i.high)) < 0.05:
        digits = max(digits, 2)
    return f"{signed(i.low, digits)} to {signed(i.high, digits)}"


def number(x: Optional[float], digits: int = 1) -> str:
    """Format with thousands separators, or `–`."""
    return UNKNOWN if x is None else f"{x:,.{digits}f}"


def duration(seconds: Optional[float]) -> str:
    """Format seconds as `42 s`, `3.5 min` or `2.1 h`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def answer(rows: Sequence[Row], test_sets: Sequence[str]) -> str:
    """Say in two sentences what the run shows: how much smaller, and what it cost."""
    teacher, students = rows[0], rows[1:]
    if not students:
        rates = ", ".join(f"{teacher.wer[s]:.1f} % on {s}" for s in test_sets)
        return (
            f"The only model, {teacher.name}, has {teacher.params:,} parameters and no student "
            f"yet. Its word error rate (WER) is {rates}."
        )
    student = min(students, key=lambda row: row.params)
    size = (
        f"The smallest student, {student.name}, is {100 * student.compression:.1f} % smaller than "
        f"the teacher: {student.params:,} parameters instead of {teacher.params:,}."
    )
    changes = "; on ".join(_change(s, teacher, student) for s in test_sets)
    return f"{size} Its word error rate (WER, the teacher's in brackets) is, on {changes}."


def _change(test_set: str, teacher: Row, student: Row) -> str:
    i = student.wer_diff[test_set]
    verdict = "significant" if i.significant else "not significant"
    side = "higher" if i.diff > 0 else "lower"
    return (
        f"{test_set}, {student.wer[test_set]:.1f} % ({teacher.wer[test_set]:.1f} %): "
        f"{abs(i.diff):.1f} points {side}, {verdict} (95 % interval of the difference "
        f"{interval(i)})"
    )
