"""Progress with an ETA: one line of a terminal that changes, plain lines in a log.

A plain line begins with `[progress]`; the recipe's local job runner copies such lines
from a job's log to the terminal.
"""

import os
import sys
import time
from typing import Iterable, Iterator, List, Optional, Sized, Tuple, TypeVar, cast

Item = TypeVar("Item")
MARK = "[progress]"
CLEAR = "\r\x1b[K"
LINE = 80  # columns of a line in a log
LEFT = len(MARK) + 1  # of them before the label
LABEL = 14  # of a line that would be longer
FIRST = 2.0  # seconds until the first line, which says what to expect


def clock(seconds: float) -> str:
    """Format seconds as `M:SS` or `H:MM:SS`."""
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def show(text: str, last: bool = False) -> None:
    """Show where some work is, on stderr.

    Args:
        text: Text without `[progress]`.
        last: Whether the work has ended: then the line of a terminal stays.
    """
    if not sys.stderr.isatty():
        print(f"{MARK} {text}", file=sys.stderr, flush=True)
        return
    # The cursor goes back to where the line begins, so that whatever comes next replaces it.
    text = text if len(text) < (width := _columns()) else f"{text[: width - 2]}\u2026"
    print(f"{CLEAR}{text}", end="\n" if last else "\r", file=sys.stderr, flush=True)


def clear() -> None:
    """Empty the line that changes, for other text."""
    if sys.stderr.isatty():
        print(CLEAR, end="", file=sys.stderr, flush=True)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def pace(speed: float, unit: str) -> str:
    """Say how fast it goes: `2.5 utt/s`, or `40 s/utt` where that says more.

    >>> pace(2.5, "utt"), pace(0.025, "utt")
    ('2.5 utt/s', '40 s/utt')
    """
    return f"{speed:.1f} {unit}/s" if speed >= 0.2 or speed == 0 else f"{1 / speed:.0f} s/{unit}"


class Progress:
    """Count finished items and say now and then how long the rest will take.

    Args:
        label: Name of the work, e.g. `decode test_seen`.
        total: Items in all.
        unit: Name of an item, e.g. `utt`.
        interval: Seconds between two lines.
        done: Items finished before this run (not counted in the speed).
    """

    def __init__(
        self, label: str, total: int, unit: str = "utt", interval: float = 10.0, done: int = 0
    ) -> None:
        self.label, self.total, self.unit, self.interval = label, total, unit, interval
        self.count = self.first = done
        self.start = time.monotonic()
        self.due = self.start + min(FIRST, interval)

    def update(self, n: int = 1, note: str = "") -> None:
        """Add `n` finished items; print if a line is due. `note` ends the line."""
        self.count += n
        now = time.monotonic()
        if now >= self.due:
            self.due = now + self.interval
            speed = self._speed(now)
            eta = clock((self.total - self.count) / speed) if speed > 0 else "?"
            self._print(f"{pace(speed, self.unit)}, ETA {eta}", note)

    def close(self, note: str = "") -> None:
        """Print the closing line."""
        now = time.monotonic()
        took = f"took {clock(now - self.start)}"
        if now - self.start >= FIRST:  # less says nothing of the speed
            took += f", {pace(self._speed(now), self.unit)}"
        self._print(took, note, last=True)

    def _speed(self, now: float) -> float:
        return (self.count - self.first) / (now - self.start)

    def _print(self, what: str, note: str, last: bool = False) -> None:
        parts = [f"{self.count}/{self.total} {self.unit}", *what.split(", ")]
        label, told = self.label, note.split(", ") if note else []
        if not last:
            width = (_columns() if sys.stderr.isatty() else LINE) - LEFT
            label, told = _fitting(label, parts, told, width)
        show(f"{label}: {', '.join([*parts, *told])}", last)


def _fitting(label: str, parts: List[str], told: List[str], width: int) -> Tuple[str, List[str]]:
    """Shorten a line: first the name in its label, whose end says most, then what comes last."""
    head = f": {', '.join(parts)}"
    if len(label) + len(head) + sum(len(f", {part}") for part in told) > width:
        verb, _, name = label.partition(" ")
        room = LABEL - len(verb) - 2
        if len(name) > room > 0:
            label = f"{verb} \u2026{name[-room:]}"
    while told and len(label) + len(head) + sum(len(f", {part}") for part in told) > width:
        told = told[:-1]
    return label, told


def track(
    items: Iterable[Item], label: str, total: Optional[int] = None, **kwargs
) -> Iterator[Item]:
    """Yield from `items` (sized, unless `total` is given) and report progress."""
    progress = Progress(label, len(cast(Sized, items)) if total is None else total, **kwargs)
    for item in items:
        yield item
        progress.update()
    progress.close()
