"""The RNN-T recursion inside a band: `recursion`, on nodes without padding.

Exact: the loss is -log of the sum over all paths that stay inside, its gradient their
occupancies.
"""

import torch

from espnet_kd.lattice import recursion
from espnet_kd.lattice.banded import Band, Steps
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
    if recursion.by_kernels(log_probs.device):
        # A kernel goes over whole lattices, with no way outside: two launches, not hundreds.
        whole = log_probs.new_full((band.size.numel(), 2), NEG_INF)
        whole = whole.index_copy(0, band.place, log_probs).view(*band.size, 2)
        return recursion.loss_of_checked(whole, band.t_len, band.u_len, fastemit_lambda)
    return _Banded.apply(log_probs, band.steps, fastemit_lambda)


class _Banded(torch.autograd.Function):
    """-log P per utterance; backward is FastEmit-weighted occupancies."""

    @staticmethod
    def forward(ctx, log_probs, steps, fastemit):
        N = len(log_probs)
        # float64: see `recursion`.
        arcs = log_probs.double().t()  # (2, N)
        ways = arcs.new_full((2 * N + 2,), NEG_INF)
        ways[-1] = 0.0
        _sweep(ways, torch.nn.functional.pad(arcs, (0, 1)).gather(1, steps.arcs), steps)
        alpha = ways[steps.rank[:N]]  # (N,)
        log_p = (alpha + arcs[0])[steps.last]  # (B,)
        ctx.save_for_backward(alpha, ways, arcs, log_p)
        ctx.steps, ctx.fastemit, ctx.dtype = steps, fastemit, log_probs.dtype
        return -log_p.to(log_probs.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        alpha, ways, arcs, log_p = ctx.saved_tensors
        steps, N = ctx.steps, len(alpha)
        on = ways[steps.states[:, steps.rank[N:]]]  # beta where a node's arcs end, (2, N)
        there = torch.isfinite(log_p)
        # Without any path the loss is infinite and there is no gradient.
        scale = torch.where(there, -grad.double(), 0.0)  # (B,)
        log_p = log_p.masked_fill(~there, float("inf"))
        who = steps.utterance
        occ = (alpha - log_p[who] + arcs).add_(on).exp_()  # (2, N)
        occ.mul_(scale[who])
        occ[1] *= 1.0 + ctx.fastemit
        return occ.t().to(ctx.dtype), None, None


def _sweep(ways: torch.Tensor, arcs: torch.Tensor, steps: Steps) -> None:
    """Fill `ways` step by step with the logadd of both neighbours and the arcs between.

    Args:
        ways: What lies after the 2 N states is there before. (2 N + 2,)
        arcs: Log-probabilities of the arcs of each state. (2, 2 N)
        steps: The order.
    """
    # Three operations a step; views are made once.
    counts = steps.counts
    views = (arcs.split(counts, 1), steps.states.split(counts, 1), ways[:-2].split(counts))
    for arc, at, to in zip(*views):
        both = ways.take(at).add_(arc)  # (2, n)
        torch.logaddexp(both[0], both[1], out=to)
