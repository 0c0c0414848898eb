"""The RNN-T forward-backward recursion on two log-probabilities a node.

Graves 2012 (arXiv 1211.3711), section 2.4. With b(t, u) = log p(blank | t, u) and
y(t, u) = log p(label u + 1 | t, u), natural logarithms throughout:

    alpha(0, 0) = 0
    alpha(t, u) = logadd(alpha(t - 1, u) + b(t - 1, u), alpha(t, u - 1) + y(t, u - 1))
    beta(T - 1, U) = b(T - 1, U)
    beta(t, u)  = logadd(beta(t + 1, u) + b(t, u), beta(t, u + 1) + y(t, u))
    log P(y | x) = beta(0, 0)

Both arcs of a node lead to the next anti-diagonal n = t + u, so a whole diagonal of the
whole batch is one vector operation: T + U steps instead of T * U. The gradient of
-log P with respect to an arc's log-probability is minus the probability that a path drawn
from the lattice takes it: the arc's occupancy.
"""

from typing import Tuple

import torch

NEG_INF = float("-inf")


def _skew(x: torch.Tensor, fill: float) -> torch.Tensor:
    """Shear (B, T, U + 1) to (N_diag, B, U + 1) with out[t + u, b, u] = x[b, t, u]."""
    B, T, U1 = x.shape
    padded = x.new_full((B, U1, T + U1), fill)  # one column more than diagonals
    padded[:, :, :T] = x.transpose(1, 2)
    # Reading rows of length T + U1 with stride T + U1 - 1 shifts row u right by u.
    sheared = padded.view(B, -1)[:, : U1 * (T + U1 - 1)].view(B, U1, T + U1 - 1)
    return sheared.permute(2, 0, 1).contiguous()  # (T + U, B, U + 1)


def _unskew(x: torch.Tensor, T: int) -> torch.Tensor:
    """Undo `_skew`. (T + U, B, U + 1) -> (B, T, U + 1)"""
    n_diag, B, U1 = x.shape
    padded = x.new_zeros(B, U1 * (n_diag + 1))
    padded[:, : U1 * n_diag] = x.permute(1, 2, 0).reshape(B, -1)
    return padded.view(B, U1, n_diag + 1)[:, :, :T].transpose(1, 2)


