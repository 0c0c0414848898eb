"""Numbers as a reader wants them, and the answer in a few sentences."""

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.report.comparisons import SIGNIFICANT, Comparison
from espnet_kd.report.costs import held_equal
from espnet_kd.report.paths import (
    ONE_SHOT,
    PROGRESSIVE,
    by_path,
    pairs,
    spoken,
    way_and_length,
)
from espnet_kd.report.rows import Row
from espnet_kd.scoring.bootstrap import Interval

UNKNOWN = "–"


def signed(x: float, digits: int = 1) -> str:
    """Format with a sign; `−` is the typographic minus; a rounded zero has none."""
    text = f"{x:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def fine(x: float, digits: int, most: int = 4) -> int:
    """Return how many decimals show that `x` is not 0: `digits` or more, at most `most`."""
    while digits < most and x and round(x, digits) == 0:
        digits += 1
    return digits


def interval(i: Interval, digits: int = 1) -> str:
    """Format the bounds of an interval, finer where a bound would look like 0."""
    digits = max(fine(x, digits) for x in (i.low, i.high))
    return f"{signed(i.low, digits)} to {signed(i.high, digits)}"


def difference(c: Comparison, digits: int = 2) -> str:
    """Format the difference of a comparison: without an interval where that would say nothing."""
    diff = signed(c.interval.diff, digits)
    if c.remark:
        return diff
    return f"{diff} ({interval(c.interval, digits)}){' †' if c.verdict == SIGNIFICANT else ''}"


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


def circumstances(speed: Mapping[str, Any]) -> str:
    """Say on what, and beside how much other work, the real-time factors were measured."""
    before, after = speed["load"]
    mode = "chunk by chunk" if speed.get("streaming") else "utterance by utterance"
    return (
        f"median over {speed['utterances']} utterances ({speed['audio_seconds']:.0f} s of "
        f"speech), decoded {mode}, not in batches, by all models in turn in one process on one "
        f"thread, in brackets the 95th percentile; {speed.get('device') or 'unknown processor'}, "
        f"cores: {speed['cores']}, load {before:.1f} before and {after:.1f} after (1 is the "
        "measurement's own)"
    )


def energy_measured(speed: Optional[Mapping[str, Any]]) -> str:
    """Say what the energy of decoding is counted of, or why it is not measured."""
    energy = (speed or {}).get("energy") or {}
    if not energy.get("counters"):
        why = energy.get("not_measured")
        return f"not measured ({why})" if why else "not measured here"
    return (
        f"for an hour of speech, of all that {', '.join(energy['counters'])} took meanwhile by "
        "RAPL's counters, idle cores and other work included"
    )


def p_value(p: float) -> str:
    """Format a p value, finer where rounding would move it to the other side of 0.05."""
    return "< 0.001" if p < 0.001 else f"{p:.4f}" if f"{p:.3f}" == "0.050" else f"{p:.3f}"


def answer(
    rows: Sequence[Row], test_sets: Sequence[str], comparisons: Sequence[Comparison]
) -> str:
    """Say what the run shows, in two to four sentences.

    How much smaller the smallest student is, what that cost, and, where there are such
    students of its size, how the progressive path compares with one shot (or with another way, if
    there is no one shot) and one shot with training from scratch.
    """
    teacher, students = rows[0], rows[1:]
    if not students:
        rates = ", ".join(f"{teacher.wer[s]:.1f} % on {s}" for s in test_sets)
        return (
            f"The only model, {teacher.name}, has {teacher.params:,} parameters and no student "
            f"yet. Its word error rate (WER) is {rates}."
        )
    # Of equally small ones the progressive student, since the paths stand in that order, and of
    # those the last: it was trained on.
    student = min((r for g in by_path(students).values() for r in g[::-1]), key=lambda r: r.params)
    known = {(c.model, c.against, c.test_set): c for c in comparisons}
    changes = "; on ".join(
        f"{s}, {student.wer[s]:.1f} % ({teacher.wer[s]:.1f} %): "
        + _change(known[student.name, teacher.name, s])
        for s in test_sets
    )
    sentences = [
        f"The smallest student, {student.name}, is {100 * student.compression:.1f} % smaller than "
        f"the teacher: {student.params:,} parameters instead of {teacher.params:,}."
        if student.params < teacher.params
        else f"No student is smaller than the teacher, which has {teacher.params:,} parameters; "
        f"{student.name} has {student.params:,}.",
        f"Its word error rate (WER, the teacher's in brackets) is, on {changes}.",
    ]
    order = list(by_path(students))
    for path in (PROGRESSIVE, ONE_SHOT):
        both = [(a, b) for a, b in pairs(students) if way_and_length(str(a.path))[0] == path]
        if both:
            a, b = min(both, key=lambda pair: (pair[0].params, *_rank(pair[1], order)))
            changes = "; on ".join(
                f"{s}, {a.wer[s]:.1f} % ({b.wer[s]:.1f} %): {_change(known[a.name, b.name, s])}"
                for s in test_sets
            )
            sentences.append(
                f"The {spoken(str(a.path))} student {a.name} against {b.name}, "
                f"{spoken(str(b.path))} at the same size: on {changes}."
            )
            if path == PROGRESSIVE:
                names = spoken(path), spoken(str(b.path))
                updates = a.cost.updates, b.cost.updates
                sentences.append(held_equal(a.path_cost, b.path_cost, updates, names))
    return " ".join(sentences)


def made_once(also_on: Mapping[str, Sequence[str]]) -> List[str]:
    """Say of which other paths students are, too, as a line of a legend; none: no line.

    Args:
        also_on: Further paths of students, by name of the student.
    """
    once = [
        f"{name} is also that of {', '.join(map(spoken, paths))}"
        for name, paths in also_on.items()
        if paths
    ]
    line = f"- *Made once*: {'; '.join(once)}, which would have trained the same, to the bit."
    return [line] * bool(once)


def _rank(other: Row, order: Sequence[str]) -> Tuple[bool, int, int]:
    """One shot comes before other paths, fewer epochs before more."""
    path = str(other.path)
    name, length = way_and_length(path)
    return name != ONE_SHOT, length, order.index(path)


def _change(c: Comparison) -> str:
    i = c.interval
    side = "higher" if i.diff > 0 else "lower" if i.diff < 0 else "of difference"
    points = f"{abs(i.diff):.{fine(i.diff, 1)}f}"
    if c.remark:
        return f"{points} points {side} ({c.remark})"
    return (
        f"{points} points {side}, {c.verdict} (95 % interval of the difference "
        f"{interval(i)}, p {p_value(c.p_holm)} corrected)"
    )
