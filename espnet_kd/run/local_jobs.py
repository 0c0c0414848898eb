"""Run an array of jobs on this machine, as Kaldi's run.pl does."""

import contextlib
import dataclasses
import os
import re
import shlex
import subprocess
import sys
import time
from typing import Dict, List, Optional, TextIO

from espnet_kd.progress import MARK, clear, show
from espnet_kd.run.jobs import JobError, Jobs, exit_code, pauses

FOLLOWED = 4  # jobs at a time whose progress is shown; of more, the first's alone


@dataclasses.dataclass(frozen=True)
class Array:
    """An array of jobs.

    Attributes:
        name: Word that stands for the number of a job, such as JOB; empty: there is one job.
        first: Number of the first job.
        last: Number of the last job.
        at_once: Jobs at a time.
        log: Log file of a job.
        command: Words of a job's command.
    """

    name: str
    first: int
    last: int
    at_once: int
    log: str
    command: List[str]

    @property
    def count(self) -> int:
        """Number of jobs."""
        return self.last - self.first + 1

    def log_of(self, job: int) -> str:
        """Name the log of a job."""
        return self.log.replace(self.name, str(job)) if self.name else self.log

    def command_of(self, job: int) -> List[str]:
        """Spell the command of a job."""
        if not self.name:
            return self.command
        return [word.replace(self.name, str(job)) for word in self.command]


class _Job:
    """A job that runs: its process and its log, which is read while it grows."""

    def __init__(self, array: Array, number: int, jobs: Jobs, followed: bool) -> None:
        self.number, self.path, self.begin = number, array.log_of(number), time.monotonic()
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        self.tag = f"(job {number}) " if array.count > 1 else ""
        self.part = ""
        command = array.command_of(number)
        open(self.path, "wb").close()
        with open(self.path, "ab") as f:
            head = f"# {shlex.join(command)}\n# Started at {_now()}\n#\n"
            f.write(os.fsencode(head))
            f.flush()
            try:
                self.process: Optional["subprocess.Popen[bytes]"] = jobs.start(
                    command, stdout=f, stderr=subprocess.STDOUT
                )
                self.code = 0
            except OSError as e:
                missing = isinstance(e, FileNotFoundError)
                self.process, self.code = None, 127 if missing else 126
                f.write(os.fsencode(f"{command[0]}: error: {e.strerror}\n"))
        self.reader: Optional[TextIO] = None
        if followed:
            self.reader = open(self.path, encoding="utf-8", errors="replace", newline="\n")

    def ended(self) -> bool:
        """Tell whether it has ended; then its log says with which code."""
        if self.process is not None:
            if self.process.poll() is None:
                return False
            self.code = exit_code(self.process)
        seconds = int(time.monotonic() - self.begin)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(f"# Ended (code {self.code}) at {_now()}, elapsed time {seconds} seconds\n")
        return True

    def show_progress(self) -> None:
        """Copy what is new in the log, of the lines that are for the terminal."""
        if self.reader is None:
            return
        while text := self.reader.readline():
            self.part += text
            if not self.part.endswith("\n"):
                return  # half a line
            if self.part.startswith(MARK):
                show(f"{self.tag}{self.part[len(MARK) :].strip()}")
            self.part = ""


def _now() -> str:
    return time.strftime("%a %b %e %H:%M:%S %Z %Y")


def run_array(array: Array, program: str) -> None:
    """Run all jobs; if one fails, the others are ended.

    Args:
        array: The jobs.
        program: Name that messages begin with.

    Raises:
        JobError: one has failed, which has been told on one line.
        Interrupted: a signal has come.
    """
    jobs = Jobs(patience=5.0)
    running: Dict[int, _Job] = {}
    waiting = list(range(array.first, array.last + 1))
    pause = pauses()
    with jobs.ended_by_signals():
        while waiting or running:
            while waiting and len(running) < array.at_once:
                number = waiting.pop(0)
                followed = array.at_once <= FOLLOWED or number == array.first
                running[number] = _Job(array, number, jobs, followed)
            _wait(list(running.values()), next(pause))
            for number, job in list(running.items()):
                job.show_progress()
                if not job.ended():
                    continue
                job.show_progress()
                clear()
                del running[number]
                if job.process is not None:
                    jobs.running.remove(job.process)
                if job.code:
                    _report_failure(array, job, program)
                    raise JobError(job.code)


def _wait(running: List[_Job], seconds: float) -> None:
    process = running[0].process
    if len(running) > 1 or process is None:
        time.sleep(seconds)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _report_failure(array: Array, job: _Job, program: str) -> None:
    """Say on one line which job failed, and why as its log has it.

    The reason is the error of one of our command lines, else the last exception, else the
    last line.
    """
    which = f"job {job.number} of {array.count} " if array.count > 1 else ""
    reason = _reason(job.path)
    if job.code == 137:
        last = f"; its last line: {reason}" if reason else ""
        reason = f"killed, as when memory runs out{last}"
    print(
        f"{program}: {which}failed (exit code {job.code}), log: {job.path}: "
        f"{reason or 'no output'}",
        file=sys.stderr,
        flush=True,
    )


def _reason(path: str) -> str:
    our_error = exception = last = ""
    with open(path, encoding="utf-8", errors="replace", newline="\n") as f:
        for line in f:
            line = line.rstrip("\n")
            if not line.strip(" ") or line.startswith("#"):
                continue
            if re.match(r"[A-Za-z0-9_./-]+: error: ", line):
                our_error = line
            if re.match(r"[A-Za-z0-9_.]*(Error|Exception|Interrupt)(:|$)", line):
                exception = line
            last = line
    return our_error or exception or last
