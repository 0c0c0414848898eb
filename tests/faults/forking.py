"""Start and end the server of `preloaded_python.py`; make the `python` that uses it."""

import functools
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Sequence

from tests.patience import PATIENCE

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
# All of espnet_kd but bin/ is imported, too: a command line must run as __main__. torch._dynamo
# is what the first optimizer imports, librosa.* what the front end does.
PRELOADED = """
espnet_kd.espnet.task espnet_kd.espnet.timed_inference torch._dynamo torch.utils.data
espnet2.main_funcs.collect_stats espnet2.main_funcs.pack_funcs espnet2.bin.pack
librosa.core librosa.filters librosa.util soxr sentencepiece
matplotlib.pyplot matplotlib.backends.backend_agg PIL.BmpImagePlugin PIL.GifImagePlugin
PIL.JpegImagePlugin PIL.PpmImagePlugin multiprocessing.resource_tracker
multiprocessing.popen_fork multiprocessing.spawn encodings.cp437 ctypes json espnet_kd
""".split()

# What the stages need that neither train nor decode: no torch, so that it is there in a second.
LIGHT = "espnet_kd.run", "espnet_kd.cli", "espnet_kd.data", "soundfile", "yaml"


def environment(checkout: Path = REPO) -> Dict[str, str]:
    """The environment of a recipe run with the package of a checkout."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "FAULTS_"))}
    env.update(PYTHONPATH=str(checkout), VIRTUAL_ENV=sys.prefix, OMP_NUM_THREADS="1")
    # What path.sh would set for each process; the server has read it once for all.
    env.update(PYTHONUTF8="1", PYTHONIOENCODING="UTF-8", MPLBACKEND="Agg")
    return env


class PreloadedPython:
    """A server, and the path of the program that stands in for `python`.

    It is of our own session, as everything that uses it must be.
    """

    def __init__(self, checkout: Path = REPO, modules: Sequence[str] = PRELOADED) -> None:
        # A socket's path must be short.
        self._folder = tempfile.TemporaryDirectory(prefix="forks-", dir="/tmp")
        folder = Path(self._folder.name)
        self.program = folder / "python3"
        words = [sys.executable, "-S", "-E", str(HERE / "preloaded_client.py"), str(folder / "s")]
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self.program.chmod(0o755)
        self.log = folder / "log"
        script = str(HERE / "preloaded_python.py")
        with open(self.log, "w") as log:
            self._server = subprocess.Popen(
                [sys.executable, script, str(folder / "s"), str(self.program), *modules],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment(checkout),
                cwd="/",
                preexec_fn=os.setpgrp,
            )

    @property
    def pid(self) -> int:
        return self._server.pid

    def wait_until_ready(self, seconds: float = PATIENCE) -> "PreloadedPython":
        deadline = time.monotonic() + seconds
        while "ready\n" not in self.log.read_text():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the preloaded Python did not start: {self.log.read_text()}")
            time.sleep(0.1)
        return self

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(timeout=PATIENCE)
        self._folder.cleanup()

    def __enter__(self) -> "PreloadedPython":
        return self.wait_until_ready()

    def __exit__(self, *_) -> None:
        self.close()


STARTED: List[PreloadedPython] = []  # closed when the tests of this process have ended


@functools.cache
def shared_python(*modules: str) -> str:
    """The program of a server that all tests of this process share; started when first asked for.

    Args:
        modules: What it has imported; by default all that a recipe needs.
    """
    STARTED.append(PreloadedPython(modules=modules or PRELOADED))
    return str(STARTED[-1].wait_until_ready().program)
