"""PyTorch files: read with their checksums, and with weights that are numbers."""

import contextlib
import errno
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

import torch

from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike

LOAD = torch.load
UNSAFE = "ESPNET_ALLOW_UNSAFE_TORCH_LOAD"  # of ESPnet 202611
CANNOT_OPEN = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR)


def read_saved(path: PathLike, hint: str, *args: Any, **kwargs: Any) -> Any:
    """Call `torch.load` on a file that is as it was written.

    `torch.load` passes over the checksums in its files: a flipped bit would be a wrong weight.

    Args:
        path: A `.pth`.
        hint: Remedy for a damaged file, the end of the message.
        args: Further arguments of `torch.load`.
        kwargs: Further arguments of `torch.load`.

    Raises:
        UserError: the file is missing, damaged, or no file of PyTorch's.
    """
    try:
        # A file that was cut off is no archive any more, nor is one of PyTorch before 1.6.
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f"the checksum of its part {damaged} is wrong")
        return LOAD(path, *args, **kwargs)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as e:
        if e.errno in CANNOT_OPEN:
            raise
        reason = e.strerror or str(e)
    except Exception as e:  # a damaged file makes torch raise almost anything
        if isinstance(e, pickle.UnpicklingError) and os.environ.get(UNSAFE) == "1":
            raise  # ESPnet reads the file again, with its code
        named = re.search(r"GLOBAL (\S+)", str(e))
        # Of torch's own paragraphs the first sentence tells what is wrong.
        reason = (str(e).splitlines() or [type(e).__name__])[0].partition(". ")[0]
        if named:
            reason = f"it asks for {named[1]}, which could run code; only tensors are read"
    size = Path(path).stat().st_size
    raise UserError(
        f"{path}: not a readable checkpoint ({size:,} bytes): {reason or 'it ends early'}; {hint}"
    )


@contextlib.contextmanager
def checked_loads(hint: str) -> Iterator[None]:
    """Let whatever ESPnet reads by `torch.load` pass through `read_saved`.

    Args:
        hint: Remedy for a damaged file, the end of the message.
    """
    before = torch.load

    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, (str, os.PathLike)):
            return read_saved(f, hint, *args, **kwargs)
        return before(f, *args, **kwargs)

    torch.load = load
    try:
        yield
    finally:
        torch.load = before


def not_finite(state: Mapping[str, torch.Tensor]) -> Optional[str]:
    """Return the name of the first parameter or buffer that holds NaN or infinity."""
    for name, tensor in state.items():
        if (
            torch.is_tensor(tensor)
            and tensor.is_floating_point()
            and not bool(torch.isfinite(tensor).all())
        ):
            return name
    return None


def check_finite(state: Mapping[str, torch.Tensor], where: object, hint: str) -> None:
    """Refuse weights that are no numbers.

    Args:
        state: Parameters and buffers of a model.
        where: The file or the model, for the message.
        hint: Remedy, the end of the message.

    Raises:
        UserError: one of them holds NaN or infinity; names it.
    """
    name = not_finite(state)
    if name is not None:
        raise UserError(f"{where}: '{name}' holds NaN or infinity; {hint}")


def load_state(checkpoint: PathLike) -> Dict[str, torch.Tensor]:
    """Read the parameters of a model.

    Raises:
        UserError: the file cannot be read, or holds something else, NaN or infinity.
    """
    hint = "use another checkpoint, or train the model again"
    state = read_saved(checkpoint, hint, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # checkpoint.pth of the trainer
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise UserError(f"{checkpoint}: not the parameters of a model (a dict of tensors)")
    check_finite(state, checkpoint, f"such a model says nothing; {hint}")
    return state
