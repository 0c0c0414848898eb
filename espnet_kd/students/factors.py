"""Products of two matrices: narrowed, made of one matrix, multiplied out.

All lose as little as possible in a sum of squares (Eckart and Young 1936).
"""

import heapq
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import torch

from espnet_kd.errors import UserError


def narrow_product(
    left: torch.Tensor, right: torch.Tensor, rank: int
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Replace a product of two matrices by the nearest one of a smaller inner width.

    No choice of `rank` of the inner units, nor anything else of that width, comes closer to
    the product in the sum of squares (Eckart and Young 1936). The singular values are
    shared evenly between the two factors, so that both are of one scale.

    Args:
        left: (n, k)
        right: (k, m)
        rank: New inner width r <= k.

    Returns:
        Factors of the dtype of the old ones, (n, r) and (r, m). A row of zeros in `left`
        stays one. Where n or m is below r, what is left of the first factor is zero, and of
        the second as it was: it adds nothing yet and can be learnt.
    """
    # Never makes the (n, m) product: QR of both, then a decomposition of (k, k).
    q_left, r_left = torch.linalg.qr(left.double())  # (n, min(n, k)), (min(n, k), k)
    q_right, r_right = torch.linalg.qr(right.double().T)  # (m, min(m, k)), (min(m, k), k)
    u, s, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    kept = min(rank, len(s))
    root = s[:kept].sqrt()
    a = left.new_zeros(left.size(0), rank)
    b = right[:rank].clone()
    a[:, :kept] = (q_left @ u[:, :kept] * root).to(a.dtype)
    b[:kept] = (root[:, None] * (vh[:kept] @ q_right.T)).to(b.dtype)
    a[(left == 0).all(dim=1)] = 0  # not nearly so: an embedding's padding is never trained
    return a, b


def factor(
    weight: torch.Tensor, rank: int, root: Optional[torch.Tensor] = None
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Factor a matrix.

    Args:
        weight: (n, m)
        rank: Inner width r.
        root: Square root of the mean outer product of its inputs: what is lost is then
            counted in the output. None: in the weights. (m, m)

    Returns:
        Factors (n, r) and (r, m).
    """
    if root is None:
        eye = torch.eye(weight.size(1), dtype=weight.dtype, device=weight.device)  # (m, m)
        return narrow_product(weight, eye, rank)
    # The nearest output is a projection of the whole one (LiteASR, arXiv 2502.20583).
    seen = weight.double() @ root.double()  # (n, m)
    units = torch.linalg.svd(seen, full_matrices=False).U[:, :rank].to(weight.dtype)  # (n, r)
    return narrow_product(units, units.T @ weight, rank)


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply factors out, rounding once. (n, m)"""
    return (left.detach().double() @ right.detach().double()).to(left.dtype)


def most_rank(n: int, m: int) -> int:
    """Return the largest inner width whose factors are fewer numbers than the matrix."""
    return (n * m - 1) // (n + m)


def share_of_rank(weight: torch.Tensor, share: float) -> int:
    """Return a share of the full rank; 0 where factors would save nothing. weight: (n, m)"""
    rank = max(1, round(share * min(weight.shape)))
    return rank if rank <= most_rank(*weight.shape) else 0


def share_out(
    weights: Mapping[str, torch.Tensor],
    roots: Mapping[str, torch.Tensor],
    budget: int,
    where: str,
) -> Dict[str, int]:
    """Choose the rank of each matrix under a number of parameters for all of them.

    The rule (ours): every matrix begins with rank 1. The next rank goes where a parameter
    keeps most, counted in shares of a matrix's sum of squares times its size. The last step
    of a matrix is the whole one.

    Args:
        weights: Matrices by name. (n, m)
        roots: See `factor`; empty: none.
        budget: Parameters of all factors and whole matrices.
        where: Name of the target, for messages.

    Returns:
        Rank by name; 0: the matrix stays whole.

    Raises:
        UserError: not even rank 1 is so small.
    """
    spectra: Dict[str, List[float]] = {}
    steps: List[Tuple[float, str, int]] = []  # minus the gain for each parameter, name, cost
    for name, weight in weights.items():
        seen = weight.double() @ roots[name].double() if name in roots else weight.double()
        kept = torch.linalg.svdvals(seen).square()  # (min(n, m),)
        spectra[name] = (kept / kept.sum().clamp_min(1e-30) * weight.numel()).tolist()
    ranks = {name: 1 for name in weights}
    spare = budget - sum(sum(weight.shape) for weight in weights.values())
    if spare < 0:
        raise UserError(
            f"{where}: {-spare:,} more parameters are needed for rank 1 in every matrix; raise "
            "the target, or cut the model first"
        )

    def offer(name: str) -> None:
        """Queue the next step of a matrix."""
        (n, m), rank = weights[name].shape, ranks[name]
        if rank < most_rank(n, m):
            cost, gain = n + m, spectra[name][rank]
        else:
            cost, gain = n * m - rank * (n + m), sum(spectra[name][rank:])
        heapq.heappush(steps, (-gain / cost, name, cost))

    for name in weights:
        offer(name)
    while steps:
        _, name, cost = heapq.heappop(steps)
        if cost > spare:
            continue
        spare -= cost
        if ranks[name] < most_rank(*weights[name].shape):
            ranks[name] += 1
            offer(name)
        else:
            ranks[name] = 0
    return ranks


class MeanSquare:
    """Adds up the outer products of what a module is given; a forward pre-hook.

    Args:
        width: Width m of the input.
    """

    def __init__(self, width: int) -> None:
        self.total = torch.zeros(width, width, dtype=torch.float64)
        self.count = 0

    def __call__(self, module: torch.nn.Module, inputs: Tuple[Any, ...]) -> None:
        """Add what the module is given: (..., m), or (B, m, T) of a convolution."""
        x = inputs[0].transpose(1, 2) if isinstance(module, torch.nn.Conv1d) else inputs[0]
        x = x.detach().flatten(0, -2).double()  # (frames, m)
        self.total += x.T @ x
        self.count += len(x)

    def root(self) -> torch.Tensor:
        """Return the root of the mean; what no input showed counts a little. (m, m)"""
        mean = self.total / max(1, self.count)
        mean.diagonal().add_(1e-4 * mean.diagonal().mean().clamp_min(1e-12))
        return torch.linalg.cholesky(mean)


class Factored(torch.nn.Module):
    """A linear layer, or a convolution of one tap, whose matrix is a product.

    Args:
        whole: The layer with one matrix, whose bias it takes over; its weights are forgotten.
        rank: Inner width r.
    """

    def __init__(self, whole: Union[torch.nn.Linear, torch.nn.Conv1d], rank: int) -> None:
        super().__init__()
        n, m = whole.weight.shape[:2]
        self.taps = isinstance(whole, torch.nn.Conv1d)
        if rank > most_rank(n, m) or (self.taps and whole.weight.shape[2:] != (1,)):
            raise ValueError(f"{tuple(whole.weight.shape)} has no factors of rank {rank}")
        left, right = factor(whole.weight.detach().flatten(1), rank)
        self.left, self.right = torch.nn.Parameter(left), torch.nn.Parameter(right)
        self.bias = whole.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both factors. (..., m) -> (..., n); a convolution's (B, m, T) -> (B, n, T)"""
        if self.taps:
            inner = torch.nn.functional.conv1d(x, self.right[..., None])  # (B, r, T)
            return torch.nn.functional.conv1d(inner, self.left[..., None], self.bias)
        inner = torch.nn.functional.linear(x, self.right)  # (..., r)
        return torch.nn.functional.linear(inner, self.left, self.bias)
