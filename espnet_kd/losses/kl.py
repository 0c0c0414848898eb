"""Kullback-Leibler divergences between log-probabilities, in both directions."""

from typing import Tuple

import torch

from espnet_kd.lattice.host_lengths import asks
from espnet_kd.lattice.side_by_side import alone
from espnet_kd.spec.distillation import DIVERGENCES as KINDS


def divergence(log_p: torch.Tensor, log_q: torch.Tensor, kind: str = "forward") -> torch.Tensor:
    """Compute the divergence of a student q from a teacher p over the last dimension.

    Args:
        log_p: The teacher's log-probabilities. (..., C)
        log_q: The student's. (..., C)
        kind: `forward`: KL(p || q), as in Hinton et al. 2015 (arXiv 1503.02531);
            `reverse`: KL(q || p); `symmetric`: their mean.

    Returns:
        Nats; finite always: in KL(a || b) a class with log b = -inf counts nothing, be it empty
        on both sides (the next label on the row u = U) or one that b can never say. (...)

    Raises:
        ValueError: unknown kind.
    """
    if kind == "forward":
        return _kl(log_p, log_q)
    if kind == "reverse":
        return _kl(log_q, log_p)
    if kind == "symmetric":
        return (_kl(log_p, log_q) + _kl(log_q, log_p)) / 2
    raise ValueError(f"kind must be one of {KINDS}: got '{kind}'")


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) as the sum of p log(p / q) - p + q, in which no term is negative.

    The plain sum of p log(p / q) cancels where p and q are close: float32 would leave four
    digits of a divergence of 0.01. As p and q sum to 1 the value and the gradient with
    respect to the logits are the same.
    """
    return _KL.apply(log_p, log_q)


class _KL(torch.autograd.Function):
    """Keeps its two inputs for the backward pass, where autograd would keep seven arrays."""

    @staticmethod
    @alone
    def forward(ctx, log_p, log_q):
        ctx.save_for_backward(log_p, log_q)
        d = log_q - log_p
        if _all_near(d):  # as it is nearly always
            return torch.expm1(d).sub_(d).mul_(log_p.exp()).sum(-1)
        log_p, log_q, empty = _filled(log_p, log_q)
        p, d = log_p.exp(), log_p - log_q
        near = torch.expm1(-d).add_(d).mul_(p)  # NaN where p is 0, which is not near
        far = p.mul_(d - 1).add_(log_q.exp())
        return torch.where(d.abs_() < 0.5, near, far).masked_fill_(empty, 0.0).sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    @alone
    def backward(ctx, grad):
        log_p, log_q, empty = _filled(*ctx.saved_tensors)
        d_p = d_q = None
        if ctx.needs_input_grad[0]:
            d_p = (log_p - log_q).mul_(log_p.exp()).mul_(grad[..., None]).masked_fill_(empty, 0.0)
        if ctx.needs_input_grad[1]:
            # q - p, without cancelling where they are close
            d_q = torch.expm1(log_q - log_p).mul_(log_p.exp())
            # Far apart p may be 0 and the ratio infinite.
            d_q = torch.where(log_q - log_p < 0.5, d_q, log_q.exp() - log_p.exp())
            d_q = d_q.mul_(grad[..., None]).masked_fill_(empty, 0.0)
        return d_p, d_q


def _all_near(d: torch.Tensor) -> bool:
    """Tell whether p (exp(-d) - 1 + d) can be computed as it is written. d: (..., C)

    Not where exp overflows, or where p vanishes beside a q that does not.
    """
    if not asks(d.device) or not d.numel():
        return False
    least, most = d.aminmax()
    return -30.0 < float(least) and float(most) < 30.0  # NaN is not


def _filled(log_p: torch.Tensor, log_q: torch.Tensor) -> Tuple[torch.Tensor, ...]:
    """Put 0 where a class counts nothing; and where that is. Elsewhere p may be 0."""
    empty = log_q == float("-inf")
    log_p = log_p.masked_fill(empty, 0.0).clamp_min_(torch.finfo(log_p.dtype).min)
    return log_p, log_q.masked_fill(empty, 0.0), empty
