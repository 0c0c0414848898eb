"""KL over {blank, next label, rest} at every node.

Panchapagesan et al. 2020, "Efficient knowledge distillation for RNN-transducer models"
(arXiv 2011.06110), eq. 5-7: O(T * U) numbers of the teacher instead of O(T * U * V).
"""

from typing import cast

import torch

from espnet_kd.lattice.chunks import Chunk
from espnet_kd.lattice.joint import Joint
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
    return cast(torch.Tensor, sum(divergence(p, q, kind) for p, q in classes))  # of three


class Seen:
    """The teacher's three classes, for a walk that looks at its whole vocabulary anyway.

    Args:
        teacher: The teacher's projected joint network.
        labels: (B, U)

    Attributes:
        three: As `node_stats` would give them, where the walk has been; no more precise than
            1 - p(blank) - p(label) for the rest. (B, T, U + 1, 3)
    """

    def __init__(self, teacher: Joint, labels: torch.Tensor) -> None:
        self.labels = labels.long()
        size = (*teacher.enc.shape[:2], teacher.dec.size(1), 3)
        self.three = torch.zeros(size, dtype=torch.float32, device=teacher.enc.device)

    def keep(self, chunk: Chunk, log_p: torch.Tensor) -> None:
        """Take what is known of a chunk. log_p: (n, V)"""
        grid = log_p.view(chunk.t1 - chunk.t0, chunk.rows, -1)  # (t, rows, V)
        nodes = self.three[chunk.b, chunk.t0 : chunk.t1, : chunk.rows]  # (t, rows, 3)
        label = self.labels[chunk.b, : chunk.rows - 1, None]  # (rows - 1, 1)
        nodes[..., 0] = grid[..., 0]
        nodes[:, :-1, 1:2] = grid[:, :-1].gather(-1, label.expand(len(grid), -1, 1))
        nodes[:, -1, 1] = float("-inf")
        rest = 1 - nodes[..., :2].exp().sum(-1)  # (t, rows)
        nodes[..., 2] = rest.clamp_min_(torch.finfo(rest.dtype).tiny).log_()
