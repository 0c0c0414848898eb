"""The walk over the lattice: a few numbers a node out, one gradient back.

A lattice of B * T * (U + 1) * V logits never exists. The first walk goes over it in chunks
and keeps, of every node, log p of {blank, next label, rest} and at most one divergence. The
second walk, in the backward pass, computes each chunk's logits again, forms their gradient
in place and multiplies it back into the projections and the output layer. Any loss that is
a function of those few numbers (the RNN-T loss, every distillation objective) is then
ordinary autograd on a (B, T, U + 1, 3) tensor.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Protocol, Tuple

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.chunks import Chunk, Nodes, chunks
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.nodes import next_labels
from espnet_kd.lattice.recursion import check_lattice

NEG_INF = float("-inf")
# Bytes of a chunk: on a CPU it should stay in the cache, on a GPU fill the device.
DEFAULT_BUDGET = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}


class Divergence(Protocol):
    """A divergence from a teacher that needs more of a node than its three classes."""

    def value(self, nodes: Nodes, log_q: torch.Tensor) -> torch.Tensor:
        """Divergence of some nodes. log_q: (n, V) -> (n,)"""

    def add_grad(
        self, nodes: Nodes, log_q: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor
    ) -> None:
        """Add weight (n,) times the gradient with respect to the logits to grad (n, V).

        log_q (n, V) may be overwritten.
        """


def node_stats(
    joint: Joint,
    labels: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    divergence: Optional[Divergence] = None,
    budget: Optional[int] = None,
    band: Optional[Band] = None,
) -> torch.Tensor:
    """Compute log p of {blank, next label, rest} at every node; differentiable.

    Under autocast it is computed in autocast's dtype, forwards and backwards alike, wherever
    `backward` is called.

    Args:
        joint: The projected joint network.
        labels: Padded with anything in [0, V). (B, U)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        divergence: Adds a fourth number a node.
        budget: Bytes that a chunk may take; results do not depend on it. By default what
            suits the device.
        band: The nodes that count; None: all.

    Returns:
        float32 or float64; zero in the padding; -inf for the label of the row u = U, which
        has none. (B, T, U + 1, 3), or (B, T, U + 1, 4) with a divergence; in a band (N, 3) or
        (N, 4).

    Raises:
        ValueError: a length lies outside the lattice, or the activation has no right gradient.
    """
    if budget is None:
        budget = DEFAULT_BUDGET.get(joint.enc.device.type, DEFAULT_BUDGET["cuda"])
    size = (*joint.enc.shape[:2], joint.dec.size(1))
    check_lattice(size, t_len, u_len)
    joint.check_activation()
    joint = joint.in_one_dtype()
    label = next_labels(labels, u_len, size[2])  # (B, U + 1)
    # As Python numbers, once: chunks are planned on the host.
    lengths = t_len.tolist(), u_len.tolist()
    # Arrays of (n, V) that are alive together: logits, and three more with a teacher.
    arrays = 1 if divergence is None else 4
    width = arrays * joint.weight.size(0) + 2 * joint.enc.size(2)
    dtype = torch.promote_types(joint.enc.dtype, torch.float32)
    plan = _Plan(
        joint.activation, label, divergence, lengths, width * dtype.itemsize, budget, band
    )
    return _Walk.apply(plan, *joint[:4], *joint.parameters())


class _Plan(NamedTuple):
    """What a walk is made of, but for the tensors that get gradients.

    Attributes:
        activation: The joint network's.
        label: Next label of each row; blank where there is none. (B, U + 1)
        divergence: The source of a fourth number, if there is one.
        lengths: Frames and labels of each utterance.
        node_bytes: Bytes that one node takes.
        budget: Bytes that a chunk may take.
        band: The nodes that count; None: all.
    """

    activation: Any
    label: torch.Tensor
    divergence: Optional[Divergence]
    lengths: Tuple[List[int], List[int]]
    node_bytes: int
    budget: int
    band: Optional[Band]

    def pieces(self) -> Iterator[Nodes]:
        """Walk over all nodes that count."""
        if self.band is None:
            return chunks(*self.lengths, self.node_bytes, self.budget)
        return self.band.pieces(self.node_bytes, self.budget)

    def changes(
        self, stats: torch.Tensor, d_stats: torch.Tensor
    ) -> Iterator[Tuple[Nodes, "_Change"]]:
        """Walk over all nodes at which the loss changes, with how it does."""
        if self.band is not None:
            change = _Change.of(stats, d_stats)
            for piece in self.band.pieces(self.node_bytes, self.budget):
                yield piece, change.at(slice(piece.start, piece.stop))
            return
        for chunk in chunks(*self.lengths, self.node_bytes, self.budget):
            b, t0, t1, rows, _ = chunk
            if t0 == 0:  # the next utterance
                extent = slice(self.lengths[0][b]), slice(rows)
                change = _Change.of(stats[b][extent], d_stats[b][extent])
                live = change.live_rows()
            u0, u1 = min(u for u, _ in live[t0:t1]), max(u for _, u in live[t0:t1])
            if u0 < u1:
                yield (
                    Chunk(b, t0, t1, u1 - u0, u0),
                    change.at((slice(t0, t1), slice(u0, u1))),
                )


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, enc, dec, weight, bias, *parameters):
        joint = Joint(enc, dec, weight, bias, plan.activation)
        kept = 3 if plan.divergence is None else 4
        size = (*enc.shape[:2], dec.size(1)) if plan.band is None else (len(plan.band.place),)
        dtype = torch.promote_types(enc.dtype, torch.float32)
        stats = torch.zeros((*size, kept), dtype=dtype, device=enc.device)
        with torch.autocast(enc.device.type, enabled=False):
            for nodes in plan.pieces():
                logits = joint.logits(joint.hidden(nodes))  # (n, V)
                values = logits.new_empty(len(logits), kept)  # (n, 3 or 4)
                if plan.divergence is not None:
                    logits = logits.log_softmax(-1)  # as good as any other logits of the node
                    values[:, 3] = plan.divergence.value(nodes, logits)
                values[:, :3] = three_log_probs(logits, nodes.labels(plan.label))
                nodes.put(stats, values)
        ctx.save_for_backward(enc, dec, weight, bias, stats)
        ctx.plan = plan
        return stats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_stats):
        *parts, stats = ctx.saved_tensors
        enc, dec, weight, bias = parts
        joint = Joint(*parts, ctx.plan.activation)
        # Sums over many chunks: float32 or better, whatever the inputs are.
        parameters = joint.parameters()
        sums = [
            torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, stats.dtype), device=x.device)
            for x in (*parts, *parameters)
        ]
        d_enc, d_dec, d_weight, d_bias, *d_parameters = sums
        with torch.autocast(enc.device.type, enabled=False):
            for nodes, change in ctx.plan.changes(stats, d_stats):
                z = joint.hidden(nodes)  # (n, D)
                label = nodes.labels(ctx.plan.label)  # (n,)
                grad = _grad_logits(joint.logits(z), change, label, nodes, ctx.plan.divergence)
                d_bias += grad.sum(0)
                grad = grad.to(weight.dtype)  # (n, V)
                if d_weight.dtype == grad.dtype:
                    d_weight.addmm_(grad.t(), z)
                else:
                    d_weight += grad.t() @ z
                d_z = (grad @ weight).to(stats.dtype)  # (n, D)
                d_z, d = joint.hidden_grad(nodes, z, d_z)
                nodes.add_grad(d_z, d_enc, d_dec)
                for total, part in zip(d_parameters, d):
                    total += part
        return (None, *(g.to(x.dtype) for g, x in zip(sums, (*parts, *parameters))))


def three_log_probs(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Compute log p of {blank, next label, rest} at some nodes.

    The rest is summed, not 1 - p(blank) - p(label), which would cancel; the normaliser
    follows from the three, so that the vocabulary is passed over once.

    Args:
        logits: Overwritten. (n, V)
        label: Next label; blank where there is none. (n,)

    Returns:
        (n, 3)
    """
    three = logits.new_empty(len(logits), 3)
    three[:, 0] = logits[:, 0]
    index = label[:, None]  # (n, 1)
    three[:, 1:2] = logits.gather(-1, index).masked_fill_(index == 0, NEG_INF)
    logits[:, 0] = NEG_INF
    logits.scatter_(-1, index, NEG_INF)
    # logsumexp in place. Where nothing is left for the rest, the largest is -inf.
    largest = logits.amax(-1, keepdim=True).clamp_min_(torch.finfo(logits.dtype).min)
    three[:, 2] = logits.sub_(largest).exp_().sum(-1).log_().add_(largest[:, 0])
    return three.sub_(three.logsumexp(-1, keepdim=True))


