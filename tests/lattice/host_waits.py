"""What would make the host wait for a GPU, counted on a CPU."""

from typing import Any, List

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# A number for Python, or a shape that hangs on what a tensor holds.
WAITS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal")
WAITS += ("_unique2", "unique_dim", "unique_consecutive", "bincount")


class HostWaits(TorchDispatchMode):
    """Collect the operators that are called inside and would wait.

    Attributes:
        names: Names of these, in their order.
        operators: How many were called in all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: List[str] = []
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at one operator."""
        name = func.overloadpacket.__name__
        self.operators += 1
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        masks = [x for x in indices if x is not None and x.dtype in (torch.bool, torch.uint8)]
        # Without the size of its result it is read from what is repeated.
        repeats = name == "repeat_interleave" and not (kwargs or {}).get("output_size")
        if name in WAITS or masks or repeats:
            self.names.append(name)
        return func(*args, **(kwargs or {}))
