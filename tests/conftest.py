"""Fixtures that every test may use."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

# One thread a process: the models in tests are tiny, and some tests start processes.
# Before torch is imported, so that subprocesses and torch itself see it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Servers of tests are on this machine: no proxy of whoever runs them is asked for these.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"]))

# Whoever runs the tests in the background may have them ignore Ctrl-C, and so would every
# process that they start; tests of interruption mean the usual case.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]

# Files that begin with the same run of the recipe, which takes minutes.
ONE_PROCESS = {"test_stock_inference.py": "test_end_to_end.py"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give whole files to the processes of pytest-xdist."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = Path(super()._split_scope(nodeid)).name
            return ONE_PROCESS.get(name, name)

    return Files(config, log)


def pytest_sessionfinish():
    """End the servers that tests have shared."""
    forking = sys.modules.get("tests.faults.forking")
    while forking and forking.STARTED:
        forking.STARTED.pop().close()


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real speech, which stays out of the repository: $ESPNET_KD_SHARED or ../shared/data."""
    path = Path(os.environ.get("ESPNET_KD_SHARED", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("no real speech: neither $ESPNET_KD_SHARED nor ../shared/data is there")
    return path


def _git_files() -> "Optional[list[Path]]":
    """What git holds or would take; None without git, or where git refuses the folder."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return None
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    if done.returncode:
        return None
    return [ROOT / os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


@pytest.fixture(scope="session")
def repo_files() -> "list[Path]":
    """Every file that git holds or would take; all files where there is no git."""
    paths = _git_files()
    if paths is None:
        made = {"build", "dist", "exp", "dump", "data", "downloads"}
        paths = []
        for folder, folders, files in os.walk(ROOT):
            inside = Path(folder).relative_to(ROOT).parts
            folders[:] = [
                name
                for name in folders
                if not name.startswith((".venv", ".git", ".pytest", ".ruff", "__"))
                and not name.endswith(".egg-info")
                and not (name in made and (not inside or inside[0] == "egs2"))
            ]
            # A folder that is linked is listed as a folder, and not walked into.
            links = [name for name in folders if Path(folder, name).is_symlink()]
            paths += [Path(folder, name) for name in files + links]
    # A deleted file is still listed by git until it is staged.
    return [path for path in paths if path.is_symlink() or path.is_file()]
