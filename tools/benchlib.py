"""How the benchmarks measure: peak memory and times.

Every measurement of memory runs in a process of its own (`espnet_kd/peak_memory.py`). Times are
taken in one process, all variants in turn, again and again (A B C A B C ...), so that a
disturbance from outside meets all of them alike.
"""

import ctypes
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

import torch

from espnet_kd.peak_memory import PeakMemory, in_child, synchronize

__all__ = ["MB", "PeakMemory", "in_child", "interleaved", "prepare", "synchronize"]
MB = 2**20


def prepare(device: str, threads: Optional[int], flush_denormals: bool) -> None:
    """Set up a forked process before it computes anything."""
    # Threads inherit the mode of the processor from the one that starts them.
    torch.set_flush_denormal(flush_denormals)
    if threads:
        torch.set_num_threads(threads)
    if device == "cuda":
        torch.zeros(1, device=device)


def return_freed_memory() -> None:
    """Let glibc give back at once what is freed: the peak is then what a program holds.

    By default it keeps up to 32 MiB a piece in case it is asked again, which in a training is as
    much as the program's own, and not the same from run to run. It costs time: for measurements
    of memory alone.
    """
    try:
        ctypes.CDLL(None).mallopt(-3, 256 * 1024)  # M_MMAP_THRESHOLD, which no longer adapts
    except AttributeError:
        pass  # not glibc


def interleaved(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    device: str,
    done: Callable[[], None] = lambda: None,
) -> Dict[str, List[float]]:
    """Time functions in turn, `repeats` rounds. Seconds of every run, by name."""
    seconds: Dict[str, List[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            synchronize(device)
            start = time.perf_counter()
            function()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
            done()
    return seconds
