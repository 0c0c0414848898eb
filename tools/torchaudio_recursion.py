"""torchaudio's RNN-T recursion on two log-probabilities a node: the rival of ours.

It is float32. Ours is faster on a CPU and slower on a GPU (docs/benchmarks.md), but torchaudio's
gradient is off by 1e-3, and its CUDA kernel (2.11) takes the loss of an utterance without labels
for 0.
"""

import torch
from torchaudio.functional import rnnt_loss as torchaudio_loss

from espnet_kd.lattice.recursion import rnnt_loss


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


KERNELS = {"diagonal": rnnt_loss, "torchaudio": torchaudio_rnnt_loss}
