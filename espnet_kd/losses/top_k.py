"""KL over the teacher's k likeliest tokens and the rest, at every node.

What a cache of the k likeliest tokens would hold (anchors: 205 GB for 960 h at k = 8 against
12.8 TB for the whole vocabulary); k = V - 1 is the full vocabulary.
"""

from typing import Optional, Tuple

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.chunks import Nodes
from espnet_kd.lattice.joint import Joint
from espnet_kd.losses.collapsed import Seen
from espnet_kd.losses.kl import KINDS, divergence

NEG_INF = float("-inf")
KEPT = 16  # tokens: 136 bytes a node


class TopKKL:
    """The `Divergence` of a lattice walk over k + 1 classes that the teacher chooses.

    The first walk computes the gradient with respect to the k + 1 classes along with the value. Of
    up to `KEPT` classes it is kept for the second walk, which then does not ask the teacher again.

    Args:
        teacher: The teacher's projected joint network; its D may be another.
        k: Tokens that are classes of their own.
        kind: See `losses.kl.divergence`.
        seen: Receiver of what the first walk computes of the teacher.
        band: The nodes that count; None: all.

    Raises:
        ValueError: k is not in [1, V).
    """

    def __init__(
        self,
        teacher: Joint,
        k: int,
        kind: str = "forward",
        seen: Optional[Seen] = None,
        band: Optional[Band] = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}: got '{kind}'")
        if not 1 <= k < teacher.weight.size(0):
            raise ValueError(f"k must lie in [1, {teacher.weight.size(0)}): got {k}")
        self.teacher = teacher.detach().in_one_dtype()
        self.k, self.kind, self.seen = k, kind, seen
        self.of_student, self.wants_student = 0.0, True
        self.kept: Optional[Tuple[torch.Tensor, torch.Tensor]] = None
        if k <= KEPT and torch.is_grad_enabled():
            enc = self.teacher.enc
            size = (*enc.shape[:2], self.teacher.dec.size(1)) if band is None else band.place.shape
            dtype = torch.promote_types(enc.dtype, torch.float32)
            self.kept = (
                enc.new_empty(*size, k + 2, dtype=dtype),
                enc.new_empty(*size, k, dtype=torch.int32),
            )

    def value(self, nodes: Nodes, log_q: torch.Tensor) -> torch.Tensor:
        """Divergence of some nodes. log_q: (n, V) -> (n,)"""
        if self.kept is None:
            log_p, index = self._classes(nodes, self.seen)
            return divergence(log_p, _gather(log_q, index), self.kind)
        value, change, index = self._change(nodes, log_q, self.seen)
        nodes.put(self.kept[0], change)
        nodes.put(self.kept[1], index)
        return value

    def add_grad(
        self,
        nodes: Nodes,
        log_q: Optional[torch.Tensor],
        weight: torch.Tensor,
        grad: torch.Tensor,
    ) -> None:
        """Add weight (n,) times the gradient with respect to the logits to grad (n, V)."""
        assert log_q is not None  # it is wanted
        if self.kept is None:
            _, change, index = self._change(nodes, log_q)
        else:
            change, index = nodes.take(self.kept[0]), nodes.take(self.kept[1]).long()
        d, rest = change[:, :-1] * weight[:, None], change[:, -1:]  # (n, k + 1), (n, 1)
        share = log_q.sub_(rest).clamp_max_(0.0).exp_()  # q_v / q_rest, (n, V)
        share.scatter_(1, index, 0.0)
        grad.addcmul_(share, d[:, -1:])
        grad.scatter_add_(1, index, d[:, :-1].to(grad.dtype))

    def _change(
        self, nodes: Nodes, log_q: torch.Tensor, seen: Optional[Seen] = None
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the divergence and how it changes with the logits of the classes.

        Returns:
            The divergence (n,); its gradients of the k tokens' logits and of all others'
            together, and log q of those (n, k + 2); the tokens (n, k).
        """
        log_p, index = self._classes(nodes, seen)
        with torch.enable_grad():  # of k + 1 numbers a node: autograd is cheap
            classes = _gather(log_q, index).requires_grad_()
            value = divergence(log_p, classes, self.kind)
            (d,) = torch.autograd.grad(value.sum(), classes)  # (n, k + 1)
        # d_c - s q_c for each class. They sum to nothing, which says the likeliest class's
        # own without cancelling where it has nearly all.
        classes = classes.detach()
        d = d - d.sum(-1, keepdim=True) * classes.exp()
        top = classes.argmax(-1, keepdim=True)  # (n, 1)
        d.scatter_(1, top, 0.0).scatter_(1, top, -d.sum(-1, keepdim=True))
        rest = classes[:, -1:].clamp_min(torch.finfo(log_q.dtype).min)  # (n, 1)
        return value.detach(), torch.cat([d, rest], -1), index

    def _classes(
        self, nodes: Nodes, seen: Optional[Seen] = None
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """The teacher's log-probabilities (n, k + 1) and its tokens (n, k)."""
        logits = self.teacher.logits(self.teacher.hidden(nodes))  # (n, V)
        likeliest, index = _topk(logits, self.k)  # (n, k) each
        two = None if seen is None else seen.two_of(nodes, logits)  # (n, 2)
        rest = logits.scatter_(-1, index, NEG_INF).logsumexp(-1, keepdim=True)  # (n, 1)
        classes = torch.cat([likeliest, rest], dim=-1)  # (n, k + 1)
        # The normaliser follows from the classes: the vocabulary is passed over once.
        log_z = classes.logsumexp(-1, keepdim=True)  # (n, 1)
        if seen is not None and two is not None:
            seen.keep(nodes, two.sub_(log_z))
        return classes.sub_(log_z), index


def _topk(logits: torch.Tensor, k: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Find the k largest of each node. (n, V) -> (n, k) each"""
    short = 64 * k - logits.size(-1)
    # A CPU sorts all of a row that has less than 64 k numbers, which takes it twice as long.
    if logits.device.type == "cpu" and 0 < short < logits.size(-1) // 4:
        logits = torch.nn.functional.pad(logits, (0, short), value=NEG_INF)
    return logits.topk(k, dim=-1)


def _gather(log_q: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Reduce (n, V) to the tokens of `index` and the sum of the rest. (n, k + 1)"""
    likeliest = log_q.gather(-1, index)
    rest = log_q.scatter(-1, index, NEG_INF).logsumexp(-1, keepdim=True)
    return torch.cat([likeliest, rest], dim=-1)
