"""A run of the recipe with real models, done once for all tests that look at it."""

import pytest
from mini_run import MiniRun


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    """The recipe after `run.sh`, stages 1 to 17, and what that printed: `(run, printed)`.

    Whoever changes something below exp/ gives it back as it was.
    """
    pytest.importorskip("espeakng_loader", reason="the corpus is made by espeak-ng")
    run = MiniRun(tmp_path_factory.mktemp("mini_speech"))
    return run, run.ok()
