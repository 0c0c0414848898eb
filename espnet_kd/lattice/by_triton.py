"""Triton's kernels where they run, torch's operators where they do not: said once."""

import importlib
import logging
from typing import Any, Optional

import torch


class Kernels:
    """A module of kernels that is never needed.

    Attributes:
        instead: What is done without them, for the log.

    Args:
        module: Its name; imported when it is wanted first. Triton comes with torch's CUDA build.
        instead: See above.
    """

    def __init__(self, module: str, instead: str) -> None:
        self.instead, self._name = instead, module
        self._module: Any = None  # False: it is of no use on this machine

    def get(self) -> Optional[Any]:
        """Return the module; None: it is of no use here."""
        if self._module is None:
            try:
                self._module = importlib.import_module(self._name)
            except Exception as e:  # of its own import, too
                self.without(e)
        return self._module or None

    def without(self, error: Exception) -> None:
        """Go on with torch's operators from now on, and say so.

        Raises:
            torch.cuda.OutOfMemoryError: that was the error; operators take no less memory.
        """
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise error
        self._module = False
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        logging.warning(f"lattice: no Triton kernel ({reason}); {self.instead}")


def suits(device: torch.device) -> bool:
    """Tell whether launches and passes over memory are what counts there."""
    return device.type == "cuda"
