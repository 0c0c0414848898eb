"""How the benchmarks measure: peak memory and times.

Every measurement of memory runs in a process of its own (`espnet_kd/peak_memory.py`). Times are
taken in one process, all variants in turn, again and again (A B C A B C ...), so that a
disturbance from outside meets all of them alike.
"""

import time
from typing import Any, Callable, Dict, List, Mapping, Optional

import torch

from espnet_kd.peak_memory import PeakMemory, in_child, return_freed_memory, synchronize

__all__ = [
    "MB",
    "PeakMemory",
    "in_child",
    "interleaved",
    "prepare",
    "return_freed_memory",
    "synchronize",
]
MB = 2**20


def prepare(device: str, threads: Optional[int], flush_denormals: bool) -> None:
    """Set up a forked process before it computes anything."""
    # Threads inherit the mode of the processor from the one that starts them.
    torch.set_flush_denormal(flush_denormals)
    if threads:
        torch.set_num_threads(threads)
    if device == "cuda":
        torch.zeros(1, device=device)


def interleaved(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    device: str,
    done: Callable[[], None] = lambda: None,
) -> Dict[str, List[float]]:
    """Time functions in turn, `repeats` rounds. Seconds of every run, by name."""
    # One thread's own time: what other programs take of the machine does not count.
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    seconds: Dict[str, List[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            synchronize(device)
            start = clock()
            function()
            synchronize(device)
            seconds[name].append(clock() - start)
            done()
    return seconds