def _alpha(blank: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Forward variables on sheared inputs. (T + U, B, U + 1) each."""
    alpha = torch.full_like(blank, NEG_INF)
    alpha[0, :, 0] = 0.0
    for n in range(1, blank.size(0)):
        stay = alpha[n - 1] + blank[n - 1]  # by blank: u is kept
        move = alpha[n - 1, :, :-1] + label[n - 1, :, :-1]  # by label: u + 1
        alpha[n, :, :1] = stay[:, :1]
        torch.logaddexp(stay[:, 1:], move, out=alpha[n, :, 1:])
    return alpha


def _beta(
    blank: torch.Tensor, label: torch.Tensor, last: torch.Tensor, u_len: torch.Tensor
) -> torch.Tensor:
    """Backward variables on sheared inputs; `last` is each utterance's final diagonal."""
    n_diag, B, U1 = blank.shape
    beta = blank.new_full((n_diag, B, U1), NEG_INF)
    is_final = torch.arange(U1, device=blank.device) == u_len[:, None]  # (B, U + 1)
    for n in range(n_diag - 1, -1, -1):
        if n + 1 < n_diag:
            stay = beta[n + 1] + blank[n]
            beta[n, :, -1:] = stay[:, -1:]
            torch.logaddexp(
                stay[:, :-1], beta[n + 1, :, 1:] + label[n, :, :-1], out=beta[n, :, :-1]
            )
        start = is_final & (last == n)[:, None]
        beta[n] = torch.where(start, blank[n], beta[n])
    return beta


class _Recursion(torch.autograd.Function):
    """-log P per utterance; backward is FastEmit-weighted occupancies."""

    @staticmethod
    def forward(ctx, log_probs, t_len, u_len, fastemit):
        B, T, U1, _ = log_probs.shape
        t = torch.arange(T, device=log_probs.device)  # (T,)
        u = torch.arange(U1, device=log_probs.device)  # (U + 1,)
        in_time = (t < t_len[:, None])[:, :, None]  # (B, T, 1)
        # Occupancies are exponentials of differences of sums over hundreds of arcs: float32
        # would leave three or four digits of them. A node has two numbers only.
        ctx.dtype, log_probs = log_probs.dtype, log_probs.double()
        blank = log_probs[..., 0].masked_fill(~(in_time & (u <= u_len[:, None])[:, None]), NEG_INF)
        label = log_probs[..., 1].masked_fill(~(in_time & (u < u_len[:, None])[:, None]), NEG_INF)
        blank, label = _skew(blank, NEG_INF), _skew(label, NEG_INF)  # (T + U, B, U + 1)
        last = t_len + u_len - 1  # (B,)
        batch = torch.arange(B, device=log_probs.device)

        alpha = _alpha(blank, label)
        log_p = (alpha + blank)[last, batch, u_len]  # (B,)
        ctx.fastemit = fastemit
        ctx.size = (T, U1)
        ctx.save_for_backward(alpha, blank, label, log_p, last, u_len)
        return -log_p.to(ctx.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        alpha, blank, label, log_p, last, u_len = ctx.saved_tensors
        T, _ = ctx.size
        beta = _beta(blank, label, last, u_len)
        batch = torch.arange(beta.size(1), device=beta.device)
        # An utterance without any path (log P = -inf) has an infinite loss and no gradient.
        scale = torch.where(torch.isfinite(log_p), -grad.double(), 0.0)[:, None, None]
        out = torch.empty((len(grad), T, beta.size(2), 2), dtype=ctx.dtype, device=grad.device)
        # In place: these few arrays are most of what a small vocabulary's loss takes.
        occ = alpha + blank  # (T + U, B, U + 1)
        final = occ[last, batch, u_len]  # the last blank leaves the lattice: nothing is after it
        occ[:-1] += beta[1:]
        occ[-1] = NEG_INF
        occ[last, batch, u_len] = final
        out[..., 0] = scale * _occupancy(occ, log_p, T)
        torch.add(alpha, label, out=occ)
        occ[:-1, :, :-1] += beta[1:, :, 1:]
        occ[-1] = NEG_INF
        occ[:, :, -1] = NEG_INF
        out[..., 1] = scale * (1.0 + ctx.fastemit) * _occupancy(occ, log_p, T)
        return out, None, None, None


def _occupancy(log_joint: torch.Tensor, log_p: torch.Tensor, T: int) -> torch.Tensor:
    """exp(log_joint - log_p) in the shape of the lattice; log_joint is overwritten.

    (T + U, B, U + 1), (B,) -> (B, T, U + 1); 0 for an utterance without any path.
    """
    log_p = log_p.masked_fill(~torch.isfinite(log_p), float("inf"))
    return _unskew(log_joint.sub_(log_p[:, None]).exp_(), T)


def check_lattice(shape: torch.Size, t_len: torch.Tensor, u_len: torch.Tensor) -> None:
    """Raise ValueError if lengths do not fit a (B, T, U + 1, ...) lattice."""
    B, T, U1 = shape[:3]
    if t_len.shape != (B,) or u_len.shape != (B,):
        raise ValueError(
            f"t_len and u_len must have shape ({B},): got {tuple(t_len.shape)}, "
            f"{tuple(u_len.shape)}"
        )
    if int(t_len.min()) < 1 or int(t_len.max()) > T:
        raise ValueError(f"t_len must lie in [1, {T}]: got {t_len.tolist()}")
    if int(u_len.min()) < 0 or int(u_len.max()) > U1 - 1:
        raise ValueError(f"u_len must lie in [0, {U1 - 1}]: got {u_len.tolist()}")


def rnnt_loss(
    log_probs: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    fastemit_lambda: float = 0.0,
) -> torch.Tensor:
    """Compute -log P(y | x) of each utterance.

    Args:
        log_probs: log p(blank) and log p(next label) of each node, from
            `node_stats`; float32 or float64. (B, T, U + 1, 2)
        t_len: Frames of each utterance, 1 <= t_len <= T. (B,)
        u_len: Labels of each utterance, 0 <= u_len <= U. (B,)
        fastemit_lambda: FastEmit (Yu et al. 2021, arXiv 2010.11148, eq. 12): the
            gradient through label arcs is multiplied by 1 + lambda; the value of the
            loss is left as it is, like warp-transducer's.

    Returns:
        Loss in nats; padding has no influence and gets no gradient. (B,)

    Raises:
        ValueError: a length lies outside the lattice.
    """
    check_lattice(log_probs.shape, t_len, u_len)
    return _Recursion.apply(log_probs, t_len.long(), u_len.long(), fastemit_lambda)


def torchaudio_rnnt_loss(
    log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor
) -> torch.Tensor:
    """Compute the same as `rnnt_loss` with torchaudio's kernel.

    The lattice of two log-probabilities is a vocabulary of two: blank 0 and label 1.
    """
    from torchaudio.functional import rnnt_loss as kernel

    B, _, U1, _ = log_probs.shape
    targets = torch.ones(B, max(U1 - 1, 1), dtype=torch.int32, device=log_probs.device)
    return kernel(
        log_probs.contiguous(),
        targets[:, : U1 - 1].contiguous(),
        t_len.int(),
        u_len.int(),
        blank=0,
        reduction="none",
        fused_log_softmax=False,
    )


def backends() -> Tuple[str, ...]:
    """Name the RNN-T recursions that work in this environment, preferred first."""
    found = ["espnet_kd (PyTorch, anti-diagonal)"]
    try:
        import torchaudio.functional

        if hasattr(torchaudio.functional, "rnnt_loss"):
            found.append(f"torchaudio {torchaudio.__version__}")
    except (ImportError, OSError):  # OSError: CPU-only torch beside a CUDA torchaudio
        pass
    return tuple(found)
