"""Start commands so that a signal ends them with everything they have started.

Every command is the leader of a process group of its own. INT, TERM and HUP end all groups, and
so does a command that fails.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PAUSES = (0.01, 0.02, 0.05, 0.05, 0.1, 0.1, 0.2)  # seconds: a short job is seen to end soon
LAST_PAUSE = 0.5  # of a long job, which it costs nothing


class JobError(Exception):
    """A command has failed, and has said why.

    Attributes:
        code: Exit code as a shell counts it: 128 and the signal that has ended it.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Interrupted(BaseException):
    """A signal has ended the work; nothing of it runs any more.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Jobs:
    """Commands that run at the same time.

    Args:
        patience: Seconds until a group that was asked to end is killed; those who start a runner
            of jobs wait longer than it does.
    """

    def __init__(self, patience: float = 15.0) -> None:
        self.patience = patience
        self.running: List["subprocess.Popen[bytes]"] = []
        self._pending: Optional[int] = None
        self._starting = False

    @contextlib.contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """End all commands at the first signal, and when the block ends.

        Raises:
            Interrupted: a signal has come.
        """
        before: Dict[signal.Signals, Any] = {}
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                before[number] = signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number in before:  # one signal is enough: let this end in peace
                signal.signal(number, signal.SIG_IGN)
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        if self._starting:  # or a command would run that nobody knows
            self._pending = number
            return
        raise Interrupted(number)

    def start(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a command in the background.

        Args:
            command: Words of the command.
            **options: Further arguments of `Popen`.
        """
        self._starting = True
        try:
            job = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, preexec_fn=os.setpgrp, **options
            )
            self.running.append(job)
        finally:
            self._starting = False
        if self._pending is not None:
            number, self._pending = self._pending, None
            raise Interrupted(number)
        return job

    def wait(self) -> None:
        """Wait for all commands.

        Raises:
            JobError: one has failed; the others have been ended.
        """
        pause = pauses()
        while self.running:
            for job in list(self.running):
                if job.poll() is not None:
                    self.running.remove(job)
                    if job.returncode:
                        self.stop()
                        raise JobError(exit_code(job))
            if len(self.running) == 1:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.running[0].wait(LAST_PAUSE)
            elif self.running:
                time.sleep(next(pause))

    def stop(self) -> None:
        """End all commands with everything they have started, at last by SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for job in self.running:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(job.pid, number)
            deadline = time.monotonic() + self.patience
            while any(job.poll() is None for job in self.running):
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.02)
        self.running.clear()


def pauses() -> Iterator[float]:
    """Yield how long to wait from look to look: short jobs are seen to end soon."""
    yield from PAUSES
    while True:
        yield LAST_PAUSE


def exit_code(job: "subprocess.Popen[bytes]") -> int:
    """Exit code of a command that has ended, as a shell counts it."""
    return 128 - job.returncode if job.returncode < 0 else job.returncode


def job_words(
    command: str,
    log: str,
    words: Sequence[str],
    count: int = 0,
    **options: Union[str, int],
) -> List[str]:
    """Spell the call of a command of `cmd.sh`.

    Args:
        command: The command, which may hold options of its own.
        log: Log file; of several jobs its name holds JOB.
        words: Command to run; JOB in it is the number of the job.
        count: Number of jobs; 0: it is no array.
        **options: Options that every such command knows: `gpu`, `name`, `num_threads`.
    """
    call = shlex.split(command)
    for name, value in options.items():
        call += [f"--{name.replace('_', '-')}", str(value)]
    if count:
        call.append(f"JOB=1:{count}")
    return [*call, log, *words]
