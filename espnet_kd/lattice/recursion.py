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

from typing import Any, NamedTuple, Optional, Type

import torch

from espnet_kd.lattice import by_triton
from espnet_kd.lattice.host_lengths import Lengths
from espnet_kd.lattice.side_by_side import alone

NEG_INF = float("-inf")
KERNELS = by_triton.Kernels("espnet_kd.lattice.kernels", "the recursion goes step by step")


def _skew(x: torch.Tensor, fill: float) -> torch.Tensor:
    """Shear (B, T, U + 1) to (N_diag, B, U + 1) with out[t + u, b, u] = x[b, t, u]."""
    B, T, U1 = x.shape
    padded = x.new_full((B, U1, T + U1), fill)  # one column more than diagonals
    padded[:, :, :T] = x.transpose(1, 2)
    # Reading rows of length T + U1 with stride T + U1 - 1 shifts row u right by u.
    sheared = padded.view(B, -1)[:, : U1 * (T + U1 - 1)].view(B, U1, T + U1 - 1)
    return sheared.permute(2, 0, 1)  # (T + U, B, U + 1)


def _unskew(x: torch.Tensor, T: int) -> torch.Tensor:
    """Undo `_skew`. (T + U, B, U + 1) -> (B, T, U + 1)"""
    n_diag, B, U1 = x.shape
    padded = x.new_zeros(B, U1 * (n_diag + 1))
    padded[:, : U1 * n_diag] = x.permute(1, 2, 0).reshape(B, -1)
    return padded.view(B, U1, n_diag + 1)[:, :, :T].transpose(1, 2)


def _sweep(
    out: torch.Tensor,
    kept: torch.Tensor,
    blank: torch.Tensor,
    moved: torch.Tensor,
    label: torch.Tensor,
    backwards: bool = False,
) -> None:
    """Fill `out` diagonal by diagonal with logadd(kept + blank, moved + label).

    `kept` and `moved` are views of the diagonals that are filled before, at u and at its
    neighbour. All are (T + U, B, U + 1).
    """
    # Three operations a diagonal and views made once: on a GPU the launches are what counts.
    stay, move = torch.empty_like(blank[0]), torch.empty_like(blank[0])  # (B, U + 1)
    diagonals = list(zip(*(x.unbind(0) for x in (out, kept, blank, moved, label))))
    for to, at_u, b, beside, y in reversed(diagonals) if backwards else diagonals:
        torch.add(at_u, b, out=stay)
        torch.add(beside, y, out=move)
        torch.logaddexp(stay, move, out=to)


