"""The walk over the lattice: a few numbers a node out, one gradient back.

A lattice of B * T * (U + 1) * V logits never exists. The first walk goes over it in chunks
and keeps, of every node, log p of {blank, next label, rest} and at most one divergence. The
second walk, in the backward pass, computes each chunk's logits again, forms their gradient
in place and multiplies it back into the projections and the output layer. Any loss that is
a function of those few numbers (the RNN-T loss, every distillation objective) is then
ordinary autograd on a (B, T, U + 1, 3) tensor.
"""

import functools
import itertools
import operator
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.change import (
    NEG_INF,
    Change,
    Divergence,
    grad_logits,
    grad_of_shares,
)
from espnet_kd.lattice.chunks import Chunk, Nodes, chunks
from espnet_kd.lattice.fused import Fused, fused
from espnet_kd.lattice.host_lengths import Lengths
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.nodes import checked_labels
from espnet_kd.lattice.packed import packed
from espnet_kd.lattice.side_by_side import shares, side_by_side

# Bytes of a chunk: on a CPU it should stay in the cache, on a GPU fill the device. With a
# divergence a CPU's has twice as much: smaller operators would not be worth their calls.
DEFAULT_BUDGET = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
# Bytes up to which the second walk is spared the first one's work, which is kept.
KEPT = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}


