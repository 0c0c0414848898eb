"""In which number format a training computes: what `--amp_dtype` adds to `--use_amp`.

ESPnet's `--use_amp` leaves the format to the GPU (bfloat16 where there is any, else float16),
does nothing on a CPU, and always scales the loss. bfloat16 has the range of float32: it needs
no scaling, nor the skipped updates that come with it, and works on a CPU, too.
"""

import contextlib
from typing import ContextManager, Iterator, Optional

import torch

from espnet_kd.errors import UserError

AMP_DTYPES = ("auto", "bfloat16")


def autocast_dtype(use_amp: bool, amp_dtype: str, device: str) -> Optional[torch.dtype]:
    """Return the format that our model computes in; None: leave it to ESPnet's trainer.

    Args:
        use_amp: ESPnet's `--use_amp`.
        amp_dtype: One of AMP_DTYPES.
        device: `cpu` or `cuda`.

    Raises:
        UserError: a format that is not asked for by `use_amp`, or that the GPU lacks.
    """
    if amp_dtype == "auto":
        return None
    if not use_amp:
        raise UserError(f"--amp_dtype {amp_dtype}: has no effect without --use_amp true")
    if device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"--amp_dtype bfloat16: {torch.cuda.get_device_name()} cannot; leave it at auto"
        )
    return torch.bfloat16


@contextlib.contextmanager
def autocast(device: str, dtype: Optional[torch.dtype], enabled: bool = True) -> Iterator[None]:
    """Compute in `dtype` where that is safe; None, or not enabled: change nothing."""
    if dtype is None or not enabled:
        yield
        return
    with lstm_of_torch(device), torch.autocast(device, dtype=dtype):
        yield


def current_dtype(device: str) -> Optional[torch.dtype]:
    """Return the format that autocast computes in at this moment, whoever asked for it.

    Args:
        device: `cpu` or `cuda`.

    Returns:
        None outside of autocast.
    """
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def lstm_of_torch(device: str) -> ContextManager:
    """Keep oneDNN's LSTM from a CPU for which it has none in bfloat16.

    oneDNN refuses it there with "could not create a primitive descriptor", seen on a processor
    with AVX2 but without AVX-512; torch's own LSTM computes it everywhere.
    """
    if device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return contextlib.nullcontext()
    return torch.backends.mkldnn.flags(enabled=False)
