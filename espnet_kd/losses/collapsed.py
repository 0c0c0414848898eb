"""KL over {blank, next label, rest} at every node.

Panchapagesan et al. 2020, "Efficient knowledge distillation for RNN-transducer models"
(arXiv 2011.06110), eq. 5-7: O(T * U) numbers of the teacher instead of O(T * U * V).
"""

from typing import Optional, cast

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.chunks import Nodes
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.nodes import next_labels
from espnet_kd.lattice.side_by_side import alone
from espnet_kd.lattice.stats import blank_and_label
from espnet_kd.losses.kl import divergence


@alone
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
        labels: Labels. (B, U)
        u_len: Labels of each utterance. (B,)
        band: The nodes that count; None: all.

    Attributes:
        three: As `node_stats` would give them, where the walk has been; no more precise than
            1 - p(blank) - p(label) for the rest. (B, T, U + 1, 3), or (N, 3) of a band
    """

    def __init__(
        self,
        teacher: Joint,
        labels: torch.Tensor,
        u_len: torch.Tensor,
        band: Optional[Band] = None,
    ) -> None:
        size = (*teacher.enc.shape[:2], teacher.dec.size(1))
        self.labels = next_labels(labels, u_len, size[2])  # (B, U + 1)
        place = size if band is None else (len(band.place),)
        self.three = torch.zeros(*place, 3, dtype=torch.float32, device=teacher.enc.device)

    def two_of(self, nodes: Nodes, logits: torch.Tensor) -> torch.Tensor:
        """Return those of blank and the next label, -inf where there is none. (n, V) -> (n, 2)"""
        return blank_and_label(logits, nodes.labels(self.labels))

    def keep(self, nodes: Nodes, two: torch.Tensor) -> None:
        """Take log p of blank and the next label at some nodes. (n, 2)"""
        rest = 1 - two.exp().sum(-1, keepdim=True)  # (n, 1)
        rest = rest.clamp_min_(torch.finfo(rest.dtype).tiny).log_()
        nodes.put(self.three, torch.cat([two, rest], -1))
