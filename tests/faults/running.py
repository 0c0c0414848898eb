"""Run a family, follow what it says, judge how it ended."""

import re
import time
from typing import Callable, List, NamedTuple, Optional, Tuple

from tests.faults.family import Family
from tests.faults.process_tree import Members

STAGE = re.compile(r"^\S+ \(\S+\) (Stage \d+|Compression stage \d+)(?:: (?!already)| of )", re.M)
EXCEPTION = re.compile(r"(?:^|: )[\w.]*[A-Z]\w*(?:Error|Exception): ")
LONGEST = 600.0  # seconds without an end are a hang, on a machine that is not very busy


class Ended(NamedTuple):
    """How a run ended: exit code (None: it hung) and what it printed."""

    code: Optional[int]
    out: str
    err: str
    seconds: float

    @property
    def errors(self) -> List[str]:
        """The lines that tell the user what is wrong."""
        return [x for x in self.err.splitlines() if re.match(r"\S+: (error: |.*failed )", x)]

    @property
    def last(self) -> str:
        lines = self.errors or self.err.strip().splitlines() or [""]
        return lines[0]


class Run:
    """A run that has been started."""

    def __init__(self, family: Family, **options: object) -> None:
        self._out, self._err = family.root / "out", family.root / "err"
        self.start = time.monotonic()
        self.process = family.start(self._out, self._err, **options)
        self.members = Members(self.process.pid)

    def output(self) -> str:
        return self._out.read_text(errors="replace")

    def marks(self) -> List[str]:
        """The stages begun so far: `Stage 3`, `Compression stage 1`, each once."""
        return list(dict.fromkeys(STAGE.findall(self.output())))

    def wait_for(self, mark: str) -> bool:
        """Wait for a stage to begin; return whether the run goes on."""
        return mark == "start" or self.wait(until=lambda: mark in self.marks())

    def wait(
        self,
        seconds: float = LONGEST,
        until: Callable[[], bool] = lambda: False,
        pause: float = 0.02,
    ) -> bool:
        """Wait for the end, or for `until`; return whether the run goes on."""
        passed, last = 0.0, time.monotonic()
        while passed < seconds:
            if self.process.poll() is not None:
                return False
            if until():
                return True
            time.sleep(pause)
            # A machine that sleeps, or a harness that is stopped, is no hang.
            now = time.monotonic()
            passed, last = passed + min(now - last, pause + 1.0), now
        return True

    def end(self, seconds: float = LONGEST) -> Ended:
        """Wait for the end; a run that hangs is killed."""
        if self.wait(seconds, pause=0.05):
            self.members.kill_all()
            self.process.wait()
            return self._ended(None)
        return self._ended(self.process.returncode)

    def _ended(self, code: Optional[int]) -> Ended:
        err = self._err.read_text(errors="replace")
        return Ended(code, self.output(), err, time.monotonic() - self.start)


def run_timed(family: Family) -> Tuple[Ended, List[Tuple[str, float]]]:
    """Run, and note how long each stage took: `[(mark, seconds)]`."""
    run = Run(family)
    begun = [("start", 0.0)]
    known = 0
    while run.wait(0.05, pause=0.05):
        if time.monotonic() - run.start > 2 * LONGEST:
            break
        marks = run.marks()
        now = time.monotonic() - run.start
        begun += [(mark, now) for mark in marks[known:]]
        known = len(marks)
    ended = run.end(1)
    ends = [start for _, start in begun[1:]] + [ended.seconds]
    return ended, [(mark, end - start) for (mark, start), end in zip(begun, ends)]


def complaint(ended: Ended) -> str:
    """`ok`, `hang`, `traceback` or `refused`: how a run ended, from the user's side."""
    if ended.code is None:
        return "hang"
    if ended.code == 0:
        return "ok"
    if "Traceback (most recent" in ended.err or any(map(EXCEPTION.search, ended.errors)):
        return "traceback"
    # Which stage has failed is no reason.
    reasons = [x for x in ended.errors if not re.search(r"error: stage \d+ .* failed", x)]
    return "refused" if reasons else "silent failure"
