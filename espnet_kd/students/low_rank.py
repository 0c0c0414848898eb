"""Narrow what lies between two linear maps, losing as little of their product as possible."""

from typing import Tuple

import torch


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
    found = min(rank, len(s))
    root = s[:found].sqrt()
    a = left.new_zeros(left.size(0), rank)
    b = right[:rank].clone()
    a[:, :found] = (q_left @ u[:, :found] * root).to(a.dtype)
    b[:found] = (root[:, None] * (vh[:found] @ q_right.T)).to(b.dtype)
    a[(left == 0).all(dim=1)] = 0  # not nearly so: an embedding's padding is never trained
    return a, b
