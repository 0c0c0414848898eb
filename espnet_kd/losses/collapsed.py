"""KL over {blank, next label, rest} at every node.

Panchapagesan et al. 2020, "Efficient knowledge distillation for RNN-transducer models"
(arXiv 2011.06110), eq. 5-7: O(T * U) numbers of the teacher instead of O(T * U * V).
"""

import torch

from espnet_kd.losses.kl import divergence


def collapsed_kl(
    student: torch.Tensor, teacher: torch.Tensor, kind: str = "forward"
) -> torch.Tensor:
    """Compute the divergence of three classes at each node; two on the row u = U.

    Args:
        student: log p of {blank, next label, rest}, from `node_stats`. (B, T, U + 1, 3)
        teacher: The same of the teacher. (B, T, U + 1, 3)
        kind: See `losses.kl.divergence`.

    Returns:
        Nats. (B, T, U + 1)
    """
    # The divergence is a sum over classes: one at a time takes a third of the memory.
    classes = zip(teacher.detach().split(1, -1), student[..., :3].split(1, -1))
    return sum(divergence(p, q, kind) for p, q in classes)