def node_stats(
    joint: Joint,
    labels: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    divergence: Optional[Divergence] = None,
    budget: Optional[int] = None,
    band: Optional[Band] = None,
    lengths: Optional[Lengths] = None,
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
        lengths: The same lengths, where the host has read them already.

    Returns:
        float32 or float64; zero in the padding; -inf for the label of the row u = U, which
        has none. (B, T, U + 1, 3), or (B, T, U + 1, 4) with a divergence; in a band (N, 3) or
        (N, 4).

    Raises:
        ValueError: parts, labels or lengths do not fit each other (of labels see
            `nodes.checked_labels`), or the activation has no right gradient.
    """
    if budget is None:
        budget = DEFAULT_BUDGET.get(joint.enc.device.type, DEFAULT_BUDGET["cuda"])
        if divergence is not None and joint.enc.device.type == "cpu":
            budget *= 2
    joint.check_sizes()
    joint.check_activation()
    size, device = (*joint.enc.shape[:2], joint.dec.size(1)), joint.enc.device
    lengths = lengths or Lengths(t_len, u_len, size, device)
    joint = joint.in_one_dtype()
    label = checked_labels(labels, lengths, joint.weight.size(0))  # (B, U + 1)
    # Arrays of (n, V) that are alive together: logits, and three more with a teacher.
    arrays = 1 if divergence is None else 4
    width = arrays * joint.weight.size(0) + 2 * joint.enc.size(2)
    dtype = torch.promote_types(joint.enc.dtype, torch.float32)
    node_bytes = width * dtype.itemsize
    inputs = (*joint[:4], *joint.parameters())
    nodes = lengths.nodes if band is None else len(band.place)
    keeps = (band is not None or packs(device)) and divergence is None
    keeps = keeps and nodes * node_bytes <= KEPT.get(device.type, KEPT["cuda"])
    keeps = keeps and torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    plan = _Plan(
        joint.activation,
        label,
        divergence,
        lengths,
        node_bytes,
        budget,
        band,
        packs(device),
        keeps,
        fused(joint) if band is not None or packs(device) else None,
    )
    return _Walk.apply(plan, *inputs)


def packs(device: torch.device) -> bool:
    """Tell whether chunks go across utterances there, and leave none of their nodes out.

    A CPU stays with one utterance at a time: it can be asked which nodes count.
    """
    return device.type != "cpu"


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
        packs: Whether chunks go across utterances, and nothing is asked of the device.
        keeps: Whether the first walk keeps its work for the second.
        fused: The passes by kernels; None: by operators.
    """

    activation: Any
    label: torch.Tensor
    divergence: Optional[Divergence]
    lengths: Lengths
    node_bytes: int
    budget: int
    band: Optional[Band]
    packs: bool
    keeps: bool
    fused: Optional[Fused]

    def shares(self, device: torch.device) -> List[List[Nodes]]:
        """List all nodes that count, in pieces; on a CPU in a share for each of torch's threads.

        A share has a chunk's work at least: for less no thread is worth its beginning.
        """
        size = self.node_bytes, self.budget
        pieces: List[Nodes]
        if self.band is not None:
            pieces = list(self.band.pieces(*size))
        elif self.packs:
            pieces = list(packed(self.lengths, *size))
        else:
            pieces = list(chunks(self.lengths.frames, self.lengths.labels, *size))
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        if threads == 1:
            return [pieces]
        nodes = self.lengths.nodes if self.band is None else len(self.band.place)
        return shares(pieces, min(threads, nodes * self.node_bytes // self.budget))

    def hidden(self, joint: Joint, nodes: Nodes) -> torch.Tensor:
        """Compute the hidden layer of some nodes. (n, D)"""
        return joint.hidden(nodes) if self.fused is None else self.fused.hidden(joint, nodes)

    def values(self, joint: Joint, nodes: Nodes) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """Compute the numbers of some nodes, (n, 3 or 4), and what is kept for `grad`."""
        z, label = self.hidden(joint, nodes), nodes.labels(self.label)  # (n, D), (n,)
        if self.divergence is not None:
            return self.divergence.values(nodes, joint.logits(z), label), []
        if self.fused is None:
            logits = joint.logits(z)  # (n, V)
            three, _ = three_log_probs(logits, label)  # (n, 3)
            return three, [z, logits] if self.keeps else []
        logits = joint.output(z)  # (n, V)
        three, log_z = self.fused.three_log_probs(logits, label)
        return three, [log_z, z, logits] if self.keeps else [log_z]

    def grad(
        self, joint: Joint, nodes: Nodes, change: Change, kept: Tuple[torch.Tensor, ...]
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the hidden layer of some nodes (n, D), and the gradient of their logits.

        The latter is in the output layer's type, (n, V), and summed over the nodes, (V,).
        """
        label = nodes.labels(self.label)  # (n,)
        if self.fused is not None and self.divergence is None:
            log_z, *z_and_logits = kept
            if z_and_logits:
                z, logits = z_and_logits
            else:
                z = self.hidden(joint, nodes)  # (n, D)
                logits = joint.output(z)  # (n, V)
            keep = bool(z_and_logits)  # `backward` may be called again
            return (z, *self.fused.grad_logits(logits, log_z, change, label, keep))
        if kept:
            z, rest = kept  # (n, D), (n, V)
            grad = grad_of_shares(rest, change, label)
        else:
            z = self.hidden(joint, nodes)
            logits = joint.logits(z)
            if self.divergence is None:
                grad = grad_logits(logits, change.log_z(logits, label), change, label)
            else:
                grad = self.divergence.grad(nodes, logits, change, label)
        return z, grad.to(joint.weight.dtype), grad.sum(0)

    def hidden_grad(
        self, joint: Joint, nodes: Nodes, z: torch.Tensor, d_z: torch.Tensor, dtype: torch.dtype
    ) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """Do `Joint.hidden_grad` in a type; `d_z` may have another. (n, D), and of parameters"""
        if self.fused is None:
            return joint.hidden_grad(nodes, z, d_z.to(dtype))
        return self.fused.hidden_grad(joint, nodes, z, d_z, dtype)

    def changes(
        self, stats: torch.Tensor, d_stats: torch.Tensor
    ) -> Callable[[List[Nodes]], Iterator[Tuple[Nodes, "Change"]]]:
        """Return what walks over nodes of a share at which the loss changes, with how it does."""
        if self.band is not None or self.packs:
            change = Change.of(stats, d_stats, dust=0.0 if self.packs else None)
            return lambda share: ((nodes, change.at(nodes.take)) for nodes in share)
        return functools.partial(self._live, stats, d_stats)

    def _live(
        self, stats: torch.Tensor, d_stats: torch.Tensor, share: List[Chunk]
    ) -> Iterator[Tuple[Nodes, "Change"]]:
        """Walk over the rows of whole utterances' chunks at which the loss changes."""
        for number, (b, t0, t1, rows, _) in enumerate(share):
            if number == 0 or b != share[number - 1].b:  # the next utterance
                extent = slice(self.lengths.frames[b]), slice(rows)
                change = Change.of(stats[b][extent], d_stats[b][extent])
                live = change.live_rows()
            u0, u1 = min(u for u, _ in live[t0:t1]), max(u for _, u in live[t0:t1])
            if u0 < u1:
                take = operator.itemgetter((slice(t0, t1), slice(u0, u1)))
                yield Chunk(b, t0, t1, u1 - u0, u0), change.at(take)


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, enc, dec, weight, bias, *parameters):
        joint = Joint(enc, dec, weight, bias, plan.activation)
        size = 3 if plan.divergence is None else 4
        extent = plan.lengths.size if plan.band is None else (len(plan.band.place),)
        dtype = torch.promote_types(enc.dtype, torch.float32)
        stats = torch.zeros((*extent, size), dtype=dtype, device=enc.device)

        def walk(share: List[Nodes]) -> List[torch.Tensor]:
            kept: List[torch.Tensor] = []
            for nodes in share:
                values, more = plan.values(joint, nodes)  # (n, 3 or 4)
                nodes.put(stats, values)
                kept += more
            return kept

        shares = plan.shares(enc.device)
        with torch.autocast(enc.device.type, enabled=False):
            kept = side_by_side(walk, shares)
        ctx.save_for_backward(enc, dec, weight, bias, stats, *itertools.chain(*kept))
        ctx.plan, ctx.shares = plan, shares
        return stats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_stats):
        enc, dec, weight, bias, stats, *kept = ctx.saved_tensors
        parts = (enc, dec, weight, bias)
        plan, joint = ctx.plan, Joint(*parts, ctx.plan.activation)
        inputs = (*parts, *joint.parameters())
        changes = plan.changes(stats, d_stats)
        # As many of each chunk: tuples of so many, which stand in one row.
        memory = zip(*[iter(kept)] * (len(kept) // sum(map(len, ctx.shares))))
        shares = [(x, list(itertools.islice(memory, len(x)))) for x in ctx.shares]

        def walk(part: Tuple[List[Nodes], List[Tuple[torch.Tensor, ...]]]) -> List[torch.Tensor]:
            share, kept = part
            # Sums over many chunks: float32 or better, whatever the inputs are.
            dtypes = [torch.promote_types(x.dtype, stats.dtype) for x in inputs]
            sums = [x.new_zeros(x.shape, dtype=dtype) for x, dtype in zip(inputs, dtypes)]
            d_enc, d_dec, d_weight, d_bias, *d_parameters = sums
            for number, (nodes, change) in enumerate(changes(share)):
                known = kept[number] if kept else ()
                z, grad, more = plan.grad(joint, nodes, change, known)
                d_bias += more
                if d_weight.dtype == grad.dtype:
                    d_weight.addmm_(grad.t(), z)
                else:
                    d_weight += grad.t() @ z
                d_z, d = plan.hidden_grad(joint, nodes, z, grad @ weight, stats.dtype)  # (n, D)
                nodes.add_grad(d_z, d_enc, d_dec)
                for total, more in zip(d_parameters, d):
                    total += more
            return sums

        with torch.autocast(enc.device.type, enabled=False):
            sums, *others = side_by_side(walk, shares)
        for more in others:
            for total, part in zip(sums, more):
                total += part
        return (None, *(g.to(x.dtype) for g, x in zip(sums, inputs)))


def three_log_probs(
    logits: torch.Tensor, label: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Compute log p of {blank, next label, rest} at some nodes.

    The rest is summed, not 1 - p(blank) - p(label), which would cancel; the normaliser
    follows from the three, so that the vocabulary is passed over once.

    Args:
        logits: Overwritten by p of the rest, up to a factor a node; nothing at blank and
            label. (n, V)
        label: Next label; blank where there is none. (n,)

    Returns:
        (n, 3), and the normaliser that was taken off the logits. (n, 1)
    """
    two = blank_and_label(logits, label)  # (n, 2)
    three = torch.cat([two, log_rest_(logits, label)], -1)  # (n, 3)
    log_z = three.logsumexp(-1, keepdim=True)  # (n, 1)
    return three.sub_(log_z), log_z


def blank_and_label(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return logits of blank and the next label, -inf where there is none. (n, V) -> (n, 2)"""
    index = label[:, None]  # (n, 1)
    there = logits.gather(-1, index).masked_fill_(index == 0, NEG_INF)
    return torch.cat([logits[:, :1], there], -1)


def log_rest_(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Do `log_sum_exp_` of all tokens but blank and label. (n, V) -> (n, 1)"""
    logits[:, 0] = NEG_INF
    return log_sum_exp_(logits.scatter_(-1, label[:, None], NEG_INF))


def log_sum_exp_(logits: torch.Tensor) -> torch.Tensor:
    """Sum exponentials in place, which leaves them up to a factor a node. (n, V) -> (n, 1)"""
    # Where there is nothing, the largest is -inf.
    largest = logits.amax(-1, keepdim=True).clamp_min_(torch.finfo(logits.dtype).min)  # (n, 1)
    return logits.sub_(largest).exp_().sum(-1, keepdim=True).log_().add_(largest)
