"""The output layer that comes nearest to another model's logits, by least squares.

tanh stands between the joint network's two maps: no narrower one computes the same, whatever the
rank of the projections before it. What is left to choose is linear again: `lin_out` on the hidden
units that are kept. Exact where those that are gone are combinations of them (and of a constant).

Source: Y. He, X. Zhang and J. Sun, "Channel pruning for accelerating very deep neural networks",
ICCV 2017 (arXiv 1707.06168), section 3.1, which fits the next layer's weights so.
"""

from typing import NamedTuple

import torch

RIDGE = 1e-10  # of the mean square of a unit: what no node showed stays as it was


class Fitted(NamedTuple):
    """An output layer.

    Attributes:
        weight: (V, D)
        bias: (V,)
        before: Root of the mean square error of the logits with the layer as it was.
        after: The same with this one.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    before: float
    after: float


class OutputFit:
    """Adds up nodes, then fits.

    Args:
        weight: The output layer as it is. (V, D)
        bias: (V,)
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.dtype = weight.dtype
        self.layer = torch.cat([weight, bias[:, None]], dim=1).double()  # (V, D + 1)
        V, D1 = self.layer.shape
        self.gram = torch.zeros(D1, D1, dtype=torch.float64)
        self.cross = torch.zeros(V, D1, dtype=torch.float64)
        self.squares = self.total = 0.0

    def add(self, hidden: torch.Tensor, logits: torch.Tensor, weight: torch.Tensor) -> None:
        """Add nodes.

        Args:
            hidden: The hidden units that are kept. (n, D)
            logits: What is wanted. (n, V)
            weight: How much each node counts. (n,)
        """
        ones = hidden.new_ones(len(hidden), 1)  # (n, 1)
        inputs = torch.cat([hidden, ones], dim=1).double()  # (n, D + 1)
        missing = logits.double() - inputs @ self.layer.T  # (n, V)
        weighted = inputs * weight.double()[:, None]  # (n, D + 1)
        self.gram += weighted.T @ inputs
        self.cross += missing.T @ weighted
        self.squares += float((weight.double()[:, None] * missing.square()).sum())
        self.total += float(weight.sum()) * logits.size(1)

    def solve(self) -> Fitted:
        """Return the layer of the least error over all nodes."""
        ridge = RIDGE * self.gram.diagonal().mean().clamp_min(1e-30)
        eye = torch.eye(len(self.gram), dtype=torch.float64)  # (D + 1, D + 1)
        change = torch.linalg.solve(self.gram + ridge * eye, self.cross.T).T  # (V, D + 1)
        gone = 2 * float((change * self.cross).sum()) - float((change @ self.gram * change).sum())
        layer = (self.layer + change).to(self.dtype)
        total = max(self.total, 1e-30)
        before, after = self.squares / total, max(self.squares - gone, 0.0) / total
        return Fitted(layer[:, :-1].clone(), layer[:, -1].clone(), before**0.5, after**0.5)
