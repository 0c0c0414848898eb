"""The RNN-T recursion inside a band: `recursion`, on nodes without padding.

Exact: the loss is -log of the sum over all paths that stay inside, its gradient their
occupancies.
"""

from typing import List

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.recursion import NEG_INF


def banded_rnnt_loss(
    log_probs: torch.Tensor,
    band: Band,
    fastemit_lambda: float = 0.0,
) -> torch.Tensor:
    """Compute -log of the probability of all paths inside a band.

    Args:
        log_probs: log p(blank) and log p(next label) of each node of the band. (N, 2)
        band: The band.
        fastemit_lambda: See `recursion.rnnt_loss`.

    Returns:
        Loss in nats; infinite without a path inside. (B,)
    """
    return _Banded.apply(log_probs, band.steps, fastemit_lambda)


class _Banded(torch.autograd.Function):
    """-log P per utterance; backward is FastEmit-weighted occupancies."""

    @staticmethod
    def forward(ctx, log_probs, steps, fastemit):
        N = len(steps.order)
        # float64: see `recursion`. What is not there has log p = -inf.
        arcs = log_probs.double()[steps.order].t()  # (2, N)
        alpha = arcs.new_full((N + 1,), NEG_INF)
        alpha[: steps.counts[0]] = 0.0  # the first node of each utterance
        into = torch.cat([arcs, arcs.new_zeros(2, 1)], 1).gather(1, steps.before)  # (2, N)
        _sweep(alpha, into, steps.before, steps.counts, first=1)
        log_p = (alpha[:-1] + arcs[0])[steps.last]  # (B,)
        ctx.save_for_backward(alpha, arcs, log_p)
        ctx.steps, ctx.fastemit, ctx.dtype = steps, fastemit, log_probs.dtype
        return -log_p.to(log_probs.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        alpha, arcs, log_p = ctx.saved_tensors
        steps, N = ctx.steps, len(ctx.steps.order)
        beta = arcs.new_full((N + 2,), NEG_INF)
        beta[N + 1] = 0.0
        _sweep(beta, arcs, steps.after, steps.counts, backwards=True)
        there = torch.isfinite(log_p)
        # Without any path the loss is infinite and there is no gradient.
        scale = torch.where(there, -grad.double(), 0.0)  # (B,)
        log_p = log_p.masked_fill(~there, float("inf"))
        who = steps.utterance
        occ = (alpha[:-1] - log_p[who] + arcs).add_(beta[steps.after]).exp_()  # (2, N)
        occ.mul_(scale[who])
        occ[1] *= 1.0 + ctx.fastemit
        out = torch.empty((N, 2), dtype=ctx.dtype, device=grad.device)
        out[steps.order] = occ.t().to(ctx.dtype)
        return out, None, None


def _sweep(
    out: torch.Tensor,
    arcs: torch.Tensor,
    neighbours: torch.Tensor,
    counts: List[int],
    first: int = 0,
    backwards: bool = False,
) -> None:
    """Fill `out` diagonal by diagonal with the logadd of both neighbours and their arcs.

    Args:
        out: (N + 1,) or more; what lies after the N nodes is there before.
        arcs: Log-probabilities to or from the neighbours. (2, N)
        neighbours: Their places in `out`. (2, N)
        counts: Nodes of each diagonal.
        first: Diagonals that are there before.
        backwards: Whether the last is filled first.
    """
    # Three operations a diagonal; views are made once.
    N = arcs.size(1)
    views = zip(arcs.split(counts, 1), neighbours.split(counts, 1), out[:N].split(counts))
    steps = list(views)[first:]
    for arc, at, to in reversed(steps) if backwards else steps:
        both = out.take(at).add_(arc)  # (2, n)
        torch.logaddexp(both[0], both[1], out=to)
