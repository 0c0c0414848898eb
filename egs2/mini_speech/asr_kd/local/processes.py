"""Run each job in a process of its own."""

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import traceback
from typing import Any, Callable, Iterator, Sequence

from espnet_kd.errors import UserError

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def _child(function: Callable, job: Any, answer, parent: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what the parent does at its end
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    _end_with_parent(parent)
    try:
        answer.send((function(job), None))
    except (UserError, OSError) as e:
        answer.send((None, e))
    except Exception:
        # As text: not every exception survives pickling, and no traceback does.
        answer.send((None, RuntimeError(traceback.format_exc())))


def _end_with_parent(parent: int) -> None:
    """Ask Linux to end this process when its parent is killed and can end nobody.

    It would write on into a folder that the next run clears away.
    """
    with contextlib.suppress(AttributeError, OSError):  # elsewhere: it ends with its job
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before we could ask
        os._exit(1)


def run_each(function: Callable, jobs: Sequence, nj: int) -> Iterator[Any]:
    """Yield `function(job)` of every job, `nj` at a time, in the order they finish.

    A process serves one job, so nothing that a job leaves behind in a library reaches
    another: answers do not depend on `nj`. Processes are forked, so only answers need to be
    picklable and what is imported here need not be imported again.

    Raises:
        UserError, OSError: A job raised it.
        RuntimeError: A job raised something else, or its process died.
    """
    context = multiprocessing.get_context("fork")
    waiting = iter(jobs)
    running = {}  # pipe -> process

    def start() -> None:
        for job in waiting:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_child, args=(function, job, theirs, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            running[ours] = process
            return

    try:
        for _ in range(nj):
            start()
        while running:
            for pipe in multiprocessing.connection.wait(list(running)):
                try:
                    value, error = pipe.recv()
                except EOFError:
                    value, error = None, RuntimeError("a process died without an answer")
                if error is not None:
                    raise error
                process = running.pop(pipe)
                start()
                process.join()
                pipe.close()
                yield value
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def is_alive(pid: int) -> bool:
    """Say whether a process of this machine has the number `pid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
