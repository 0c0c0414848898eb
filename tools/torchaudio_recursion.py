"""RNN-T recursions on two log-probabilities a node: both of ours, and torchaudio's.

`diagonal` is ours by torch's operators, `triton` ours by kernels, where there are any: on a GPU,
or with TRITON_INTERPRET=1. torchaudio's is float32. It is slower than `diagonal` on a CPU and
faster on a GPU (docs/benchmarks.md), but its gradient is off by 1e-3, and its CUDA kernel (2.11)
takes the loss of an utterance without labels for 0.
"""

import os
from unittest import mock

import torch
from torchaudio.functional import rnnt_loss as torchaudio_loss

from espnet_kd.lattice import recursion


def torchaudio_rnnt_loss(
    log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor
) -> torch.Tensor:
    """Compute the same as `rnnt_loss` with torchaudio's kernel.

    The lattice of two log-probabilities is a vocabulary of two: blank 0 and label 1.

    Args:
        log_probs: log p(blank) and log p(next label) of each node. (B, T, U + 1, 2)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)

    Returns:
        Loss in nats, of the type of `log_probs`. (B,)
    """
    B, _, U1, _ = log_probs.shape
    targets = torch.ones(B, max(U1 - 1, 1), dtype=torch.int32, device=log_probs.device)
    losses = torchaudio_loss(
        log_probs.float().contiguous(),
        targets[:, : U1 - 1].contiguous(),
        t_len.int(),
        u_len.int(),
        blank=0,
        reduction="none",
        fused_log_softmax=False,
    )
    return losses.to(log_probs.dtype)


def by_steps(log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> torch.Tensor:
    """Compute `rnnt_loss` by torch's operators, whatever the device. (B,)"""
    with mock.patch.object(recursion, "by_kernels", lambda device: False):
        return recursion.rnnt_loss(log_probs, t_len, u_len)


def by_triton(log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> torch.Tensor:
    """Compute `rnnt_loss` by Triton's kernels, where they run at all. (B,)

    Raises:
        RuntimeError: they should, and do not.
    """
    if not triton_runs(log_probs.device.type):
        return by_steps(log_probs, t_len, u_len)
    with mock.patch.object(recursion, "by_kernels", lambda device: True):
        losses = recursion.rnnt_loss(log_probs, t_len, u_len)
    if recursion.kernel_ways() is None:
        raise RuntimeError("Triton's kernels were not used; the log says why")
    return losses


def triton_runs(device: str) -> bool:
    """Tell whether Triton's kernels are to be used on a device."""
    return device == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


KERNELS = {"diagonal": by_steps, "triton": by_triton, "torchaudio": torchaudio_rnnt_loss}
