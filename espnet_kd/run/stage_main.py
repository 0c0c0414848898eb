"""Common parts of the command lines of whole stages: signals, the last line of a failure."""

import argparse
import contextlib
import os
import signal
import sys
from typing import Callable, Iterator, Optional

from espnet_kd.errors import UserError
from espnet_kd.run.jobs import Interrupted, JobError
from espnet_kd.run.names import values_to_check
from espnet_kd.run.options import check_values
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.settings import Commands, Settings, recipe_options


def recipe_of(args: argparse.Namespace, stage: str, title: str) -> Recipe:
    """Describe a stage by the options of a command line.

    Args:
        args: The options.
        stage: Number of the stage.
        title: Name of the stage.

    Raises:
        UserError: an option that is wrong.
    """
    options = recipe_options(args)
    for problem in check_values(values_to_check(options), range(1, 23)):
        raise UserError(" ".join(problem.split()))
    settings = Settings.of(options)
    return Recipe(settings, Commands.from_environment(settings.python), stage, title, args.program)


def run_stage(recipe: Recipe, work: Callable[[], Optional[int]]) -> int:
    """Do the work of a stage, and say on one line how it failed.

    Args:
        recipe: The stage.
        work: Function that returns an exit code; None: 0.

    Returns:
        The exit code; 1 after an error that has been told.
    """
    try:
        with recipe.jobs.ended_by_signals(), _held(recipe.settings.expdir):
            return work() or 0
    except UserError as e:
        error = " ".join(str(e).splitlines())
    except JobError as e:
        where = f"stage {recipe.stage} ({recipe.title})"
        log = f", log: {recipe.log_path}" if recipe.log_path else ""
        error = f"{where} failed (exit code {e.code}){log}"
    except Interrupted as e:
        if e.number == signal.SIGINT:  # by TERM the recipe ends us, and says so
            print(
                f"{recipe.program}: interrupted in stage {recipe.stage} ({recipe.title}); run the "
                "same command to go on",
                file=sys.stderr,
            )
        return 128 + e.number
    print(f"{recipe.program}: error: {error}", file=sys.stderr, flush=True)
    return 1


@contextlib.contextmanager
def _held(folder: str) -> Iterator[None]:
    """Hold the experiments, unless a run of the recipe around this does."""
    if os.environ.get("ESPNET_KD_RUN"):
        yield
        return
    from espnet_kd.run.lock import held

    with held(folder):
        yield
