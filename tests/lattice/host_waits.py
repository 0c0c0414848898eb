"""What would make the host wait for a GPU, counted on a CPU."""

import sys
from typing import Any, List
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# A number for Python, or a shape that hangs on what a tensor holds.
WAITS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal")
WAITS += ("_unique2", "unique_dim", "unique_consecutive", "bincount")


TOLIST = torch.Tensor.tolist


class HostWaits(TorchDispatchMode):
    """Collect the operators that are called inside and would wait.

    `Lengths` are read on the host, where training has them.

    Attributes:
        names: Names of these, in their order.
        operators: How many were called in all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: List[str] = []
        self.operators = 0

    def __enter__(self) -> "HostWaits":
        """Begin; on a CPU `tolist` is no operator."""

        def tolist(tensor: torch.Tensor) -> Any:
            if not sys._getframe(1).f_code.co_filename.endswith("host_lengths.py"):
                self.names.append("tolist")
            return TOLIST(tensor)

        self.patch = mock.patch.object(torch.Tensor, "tolist", tolist)
        self.patch.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """End."""
        self.patch.stop()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at one operator."""
        name = func.overloadpacket.__name__
        self.operators += 1
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        masks = [x for x in indices if x is not None and x.dtype in (torch.bool, torch.uint8)]
        # Without the size of its result it is read from what is repeated.
        repeats = name == "repeat_interleave" and not (kwargs or {}).get("output_size")
        # A number is brought to the GPU first.
        number = name in ("index_put", "index_put_") and args[2].dim() == 0
        if name in WAITS or masks or repeats or number:
            self.names.append(name)
        return func(*args, **(kwargs or {}))
