"""One stage of a run: what it is asked for, what it says, needs and starts."""

import os
import signal
import sys
import time
from typing import List, Optional, Sequence, Tuple, Union

from espnet_kd.errors import UserError
from espnet_kd.run.jobs import Interrupted, Jobs, job_words
from espnet_kd.run.settings import Commands, Settings
from espnet_kd.run.step import Decision, decide, finish, make_record, problem_of

STEP_ENDS = ("finished", "refresh")


class Recipe:
    """A stage of the recipe.

    Attributes:
        settings: Options of the run.
        commands: Commands by which jobs run.
        jobs: Jobs that run now.
        program: Name that lines of the log and errors begin with.
        stage: Number of the stage.
        title: Name of the stage, for errors.
        scope: Options that run this stage and nothing else.
        log_path: Log of the command that runs now; empty: it has none.
    """

    def __init__(
        self, settings: Settings, commands: Commands, stage: str, title: str, program: str
    ) -> None:
        self.settings, self.commands, self.jobs = settings, commands, Jobs()
        self.stage, self.title, self.program = stage, title, program
        self.scope = f"--stage {stage} --stop_stage {stage}"
        self.log_path = ""
        self._parent = os.getppid()

    def log(self, text: str) -> None:
        """Print a line."""
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} ({self.program}) {text}", flush=True)

    def need(self, path: str, maker: str) -> None:
        """Refuse to go on without a file.

        Args:
            path: The file.
            maker: Number of the stage that makes it.

        Raises:
            UserError: it is not there.
        """
        if not os.path.exists(path):
            raise UserError(
                f"stage {self.stage} needs {path}, which stage {maker} makes: "
                f"run stage {maker} first"
            )

    def decide(
        self, folder: str, step: str, words: Sequence[str], force: Optional[bool] = None
    ) -> Decision:
        """Ask whether a step has to be done, and say so; see `espnet_kd.run.step`.

        Args:
            folder: Folder of the step.
            step: Name of the step.
            words: Words that say what it is made from and leaves.
            force: Whether it is done in any case; None: as the run is asked to.
        """
        record = make_record(folder, step, words, stage=self.stage, scope=self.scope)
        decision = decide(record, self.settings.force if force is None else force)
        for line in decision.lines:
            self.log(f"Stage {self.stage}: {line}")
        return decision

    def needed(
        self, folder: str, step: str, words: Sequence[str], force: Optional[bool] = None
    ) -> bool:
        """Tell whether a step has to be done; see `decide`."""
        return self.decide(folder, step, words, force).verdict not in STEP_ENDS

    def done(self, folder: str, step: str, words: Sequence[str] = ()) -> None:
        """Note the end of a step."""
        finish(folder, step, words, stage=self.stage, scope=self.scope)

    def python(self, module: str, *words: str) -> List[str]:
        """Spell a command line of ours, or another module of Python's."""
        name = module if "." in module else f"espnet_kd.bin.{module}"
        return [*self.settings.python.split(), "-m", name, *words]

    def start(self, command: Sequence[str]) -> None:
        """Start a command on this machine.

        Raises:
            Interrupted: the script that has called us was killed; nothing more is begun for it.
        """
        if os.getppid() != self._parent:
            raise Interrupted(signal.SIGHUP)
        sys.stdout.flush()
        self.jobs.start(command)

    def call(self, command: Sequence[str]) -> None:
        """Run a command on this machine and wait for it."""
        self.start(command)
        self.jobs.wait()

    def submit(
        self,
        command: str,
        log: str,
        words: Sequence[str],
        count: int = 0,
        **options: Union[str, int],
    ) -> None:
        """Run a job, or an array of jobs, where the run is told to, and wait for it.

        Args:
            command: Command of `cmd.sh`.
            log: Log file.
            words: Command to run.
            count: Number of jobs; 0: it is no array.
            **options: Options of the command.
        """
        self.log_path = log.replace("JOB", "*")
        self.call(job_words(command, log, words, count, **options))

    def line_of_log(self, start: str, otherwise: str) -> None:
        """Repeat the line of the last job's log that says what was made."""
        path, self.log_path = self.log_path, ""
        lines = []
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as f:
                lines = [line.rstrip("\n") for line in f if line.startswith(start)]
        self.log(lines[-1] if lines else otherwise)

    def not_current(self, steps: Sequence[Tuple[str, str]]) -> Optional[str]:
        """Say why finished work is not what its record says; None: it is.

        Args:
            steps: Folder and name of each step.
        """
        for folder, step in steps:
            problem = problem_of(folder, step)
            if problem:
                return problem
        return None


def count_lines(path: str) -> int:
    """Count the lines of a table."""
    with open(path, "rb") as f:
        return sum(1 for _ in f)
