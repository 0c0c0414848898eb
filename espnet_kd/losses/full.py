"""KL over the full vocabulary at every node (Hinton et al. 2015, arXiv 1503.02531)."""

from typing import Optional

import torch

from espnet_kd.lattice.change import NEG_INF, Change, grad_logits
from espnet_kd.lattice.chunks import Nodes
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.stats import three_log_probs
from espnet_kd.losses.collapsed import Seen
from espnet_kd.losses.kl import KINDS, divergence


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
        # The part of its gradient that is q(v) at each token v, in multiples of the weight.
        self.of_student = {"forward": 1.0, "symmetric": 0.5, "reverse": 0.0}[kind]

    def values(self, nodes: Nodes, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Compute log q of {blank, next label, rest} and the divergence: see `Divergence`."""
        three, log_z = three_log_probs(logits.clone(), label)  # (n, 3), (n, 1)
        log_q = logits.sub_(log_z)  # (n, V)
        log_p = self._logits(nodes).log_softmax(-1)  # (n, V)
        if self.seen is not None:
            self.seen.keep(nodes, self.seen.two_of(nodes, log_p))
        return torch.cat([three, divergence(log_p, log_q, self.kind)[:, None]], -1)

    def grad(
        self, nodes: Nodes, logits: torch.Tensor, change: Change, label: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient of the logits: see `Divergence`. (n, V)"""
        log_z = change.log_z(logits, label)  # (n,)
        log_q = None if self.kind == "forward" else logits - log_z[:, None]  # (n, V)
        grad = grad_logits(logits, log_z, change.with_student(self.of_student), label)
        assert change.d_divergence is not None  # `values` gives four numbers
        weight = change.d_divergence[:, None]  # (n, 1)
        logits = self._logits(nodes)  # (n, V)
        if log_q is None:
            return grad.addcmul_(logits.softmax(-1), weight, value=-1.0)
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
        return grad

    def _logits(self, nodes: Nodes) -> torch.Tensor:
        return self.teacher.logits(self.teacher.hidden(nodes))  # (n, V)
