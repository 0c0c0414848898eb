"""The walk over the lattice: a few numbers a node out, one gradient back.

A lattice of B * T * (U + 1) * V logits never exists. The first walk goes over it in chunks
and keeps, of every node, log p of {blank, next label, rest} and at most one divergence. The
second walk, in the backward pass, computes each chunk's logits again, forms their gradient
in place and multiplies it back into the projections and the output layer. Any loss that is
a function of those few numbers (the RNN-T loss, every distillation objective) is then
ordinary autograd on a (B, T, U + 1, 3) tensor.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Tuple

import torch
import torch.nn.functional as F

from espnet_kd.lattice.chunks import Chunk, chunks
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.recursion import check_lattice

NEG_INF = float("-inf")
# Bytes of a chunk: on a CPU it should stay in the cache, on a GPU fill the device.
DEFAULT_BUDGET = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}


class Divergence(Protocol):
    """A divergence from a teacher that needs more of a node than its three classes."""

    def value(self, chunk: Chunk, log_q: torch.Tensor) -> torch.Tensor:
        """Divergence of each node of the chunk. log_q: (n, V) -> (n,)"""

    def add_grad(
        self, chunk: Chunk, log_q: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor
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
) -> torch.Tensor:
    """Compute log p of {blank, next label, rest} at every node; differentiable.

    Args:
        joint: The projected joint network.
        labels: Padded with anything in [0, V). (B, U)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        divergence: Adds a fourth number a node.
        budget: Bytes that a chunk may take; results do not depend on it. By default what
            suits the device.

    Returns:
        float32 or float64; zero in the padding; -inf for the label of the row u = U, which
        has none. (B, T, U + 1, 3), or (B, T, U + 1, 4) with a divergence.

    Raises:
        ValueError: a length lies outside the lattice.
    """
    if budget is None:
        budget = DEFAULT_BUDGET.get(joint.enc.device.type, DEFAULT_BUDGET["cuda"])
    return _Walk.apply(*joint, labels.long(), t_len, u_len, divergence, budget)


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx, enc, dec, weight, bias, activation, labels, t_len, u_len, divergence, budget):
        joint = Joint(enc, dec, weight, bias, activation)
        size = (*enc.shape[:2], dec.size(1), 3 if divergence is None else 4)
        dtype = torch.promote_types(enc.dtype, torch.float32)
        stats = torch.zeros(size, dtype=dtype, device=enc.device)  # (B, T, U + 1, 3 or 4)
        check_lattice(size, t_len, u_len)
        # As Python numbers, once: chunks are planned on the host.
        lengths = t_len.tolist(), u_len.tolist()
        # Arrays of (n, V) that are alive together: logits, and three more with a teacher.
        arrays = 1 if divergence is None else 4
        node_bytes = stats.element_size() * (arrays * weight.size(0) + 2 * enc.size(2))
        for chunk in chunks(*lengths, node_bytes, budget):
            logits = joint.logits(joint.hidden(chunk))  # (n, V)
            node = stats[chunk.b, chunk.t0 : chunk.t1, : chunk.rows]  # (t, U + 1, 3 or 4)
            if divergence is not None:
                logits = logits.log_softmax(-1)  # as good as any other logits of the node
                node[..., 3] = divergence.value(chunk, logits).view(node.shape[:2])
            node[..., :3] = three_log_probs(logits, labels, chunk)
        ctx.save_for_backward(enc, dec, weight, bias, labels, u_len, stats)
        ctx.activation, ctx.divergence = activation, divergence
        ctx.lengths, ctx.node_bytes, ctx.budget = lengths, node_bytes, budget
        return stats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_stats):
        enc, dec, weight, bias, labels, u_len, stats = ctx.saved_tensors
        joint = Joint(enc, dec, weight, bias, ctx.activation)
        # Sums over many chunks: float32 or better, whatever the inputs are.
        d_enc, d_dec, d_weight, d_bias = (
            torch.zeros_like(x, dtype=stats.dtype) for x in (enc, dec, weight, bias)
        )
        # Next label of each row; blank stands for the label that the rows u >= U do not have.
        row = torch.arange(stats.size(2), device=stats.device)  # (U + 1,)
        label = F.pad(labels, (0, len(row)))[:, : len(row)]  # (B, U + 1)
        label = label.masked_fill(row >= u_len.to(row.device)[:, None], 0)
        for chunk in chunks(*ctx.lengths, ctx.node_bytes, ctx.budget):
            b, t0, t1, rows = chunk
            if t0 == 0:  # the next utterance
                extent = slice(ctx.lengths[0][b]), slice(rows)
                change = _Change.of(stats[b][extent], grad_stats[b][extent])
                live = change.live_rows()
            u0, u1 = min(u for u, _ in live[t0:t1]), max(u for _, u in live[t0:t1])
            if u0 >= u1:
                continue  # no gradient at all
            part, chunk = joint._replace(dec=dec[:, u0:]), Chunk(b, t0, t1, u1 - u0)
            z = part.hidden(chunk)  # (n, D)
            change_of_part = change.at(slice(t0, t1), slice(u0, u1))
            grad = _grad_logits(
                part.logits(z), change_of_part, label[b, u0:u1], chunk, ctx.divergence
            )
            d_bias += grad.sum(0)
            grad = grad.to(weight.dtype)  # (n, V)
            if d_weight.dtype == grad.dtype:
                d_weight.addmm_(grad.t(), z)
            else:
                d_weight += grad.t() @ z
            d_z = (grad @ weight).to(stats.dtype)  # (n, D)
            d_z = part.hidden_grad(chunk, z, d_z).view(t1 - t0, u1 - u0, -1)
            d_enc[b, t0:t1] += d_z.sum(1)
            d_dec[b, u0:u1] += d_z.sum(0)
        grads = (
            g.to(x.dtype)
            for g, x in zip((d_enc, d_dec, d_weight, d_bias), (enc, dec, weight, bias))
        )
        return (*grads, *[None] * 6)


def three_log_probs(logits: torch.Tensor, labels: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """Compute log p of {blank, next label, rest} at the nodes of a chunk.

    The rest is summed, not 1 - p(blank) - p(label), which would cancel; the normaliser
    follows from the three, so that the vocabulary is passed over once.

    Args:
        logits: Overwritten. (n, V)
        labels: (B, U)
        chunk: Frames and rows of the nodes.

    Returns:
        (t1 - t0, rows, 3)
    """
    grid = logits.view(chunk.t1 - chunk.t0, chunk.rows, -1)  # (t, U + 1, V)
    label = labels[chunk.b, : chunk.rows - 1, None].expand(grid.size(0), -1, 1)  # (t, U, 1)
    three = torch.empty((*grid.shape[:2], 3), dtype=logits.dtype, device=logits.device)
    three[..., 0] = grid[..., 0]
    three[:, :-1, 1:2] = grid[:, :-1].gather(-1, label)
    three[:, -1, 1] = NEG_INF
    grid[..., 0] = NEG_INF
    grid[:, :-1].scatter_(-1, label, NEG_INF)
    # logsumexp in place. Where nothing is left for the rest, the largest is -inf.
    largest = grid.amax(-1, keepdim=True).clamp_min_(torch.finfo(grid.dtype).min)
    three[..., 2] = grid.sub_(largest).exp_().sum(-1).log_().add_(largest[..., 0])
    return three.sub_(three.logsumexp(-1, keepdim=True))


class _Change(NamedTuple):
    """The loss's change with the logits of nodes, but for the divergence.

    With d_c the gradient of log q(c), c in {blank, label, rest}, and s their sum:
    blank and label v: d_v - s q_v; any other v: (d_rest / q_rest - s) q_v.

    All are (T, U + 1) of one utterance.
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
        """Derive it from what the first walk kept and its gradient. (T, U + 1, 3 or 4) each"""
        log_blank, log_label, log_rest = stats[..., :3].unbind(-1)
        # The row u = U has no label: its gradient is not used.
        d_blank, d_rest = d[..., 0], d[..., 2]
        d_label = torch.where(log_label > NEG_INF, d[..., 1], 0.0)
        # Far from all likely paths an occupancy is nothing beside the largest in any sum, down
        # to denormal numbers, which processors are slow at. Such nodes are left out.
        size = torch.stack([d_blank, d_label, d_rest]).abs().amax(0)  # (T, U + 1)
        dust = size < size.amax() * torch.finfo(size.dtype).eps ** 2
        d_blank, d_label, d_rest = (x.masked_fill(dust, 0.0) for x in (d_blank, d_label, d_rest))
        s = d_blank + d_label + d_rest
        others = d_rest * (-log_rest).exp() - s if bool((log_rest > -60.0).all()) else None
        return cls(
            log_blank,
            log_rest,
            d_blank - s * log_blank.exp(),
            d_label - s * log_label.exp(),
            d_rest,
            s,
            others,
            d[..., 3] if d.size(-1) == 4 else None,
            bool((log_blank == NEG_INF).any()),
        )

    def at(self, frames: slice, rows: slice) -> "_Change":
        """Take a part."""
        parts: Dict[str, Any] = {
            name: None if x is None else x[frames, rows]
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
    chunk: Chunk,
    divergence: Optional[Divergence],
) -> torch.Tensor:
    """Turn gradients of a node's few numbers into that of its logits.

    Args:
        logits: Overwritten. (n, V)
        change: Gradients of the chunk's nodes.
        label: Next label of each row; blank where there is none. (rows,)
        chunk: Frames and rows of the nodes.
        divergence: The source of the fourth number.

    Returns:
        (n, V)
    """
    grid = logits.view(chunk.t1 - chunk.t0, chunk.rows, -1)  # (t, U + 1, V)
    # log q = logits - log Z, and log Z follows from the blank, if that can be said at all.
    log_z = grid.logsumexp(-1) if change.mute else grid[..., 0] - change.log_blank  # (t, rows)
    grid.sub_(log_z[..., None])
    kept = logits.clone() if divergence is not None else None  # (n, V)
    if change.others is not None:
        grid.exp_().mul_(change.others[..., None])
    else:
        # Where the rest has next to nothing, 1 / q(rest) overflows; q(v) / q(rest) does not.
        least = torch.finfo(grid.dtype).min
        share = (grid - change.log_rest.clamp_min(least)[..., None]).clamp_max_(0.0).exp_()
        share.mul_(change.d_rest[..., None])
        torch.sub(share, grid.exp_().mul_(change.s[..., None]), out=grid)
    index = label[:, None].expand(grid.size(0), -1, 1)  # (t, rows, 1)
    grid.scatter_(-1, index, change.at_label[..., None])
    grid[..., 0] = change.at_blank
    if divergence is not None:
        assert kept is not None and change.d_divergence is not None  # it gives four numbers
        divergence.add_grad(chunk, kept, change.d_divergence.reshape(-1), logits)
    return logits
