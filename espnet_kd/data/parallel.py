"""A parallel map over processes that streams, and leaves no process behind."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Callable, Generator, Iterable, Iterator, List, TypeVar

from espnet_kd.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 16  # items a message: enough to hide its cost, few enough to share them evenly
AHEAD = 4  # chunks waiting for each process


def parallel_map(
    work: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` in order; `items` is read as it is needed, not at once.

    Raises:
        UserError: a process was killed from outside (memory).
        Exception: whatever `work` raised.
    """
    if processes == 1:
        yield from map(work, items)
        return
    # spawn, not fork: forked children would hold the parent's locks and file handles.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
    items = iter(items)
    waiting: deque = deque()
    try:
        while chunk := list(itertools.islice(items, CHUNK)):
            with _ctrl_c_held():  # the first of them start the workers
                waiting.append(pool.submit(_work_chunk, work, chunk))
            if len(waiting) >= processes * AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed (out of memory?); use a smaller --nj and run the same "
            "command again: finished files are kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Hold Ctrl-C back, here and for ever in processes that are started meanwhile.

    It reaches the whole group; the parent answers it. A worker that is still importing
    would print a traceback.
    """
    resource_tracker.ensure_running()  # would itself release what is held
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _work_chunk(work: Callable[[Item], Result], chunk: List[Item]) -> List[Result]:
    return [work(item) for item in chunk]


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that is killed cannot close its pool; its workers would wait for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers come here
    wait([parent.sentinel])
    os._exit(1)
