"""The walk over the lattice: a few numbers a node out, one gradient back.

A lattice of B * T * (U + 1) * V logits never exists. The first walk goes over it in chunks
and keeps, of every node, log p of {blank, next label, rest} and at most one divergence. The
second walk, in the backward pass, computes each chunk's logits again, forms their gradient
in place and multiplies it back into the projections and the output layer. Any loss that is
a function of those few numbers (the RNN-T loss, every distillation objective) is then
ordinary autograd on a (B, T, U + 1, 3) tensor.
"""

from typing import Optional, Protocol

import torch

from espnet_kd.lattice.chunks import Chunk, chunks
from espnet_kd.lattice.joint import Joint

NEG_INF = float("-inf")
# Bytes of a chunk: on a CPU it should stay in the cache, on a GPU fill the device.
DEFAULT_BUDGET = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}


class Divergence(Protocol):
    """A divergence from a teacher that needs more of a node than its three classes."""

    def value(self, chunk: Chunk, log_q: torch.Tensor) -> torch.Tensor:
        """Divergence of each node of the chunk. log_q: (n, V) -> (n,)"""

    def add_grad(
        self, chunk: Chunk, log_q: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor
    ) -> None:
        """Add weight (n,) times the gradient with respect to the logits to grad (n, V)."""


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
        # As Python numbers, once: chunks are planned on the host.
        lengths = t_len.tolist(), u_len.tolist()
        # Arrays of (n, V) that are alive together: logits, and three more with a teacher.
        arrays = 1 if divergence is None else 4
        node_bytes = stats.element_size() * (arrays * weight.size(0) + 2 * enc.size(2))
        for chunk in chunks(*lengths, node_bytes, budget):
            logits = joint.logits(joint.hidden(chunk))  # (n, V)
            here = stats[chunk.b, chunk.t0 : chunk.t1, : chunk.rows]  # (t, U + 1, 3 or 4)
            if divergence is not None:
                value = divergence.value(chunk, logits.log_softmax(-1))  # (n,)
                here[..., 3] = value.view(here.shape[:2])
            here[..., :3] = three_log_probs(logits, labels, chunk)
        ctx.save_for_backward(enc, dec, weight, bias, labels, stats)
        ctx.activation, ctx.divergence = activation, divergence
        ctx.lengths, ctx.node_bytes, ctx.budget = lengths, node_bytes, budget
        return stats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_stats):
        enc, dec, weight, bias, labels, stats = ctx.saved_tensors
        joint = Joint(enc, dec, weight, bias, ctx.activation)
        # Sums over many chunks: float32 or better, whatever the inputs are.
        d_enc, d_dec, d_weight, d_bias = (
            torch.zeros_like(x, dtype=stats.dtype) for x in (enc, dec, weight, bias)
        )
        for chunk in chunks(*ctx.lengths, ctx.node_bytes, ctx.budget):
            b, t0, t1, rows = chunk
            z = joint.hidden(chunk)  # (n, D)
            kept, d = (
                s[b, t0:t1, :rows].flatten(0, 1) for s in (stats, grad_stats)
            )  # (n, 3 or 4)
            grad = _grad_logits(joint.logits(z), kept, d, labels, chunk, ctx.divergence)  # (n, V)
            d_bias += grad.sum(0)
            grad = grad.to(weight.dtype)
            d_weight += grad.t() @ z
            d_z = (grad @ weight).to(stats.dtype)  # (n, D)
            d_z = joint.hidden_grad(chunk, z, d_z).view(t1 - t0, rows, -1)
            d_enc[b, t0:t1] += d_z.sum(1)
            d_dec[b, :rows] += d_z.sum(0)
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
        chunk: Where the nodes are.

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
    three[..., 2] = grid.logsumexp(-1)
    return three.sub_(three.logsumexp(-1, keepdim=True))


def _grad_logits(
    logits: torch.Tensor,
    three: torch.Tensor,
    d: torch.Tensor,
    labels: torch.Tensor,
    chunk: Chunk,
    divergence: Optional[Divergence],
) -> torch.Tensor:
    """Turn gradients of a node's few numbers into that of its logits.

    With d_c the gradient of log q(c), c in {blank, label, rest}, and s their sum:
    blank and label v: d_v - s q_v; any other v: (d_rest / q_rest - s) q_v.

    Args:
        logits: Overwritten. (n, V)
        three: What the first walk kept. (n, 3 or 4)
        d: Its gradient. (n, 3 or 4)
        labels: (B, U)
        chunk: Where the nodes are.
        divergence: The source of the fourth number.

    Returns:
        (n, V)
    """
    d_blank, d_label, d_rest = d[:, 0:1], d[:, 1:2], d[:, 2:3]  # (n, 1) each
    label = labels[chunk.b, : chunk.rows - 1]  # (U,)
    no_label = label.new_zeros(1)  # the row u = U: its d_label is not used
    label = torch.cat([label, no_label]).repeat(chunk.t1 - chunk.t0)[:, None]  # (n, 1)
    has_label = three[:, 1:2] > NEG_INF  # (n, 1)
    d_label = torch.where(has_label, d_label, 0.0)
    s = d_blank + d_label + d_rest
    log_rest = three[:, 2:3]
    # log q = logits - log Z, and log Z follows from the blank.
    log_q = logits.sub_(logits[:, :1] - three[:, :1])  # (n, V)
    kept = log_q.clone() if divergence is not None else None
    if bool((log_rest > -60.0).all()):
        grad = log_q.exp_().mul_(d_rest * (-log_rest).exp() - s)  # (n, V)
    else:
        # Where the rest has next to nothing, 1 / q(rest) overflows; q(v) / q(rest) does not.
        share = (log_q - log_rest.clamp_min(torch.finfo(log_q.dtype).min)).clamp_max_(0.0).exp_()
        grad = share.mul_(d_rest).sub_(log_q.exp_().mul_(s))
    at_label = d_label - s * three[:, 1:2].exp()
    grad.scatter_(1, label, torch.where(has_label, at_label, grad.gather(1, label)))
    grad[:, :1] = d_blank - s * three[:, :1].exp()
    if divergence is not None:
        divergence.add_grad(chunk, kept, d[:, 3], grad)
    return grad