class _Change(NamedTuple):
    """The loss's change with the logits of nodes, but for the divergence.

    With d_c the gradient of log q(c), c in {blank, label, rest}, and s their sum:
    blank and label v: d_v - s q_v; any other v: (d_rest / q_rest - s) q_v. Where a class has
    nearly all, d_c - s q_c would cancel: it is d_c (1 - q_c) less what the other two have of s.

    All are (T, U + 1) of one utterance, or (N,) of a band.
    """

    log_blank: torch.Tensor
    log_rest: torch.Tensor
    at_blank: torch.Tensor
    at_label: torch.Tensor
    d_rest: torch.Tensor
    s: torch.Tensor
    others: Optional[torch.Tensor]  # d_rest / q_rest - s; None where q_rest is next to nothing
    d_divergence: Optional[torch.Tensor]
    mute: bool = False  # whether blank has log q = -inf somewhere

    @classmethod
    def of(cls, stats: torch.Tensor, d: torch.Tensor) -> "_Change":
        """Derive it from what the first walk kept and its gradient. (..., 3 or 4) each"""
        log_blank, log_label, log_rest = stats[..., :3].unbind(-1)
        # The row u = U has no label: its gradient is not used.
        d_blank, d_rest = d[..., 0], d[..., 2]
        d_label = torch.where(log_label > NEG_INF, d[..., 1], 0.0)
        # Far from all likely paths an occupancy is nothing beside the largest in any sum, down
        # to denormal numbers, which processors are slow at. Such nodes are left out.
        size = torch.stack([d_blank, d_label, d_rest]).abs().amax(0)  # (...)
        dust = size < size.amax() * torch.finfo(size.dtype).eps ** 2
        d_blank, d_label, d_rest = (x.masked_fill(dust, 0.0) for x in (d_blank, d_label, d_rest))
        q_blank, q_label, q_rest = (x.exp() for x in (log_blank, log_label, log_rest))
        s = d_blank + d_label + d_rest
        others = None
        if bool((log_rest > -60.0).all()):
            others = d_rest * (q_blank + q_label) / q_rest - d_blank - d_label
        return cls(
            log_blank,
            log_rest,
            d_blank * (q_label + q_rest) - (d_label + d_rest) * q_blank,
            d_label * (q_blank + q_rest) - (d_blank + d_rest) * q_label,
            d_rest,
            s,
            others,
            d[..., 3] if d.size(-1) == 4 else None,
            bool((log_blank == NEG_INF).any()),
        )

    def at(self, part: Any) -> "_Change":
        """Take some nodes, by an index of all of them. -> (n,)"""
        parts: Dict[str, Any] = {
            name: None if x is None else x[part].reshape(-1)
            for name, x in self._asdict().items()
            if name != "mute"
        }
        return self._replace(**parts)

    def live_rows(self) -> List[Tuple[int, int]]:
        """First row and row after the last of each frame at which the loss changes at all."""
        T, U1 = self.s.shape
        if self.d_divergence is not None:
            return [(0, U1)] * T
        parts = torch.stack([self.at_blank, self.at_label, self.d_rest, self.s])
        live = (parts != 0).any(0)  # (T, U + 1)
        row = torch.arange(U1, device=live.device)
        first = torch.where(live, row, U1).amin(-1)  # (T,)
        last = torch.where(live, row + 1, 0).amax(-1)
        return list(zip(first.tolist(), last.tolist()))


