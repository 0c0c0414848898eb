"""Runs of the recipe that several tests begin with, each done once."""

import shutil

import pytest
from mini_run import MiniRun
from shell_recipe import Recipe

from tests.faults.forking import shared_python


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    """The recipe after `run.sh`, stages 1 to 17, and what that printed: `(run, printed)`.

    Whoever changes something below exp/ gives it back as it was.
    """
    pytest.importorskip("espeakng_loader", reason="the corpus is made by espeak-ng")
    run = MiniRun(tmp_path_factory.mktemp("mini_speech"))
    # Forked, not started some twenty times. What the tests run after it are processes of their
    # own, a training that is killed among them.
    return run, run.ok(python=shared_python())


@pytest.fixture(scope="session")
def _with_teacher(tmp_path_factory):
    """The recipe with a stub for python after stage 13, and a copy of it."""
    recipe = Recipe(tmp_path_factory.mktemp("teacher"))
    recipe.ok(stop_stage=13)
    copy = recipe.dir.parents[2] / "kept"
    shutil.copytree(recipe.dir.parent, copy, symlinks=True)
    return recipe, copy


@pytest.fixture
def recipe_with_teacher(_with_teacher):
    """A recipe with a stub for python whose teacher is trained, decoded and scored."""
    recipe, copy = _with_teacher
    shutil.rmtree(recipe.dir.parent)
    shutil.copytree(copy, recipe.dir.parent, symlinks=True)
    recipe.calls()
    return recipe