class _Recursion(torch.autograd.Function):
    """-log P per utterance; backward is FastEmit-weighted occupancies."""

    @staticmethod
    @alone
    def forward(ctx, log_probs, t_len, u_len, fastemit):
        ways = _ways(log_probs, t_len, u_len)
        ctx.fastemit, ctx.T, ctx.dtype = fastemit, log_probs.size(1), log_probs.dtype
        ctx.kind = type(ways)
        ctx.save_for_backward(*ways)
        return -ways.log_p.to(ctx.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    @alone
    def backward(ctx, grad):
        ways = ctx.kind(*ctx.saved_tensors)
        # An utterance without any path (log P = -inf) has an infinite loss and no gradient.
        scale = torch.where(torch.isfinite(ways.log_p), -grad.double(), 0.0)[:, None, None]
        out = ways.occupancies(ctx.T, ctx.dtype, scale, scale * (1.0 + ctx.fastemit))
        return out, None, None, None


class Ways(NamedTuple):
    """The forward variables of a batch.

    Attributes:
        alpha: log of the sum over all ways to a node, row u = -1 too. (T + U + 1, B, U + 2)
        blank: log p(blank), sheared. (T + U, B, U + 1)
        label: log p(next label), row u = -1 too. (T + U, B, U + 2)
        log_p: log P(y | x). (B,)
        t_len: (B,)
        u_len: (B,)
    """

    alpha: torch.Tensor
    blank: torch.Tensor
    label: torch.Tensor
    log_p: torch.Tensor
    t_len: torch.Tensor
    u_len: torch.Tensor

    @classmethod
    def of(cls, log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> "Ways":
        """Run the recursion forwards; see `rnnt_loss`."""
        B, T, U1, _ = log_probs.shape
        t = torch.arange(T, device=log_probs.device)  # (T,)
        u = torch.arange(U1, device=log_probs.device)  # (U + 1,)
        in_time = (t < t_len[:, None])[:, :, None]  # (B, T, 1)
        # Occupancies are exponentials of differences of sums over hundreds of arcs: float32
        # would leave three or four digits of them. A node has two numbers only.
        log_probs = log_probs.double()
        blank = log_probs[..., 0].masked_fill(~(in_time & (u <= u_len[:, None])[:, None]), NEG_INF)
        label = log_probs[..., 1].masked_fill(~(in_time & (u < u_len[:, None])[:, None]), NEG_INF)
        blank = _skew(blank, NEG_INF).contiguous()  # (T + U, B, U + 1)
        # Row u = -1 is put before it: no label leads to u = 0.
        label = torch.nn.functional.pad(_skew(label, NEG_INF), (1, 0), value=NEG_INF)
        _after_the_end(blank, t_len, u_len, 0.0)  # on to the last diagonal at no cost

        alpha = blank.new_full((len(blank) + 1, B, U1 + 1), NEG_INF)  # row u = -1 too
        alpha[0, :, 1] = 0.0
        at_u, below = alpha[:, :, 1:], alpha[:, :, :-1]
        _sweep(at_u[1:], at_u[:-1], blank, below[:-1], label[:, :, :-1])
        log_p = at_u[-1].gather(1, u_len[:, None])[:, 0]  # (B,)
        return cls(alpha, blank, label, log_p, t_len, u_len)

    def occupancies(
        self, T: int, dtype: torch.dtype, of_blank: torch.Tensor, of_label: torch.Tensor
    ) -> torch.Tensor:
        """Compute how likely a path takes each arc.

        Args:
            T: Frames of the result.
            dtype: Type of the result.
            of_blank: Factor of the arcs of blank. (B, 1, 1)
            of_label: Factor of the others. (B, 1, 1)

        Returns:
            (B, T, U + 1, 2)
        """
        blank, t_len, u_len = self.blank, self.t_len, self.u_len
        alpha, label = self.alpha[:-1, :, 1:], self.label[:, :, 1:]  # (T + U, B, U + 1)
        n_diag, B, U1 = blank.shape
        beta = blank.new_full((n_diag + 1, B, U1 + 1), NEG_INF)  # row u = U + 1 too
        beta[-1].scatter_(1, u_len[:, None], 0.0)
        at_u, above = beta[:, :, :-1], beta[:, :, 1:]
        _sweep(at_u[:-1], at_u[1:], blank, above[1:], label, backwards=True)
        log_p = self.log_p.masked_fill(~torch.isfinite(self.log_p), float("inf"))[:, None]
        out = torch.empty((B, T, U1, 2), dtype=dtype, device=blank.device)
        # In place: these few arrays are most of what a small vocabulary's loss takes.
        occ = (alpha + blank).add_(at_u[1:])  # (T + U, B, U + 1)
        _after_the_end(occ, t_len, u_len, NEG_INF)
        out[..., 0] = of_blank * _unskew(occ.sub_(log_p).exp_(), T)
        torch.add(alpha, label, out=occ).add_(above[1:])
        out[..., 1] = of_label * _unskew(occ.sub_(log_p).exp_(), T)
        return out


def kernel_ways() -> Optional[Type[Any]]:
    """Return what stands for `Ways` on a GPU; None: Triton is not there. Said once."""
    kernels = KERNELS.get()
    return kernels and kernels.KernelWays


def _ways(log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> Any:
    """Run the recursion forwards by what suits the device: `Ways` or the like."""
    kind = kernel_ways() if by_kernels(log_probs.device) else None
    if kind is not None:
        try:
            return kind.of(log_probs, t_len, u_len)
        except Exception as e:  # no compiler, no driver, a GPU that it does not know
            KERNELS.without(e)
    return Ways.of(log_probs, t_len, u_len)


def by_kernels(device: torch.device) -> bool:
    """Tell whether launches are what counts there."""
    return by_triton.suits(device)


def _after_the_end(
    x: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor, value: float
) -> None:
    """Set what comes after each utterance's last node in its row U. x: (T + U, B, U + 1)"""
    n = torch.arange(len(x), device=x.device)[:, None]  # (T + U, 1)
    index = u_len.expand(len(x), -1)[:, :, None]  # (T + U, B, 1)
    row = x.gather(2, index)
    x.scatter_(2, index, row.masked_fill((n >= t_len + u_len)[:, :, None], value))


@torch.no_grad()
@alone
def arc_occupancies(
    log_probs: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    lengths: Optional[Lengths] = None,
) -> torch.Tensor:
    """Compute the probability that a path takes the arcs of a node, blank and label.

    Args:
        log_probs: log p(blank) and log p(next label) of each node. (B, T, U + 1, 2)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        lengths: The same lengths, where the host has read them already.

    Returns:
        Zero in the padding, and for an utterance without any path. (B, T, U + 1, 2)

    Raises:
        ValueError: a length lies outside the lattice.
    """
    lengths = lengths or Lengths(t_len, u_len, log_probs.shape, log_probs.device)
    ways = _ways(log_probs, lengths.t_len, lengths.u_len)
    once = torch.ones(len(t_len), 1, 1, dtype=torch.float64, device=log_probs.device)
    return ways.occupancies(log_probs.size(1), log_probs.dtype, once, once)


def rnnt_loss(
    log_probs: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    fastemit_lambda: float = 0.0,
    lengths: Optional[Lengths] = None,
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
        lengths: The same lengths, where the host has read them already.

    Returns:
        Loss in nats; padding has no influence and gets no gradient. (B,)

    Raises:
        ValueError: a length lies outside the lattice.
    """
    lengths = lengths or Lengths(t_len, u_len, log_probs.shape, log_probs.device)
    return loss_of_checked(log_probs, lengths.t_len, lengths.u_len, fastemit_lambda)


def loss_of_checked(
    log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor, fastemit_lambda: float
) -> torch.Tensor:
    """Compute `rnnt_loss` of lengths that were checked and lie where the lattice does. (B,)"""
    loss: torch.Tensor = _Recursion.apply(log_probs, t_len, u_len, fastemit_lambda)
    return loss