def _grad_logits(
    logits: torch.Tensor,
    change: _Change,
    label: torch.Tensor,
    nodes: Nodes,
    divergence: Optional[Divergence],
) -> torch.Tensor:
    """Turn gradients of a node's few numbers into that of its logits.

    Args:
        logits: Overwritten. (n, V)
        change: Gradients of these nodes.
        label: Next label; blank where there is none. (n,)
        nodes: Which nodes they are.
        divergence: The source of the fourth number.

    Returns:
        (n, V)
    """
    # log q = logits - log Z, and log Z follows from the blank, if that can be said at all.
    log_z = logits.logsumexp(-1) if change.mute else logits[:, 0] - change.log_blank  # (n,)
    logits.sub_(log_z[:, None])
    kept = logits.clone() if divergence is not None else None  # (n, V)
    if change.others is not None:
        logits.exp_().mul_(change.others[:, None])
    else:
        # Where the rest has next to nothing, 1 / q(rest) overflows; q(v) / q(rest) does not.
        least = torch.finfo(logits.dtype).min
        share = (logits - change.log_rest.clamp_min(least)[:, None]).clamp_max_(0.0).exp_()
        share.mul_(change.d_rest[:, None])
        torch.sub(share, logits.exp_().mul_(change.s[:, None]), out=logits)
    logits.scatter_(-1, label[:, None], change.at_label[:, None])
    logits[:, 0] = change.at_blank
    if divergence is not None:
        assert kept is not None and change.d_divergence is not None  # it gives four numbers
        divergence.add_grad(nodes, kept, change.d_divergence, logits)
    return logits
