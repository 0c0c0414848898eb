"""Kullback-Leibler divergences between log-probabilities, in both directions."""

import torch

KINDS = ("forward", "reverse", "symmetric")


def divergence(log_p: torch.Tensor, log_q: torch.Tensor, kind: str = "forward") -> torch.Tensor:
    """Compute the divergence of a student q from a teacher p over the last dimension.

    Args:
        log_p: The teacher's log-probabilities; -inf marks an empty class. (..., C)
        log_q: The student's; empty where the teacher's are. (..., C)
        kind: `forward`: KL(p || q), as in Hinton et al. 2015 (arXiv 1503.02531);
            `reverse`: KL(q || p); `symmetric`: their mean.

    Returns:
        Nats. (...)

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
    empty = (log_p == float("-inf")) | (log_q == float("-inf"))
    log_p, log_q = log_p.masked_fill(empty, 0.0), log_q.masked_fill(empty, 0.0)
    d = log_p - log_q
    close = d.abs() < 0.5
    near = d.masked_fill(~close, 0.0)  # where() alone would let an overflow into the gradient
    terms = torch.where(
        close, log_p.exp() * (torch.expm1(-near) + near), log_p.exp() * (d - 1) + log_q.exp()
    )
    return terms.masked_fill(empty, 0.0).sum(-1)
