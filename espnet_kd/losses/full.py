"""KL over the full vocabulary at every node (Hinton et al. 2015, arXiv 1503.02531)."""

from typing import Optional

import torch

from espnet_kd.lattice.chunks import Nodes
from espnet_kd.lattice.joint import Joint
from espnet_kd.losses.collapsed import Seen
from espnet_kd.losses.kl import KINDS, divergence

NEG_INF = float("-inf")


class FullKL:
    """The `Divergence` of a lattice walk whose teacher is another joint network.

    The row u = U needs no care: its distribution over {blank, any label} is as defined as
    that of any other row.

    Args:
        teacher: The teacher's projected joint network; its D may be another.
        kind: See `losses.kl.divergence`.
        seen: Receiver of what the first walk computes of the teacher.
    """

    def __init__(self, teacher: Joint, kind: str = "forward", seen: Optional[Seen] = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}: got '{kind}'")
        self.teacher = teacher.detach().in_one_dtype()
        self.kind, self.seen = kind, seen
        self.of_student = {"forward": 1.0, "symmetric": 0.5, "reverse": 0.0}[kind]
        self.wants_student = kind != "forward"

    def value(self, nodes: Nodes, log_q: torch.Tensor) -> torch.Tensor:
        """Divergence of some nodes. log_q: (n, V) -> (n,)"""
        log_p = self._logits(nodes).log_softmax(-1)  # (n, V)
        if self.seen is not None:
            self.seen.keep(nodes, self.seen.two_of(nodes, log_p))
        return divergence(log_p, log_q, self.kind)

    def add_grad(
        self,
        nodes: Nodes,
        log_q: Optional[torch.Tensor],
        weight: torch.Tensor,
        grad: torch.Tensor,
    ) -> None:
        """Add weight (n,) times the gradient with respect to the logits to grad (n, V)."""
        logits = self._logits(nodes)  # (n, V)
        weight = weight[:, None]  # (n, 1)
        if log_q is None:  # forward
            grad.addcmul_(logits.softmax(-1), weight, value=-1.0)
            return
        log_p = logits.log_softmax(-1)  # (n, V)
        if self.kind == "symmetric":
            weight = weight / 2
        q = log_q.exp()
        # Left out, as in the value: what the teacher can never say.
        excess = (log_q - log_p).masked_fill_(log_p == NEG_INF, 0.0)
        excess.clamp_min_(torch.finfo(excess.dtype).min)  # 0 * log 0 is 0
        # Counted from the student's likeliest token: where that has nearly all, its excess
        # less the mean would cancel.
        excess.sub_(excess.gather(-1, log_q.argmax(-1, keepdim=True)))
        excess.sub_((q * excess).sum(-1, keepdim=True))
        grad.add_(excess.mul_(q).mul_(weight))
        if self.kind == "symmetric":
            grad.sub_(log_p.exp_().mul_(weight))

    def _logits(self, nodes: Nodes) -> torch.Tensor:
        return self.teacher.logits(self.teacher.hidden(nodes))  # (n, V)
