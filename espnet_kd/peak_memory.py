"""Peak memory and time of a piece of work, in a process of its own.

A measurement starts in a process that is forked from one that has imported everything and
computed nothing: without anyone's leftovers, and without paying for the imports.
"""

import ctypes
import multiprocessing
import os
import platform
import resource
import traceback
from pathlib import Path
from typing import Any, Callable

from espnet_kd.errors import UserError

# torch.cuda.is_available() through NVML: a CUDA context could not be taken into a fork.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")


def in_child(function: Callable[[], Any]) -> Any:
    """Run a function in a forked process and return its (picklable) result.

    Raises:
        UserError: it raised one.
        SystemExit: it ended with one, for example at an option that is wrong.
        RuntimeError: it raised another exception, or was killed, for example for its memory.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send((function(), None))
        except (UserError, SystemExit) as e:
            sender.send((None, e))
        except BaseException:
            sender.send((None, traceback.format_exc()))

    child = context.Process(target=run)
    child.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        result, error = None, "it ended without a result"
    child.join()
    if isinstance(error, (UserError, SystemExit)):
        raise error
    if error is not None:
        raise RuntimeError(f"a measuring process failed (exit code {child.exitcode}): {error}")
    return result


def synchronize(device: str) -> None:
    """Wait for a device that computes on its own."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


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


class PeakMemory:
    """Bytes that a `with` block took at its peak beyond what was there before.

    On a CPU the resident memory as the kernel counts it, which since Linux 6.2 sums counters of
    the cores only now and then: to within some MB, tens on a machine of very many cores. On CUDA
    what torch allocated.

    Attributes:
        used: The result, after the block.
        absolute: The peak of the whole process, imports included (on CUDA of the device).
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.used = self.absolute = 0

    def __enter__(self) -> "PeakMemory":
        if self.device == "cuda":
            import torch

            synchronize(self.device)
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return self
        _release_free_memory()
        self.by_kernel = _reset_peak()
        self.before = _status("VmRSS") if self.by_kernel else _largest_so_far()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.device == "cuda":
            import torch

            synchronize(self.device)
            self.absolute = torch.cuda.max_memory_allocated()
        else:
            self.absolute = _status("VmHWM") if self.by_kernel else _largest_so_far()
        self.used = self.absolute - self.before


def _release_free_memory() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass  # not glibc: freed memory of the warm-up may hide a little


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def _largest_so_far() -> int:
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
