"""KL over the teacher's k likeliest tokens and the rest, at every node.

What a cache of the k likeliest tokens would hold (anchors: 205 GB for 960 h at k = 8 against
12.8 TB for the whole vocabulary); k = V - 1 is the full vocabulary.
"""

from typing import Optional, Tuple

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.change import NEG_INF, Change, with_classes
from espnet_kd.lattice.chunks import Nodes
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.stats import blank_and_label, log_rest_, log_sum_exp_
from espnet_kd.losses.collapsed import Seen
from espnet_kd.losses.kl import KINDS, divergence

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
        self.teacher = _for_topk(teacher.detach().in_one_dtype(), k)
        self.k, self.kind, self.seen = k, kind, seen
        self.kept: Optional[Tuple[torch.Tensor, torch.Tensor]] = None
        if k <= KEPT and torch.is_grad_enabled():
            enc = self.teacher.enc
            size = (*enc.shape[:2], self.teacher.dec.size(1)) if band is None else band.place.shape
            dtype = torch.promote_types(enc.dtype, torch.float32)
            self.kept = (
                enc.new_empty(*size, k + 2, dtype=dtype),
                enc.new_empty(*size, k, dtype=torch.int32),
            )

    def values(self, nodes: Nodes, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Compute log q of {blank, next label, rest} and the divergence: see `Divergence`."""
        log_p, index = self._teacher(nodes, self.seen)
        three, log_q = _student(logits, label, index)
        if self.kept is None:
            value = divergence(log_p, log_q, self.kind)  # (n,)
        else:
            value, change = self._change(log_p, log_q)
            nodes.put(self.kept[0], change)
            nodes.put(self.kept[1], index)
        return torch.cat([three, value[:, None]], -1)

    def grad(
        self, nodes: Nodes, logits: torch.Tensor, change: Change, label: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient of the logits: see `Divergence`. (n, V)"""
        if self.kept is None:
            log_p, index = self._teacher(nodes)
            _, of_classes = self._change(log_p, _student(logits.clone(), label, index)[1])
        else:
            of_classes, index = nodes.take(self.kept[0]), nodes.take(self.kept[1]).long()
        of_classes = of_classes.to(logits.dtype)  # the teacher's may be another
        assert change.d_divergence is not None  # `values` gives four numbers
        d, log_others = of_classes[:, :-1] * change.d_divergence[:, None], of_classes[:, -1:]
        d_tokens, d_others = d[:, :-1], d[:, -1:]  # (n, k), (n, 1)
        log_z = change.log_z(logits, label)[:, None]  # (n, 1)
        log_rest, at_rest = change.log_rest[:, None], change.at_rest[:, None]  # (n, 1) each
        tokens = logits.gather(-1, index).sub_(log_z)  # log q, (n, k)
        # A token that neither the three classes nor the k name has a share of both rests. By the
        # smaller of them exp does not overflow there; all others are written over.
        least = torch.minimum(log_rest, log_others)  # (n, 1)
        share = at_rest * (least - log_rest).exp() + d_others * (least - log_others).exp()
        grad = logits.sub_(log_z + least).exp_().mul_(share)
        # Blank and label are among the others, or written over as tokens.
        log_two = torch.stack([change.log_blank, change.log_label], -1)  # (n, 2)
        d_two = d_others * (log_two - log_others).exp()  # (n, 2)
        two = change._replace(
            at_blank=change.at_blank + d_two[:, 0], at_label=change.at_label + d_two[:, 1]
        )
        with_classes(grad, two, label)
        of_three = at_rest * (tokens - log_rest).exp()  # (n, k)
        of_three = torch.where(index == label[:, None], change.at_label[:, None], of_three)
        of_three = torch.where(index == 0, change.at_blank[:, None], of_three)
        return grad.scatter_(-1, index, of_three.add_(d_tokens))

    def _change(
        self, log_p: torch.Tensor, log_q: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Compute the divergence and how it changes with the logits of the classes.

        Args:
            log_p: The teacher's log-probabilities of the classes. (n, k + 1)
            log_q: The student's. (n, k + 1)

        Returns:
            The divergence (n,); its gradients of the k tokens' logits and of all others'
            together, and log q of those (n, k + 2).
        """
        with torch.enable_grad():  # of k + 1 numbers a node: autograd is cheap
            classes = log_q.requires_grad_()
            value = divergence(log_p, classes, self.kind)
            (d,) = torch.autograd.grad(value.sum(), classes)  # (n, k + 1)
        # d_c - s q_c for each class. They sum to nothing, which says the likeliest class's
        # own without cancelling where it has nearly all.
        classes = classes.detach()
        d = d - d.sum(-1, keepdim=True) * classes.exp()
        top = classes.argmax(-1, keepdim=True)  # (n, 1)
        d.scatter_(1, top, 0.0).scatter_(1, top, -d.sum(-1, keepdim=True))
        rest = classes[:, -1:].clamp_min(torch.finfo(log_q.dtype).min)  # (n, 1)
        return value.detach(), torch.cat([d, rest], -1)

    def _teacher(
        self, nodes: Nodes, seen: Optional[Seen] = None
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """The teacher's log-probabilities (n, k + 1) and its tokens (n, k)."""
        logits = self.teacher.logits(self.teacher.hidden(nodes))  # (n, V)
        likeliest, index = logits.topk(self.k, dim=-1)  # (n, k) each
        two = None if seen is None else seen.two_of(nodes, logits)  # (n, 2)
        rest = log_sum_exp_(logits.scatter_(-1, index, NEG_INF))  # (n, 1)
        classes = torch.cat([likeliest, rest], dim=-1)  # (n, k + 1)
        # The normaliser follows from the classes: the vocabulary is passed over once.
        log_z = classes.logsumexp(-1, keepdim=True)  # (n, 1)
        if seen is not None and two is not None:
            seen.keep(nodes, two.sub_(log_z))
        return classes.sub_(log_z), index


def _for_topk(joint: Joint, k: int) -> Joint:
    """Give a joint network tokens that it never says, if its k likeliest are then had sooner."""
    V = joint.weight.size(0)
    short = 64 * k - V
    # A CPU sorts all of a row that has less than 64 k numbers, which takes it twice as long. A
    # token that is never said either could be taken for one of these.
    if joint.weight.device.type != "cpu" or not 0 < short < V // 4 or joint.bias.isinf().any():
        return joint
    weight = torch.nn.functional.pad(joint.weight, (0, 0, 0, short))  # (64 k, D)
    bias = torch.nn.functional.pad(joint.bias, (0, short), value=NEG_INF)  # (64 k,)
    return joint._replace(weight=weight, bias=bias)


def _student(
    logits: torch.Tensor, label: torch.Tensor, index: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Compute log q of both sets of classes; the vocabulary is passed over once for both.

    Args:
        logits: Overwritten. (n, V)
        label: Next label; blank where there is none. (n,)
        index: The teacher's tokens. (n, k)

    Returns:
        Of {blank, next label, rest} (n, 3); of the tokens and the rest (n, k + 1).
    """
    two, tokens = blank_and_label(logits, label), logits.gather(-1, index)  # (n, 2), (n, k)
    others = log_rest_(logits.scatter_(-1, index, NEG_INF), label)  # of neither, (n, 1)
    is_label, is_blank = index == label[:, None], index == 0  # (n, k) each
    beside = tokens.masked_fill(is_label | is_blank, NEG_INF)  # (n, k)
    rest = torch.cat([beside, others], -1).logsumexp(-1, keepdim=True)  # (n, 1)
    three = torch.cat([two, rest], -1)  # (n, 3)
    log_z = three.logsumexp(-1, keepdim=True)  # (n, 1)
    among = torch.stack([is_blank.any(-1), is_label.any(-1)], -1)  # (n, 2)
    rest = torch.cat([two.masked_fill(among, NEG_INF), others], -1).logsumexp(-1, keepdim=True)
    return three.sub_(log_z), torch.cat([tokens, rest], -1).sub_(log_z)
