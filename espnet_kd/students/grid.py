"""Weights on a grid: symmetric, with a scale for each row or block, and bits for each matrix.

    code = clamp(round(w / scale), -M, M),    M = 2 ** (bits - 1) - 1
    value = code * scale

Scales are bfloat16 numbers, so that with at most 8 bits a code every value is a float32: what
a device makes of code and scale is exactly what ESPnet loads.
"""

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch

# Parts of the largest weight that a grid may end at. Few bits are better spent on the many
# small weights of a block than on its largest; at 5 bits and above it hardly matters.
ENDS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
FEW = 4  # bits
BLOCKS = (0, 16, 32, 64, 128)  # inputs that may share a scale; 0: all


@dataclasses.dataclass(frozen=True)
class Grid:
    """A grid for the weights of a layer.

    Attributes:
        bits: Bits a weight, from 2 to 8.
        block: Inputs of an output channel that share a scale; 0: all of them.
    """

    bits: int
    block: int = 0

    @property
    def most(self) -> int:
        """The largest code."""
        return 2 ** (self.bits - 1) - 1

    def blocks(self, weight: torch.Tensor) -> torch.Tensor:
        """See a weight as rows of blocks, filled up with zeros. (rows, blocks, block)"""
        rows = weight.flatten(1)  # (rows, columns)
        block = self.block or rows.size(1)
        rows = torch.nn.functional.pad(rows, (0, -rows.size(1) % block))
        return rows.unflatten(1, (-1, block))

    def scales(self, weight: torch.Tensor) -> torch.Tensor:
        """Choose the scales that lose least in the sum of squares. (rows, blocks)

        A weight that lies on the grid keeps its scales: rounding twice is rounding once.
        """
        blocks = self.blocks(weight.detach())  # (rows, blocks, block)
        largest = blocks.abs().amax(-1)  # (rows, blocks)
        best = least = torch.empty(0)
        for end in ENDS if self.bits <= FEW else ENDS[:1]:
            scales = (largest * end / self.most).to(torch.bfloat16).to(blocks.dtype)
            scales = torch.where(scales > 0, scales, torch.ones_like(scales))
            lost = (self._on_grid(blocks, scales) - blocks).square().sum(-1)  # (rows, blocks)
            better = lost < least if least.numel() else torch.ones_like(lost, dtype=torch.bool)
            best = torch.where(better, scales, best) if least.numel() else scales
            least = torch.where(better, lost, least) if least.numel() else lost
        return best

    def codes(self, weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Return the codes of a weight, in its shape and dtype."""
        steps = self.blocks(weight.detach()) / scales[..., None]  # (rows, blocks, block)
        return self._like(steps.round().clamp(-self.most, self.most), weight)

    def round(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the nearest values on the grid."""
        values = self._on_grid(self.blocks(weight.detach()), self.scales(weight))
        return self._like(values, weight)

    def _on_grid(self, blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        codes = (blocks / scales[..., None]).round().clamp(-self.most, self.most)
        return codes * scales[..., None]  # (rows, blocks, block)

    @staticmethod
    def _like(blocks: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        columns = weight[0].numel()
        return blocks.flatten(1)[:, :columns].reshape(weight.shape).contiguous()


class _StraightThrough(torch.autograd.Function):
    """Rounds; its gradient is that of leaving the weights as they are."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Round. (as `weight`)"""
        return grid.round(weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Tuple[torch.Tensor, None]:
        """Pass the gradient on."""
        return grads[0], None


class Rounding(torch.nn.Module):
    """A parametrization: what a layer computes with are its weights on a grid.

    Args:
        grid: The grid.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self._known: Optional[Tuple[Tuple[int, int], torch.Tensor]] = None  # while evaluating

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Round in the forward pass, and straight through in the backward one."""
        if torch.is_grad_enabled():
            self._known = None
            return _StraightThrough.apply(weight, self.grid)
        # A search asks for the predictor's at every step.
        state = weight.data_ptr(), weight._version
        if self._known is None or self._known[0] != state:
            self._known = state, self.grid.round(weight)
        return self._known[1]


def noise(
    weights: Mapping[str, torch.Tensor],
    curvature: Mapping[str, torch.Tensor],
    grids: Mapping[int, Grid],
) -> Dict[str, Dict[int, float]]:
    """Estimate what the loss gains by rounding each weight to each number of bits.

    Half of the squared errors, each times the squared gradient there: the second order of the
    loss, with its curvature taken for the mean square of its gradients.

    Args:
        weights: Weights by name.
        curvature: Mean squared gradient of each element, by name.
        grids: Grid by number of bits.

    Returns:
        Nats an utterance, by name and bits.
    """
    return {
        name: {
            bits: 0.5 * float((curvature[name] * (grid.round(w) - w).double().square()).sum())
            for bits, grid in grids.items()
        }
        for name, w in weights.items()
    }


def share_bits(
    noises: Mapping[str, Mapping[int, float]], counts: Mapping[str, int], mean: float
) -> Dict[str, int]:
    """Choose the bits of each weight under a mean: reverse water-filling, in whole bits.

    All begin with the fewest. The next step, of one bit or more, is that of the weight where
    a bit more takes most of the noise away, as long as it can be paid.

    Args:
        noises: See `noise`.
        counts: Elements of each weight.
        mean: Bits an element, over all weights.

    Returns:
        Bits by name; their mean is at most `mean`.
    """
    bits = {name: min(of) for name, of in noises.items()}
    spare = mean * sum(counts.values()) - sum(bits[name] * counts[name] for name in noises)
    while True:
        steps: List[Tuple[float, str, int]] = []
        for name, of in noises.items():
            for more in (b for b in of if b > bits[name]):
                cost = (more - bits[name]) * counts[name]
                if cost <= spare + 1e-6:
                    steps.append(((of[bits[name]] - of[more]) / cost, name, more))
        if not steps or max(steps)[0] <= 0:
            return bits
        _, name, more = max(steps)
        spare -= (more - bits[name]) * counts[name]
        bits[name] = more


def mean_bits(bits: Mapping[str, int], counts: Mapping[str, int]) -> float:
    """Return the mean over elements."""
    return sum(bits[name] * counts[name] for name in bits) / max(1, sum(counts[n] for n in bits))


def candidates(values: Sequence[int], block: int) -> Dict[int, Grid]:
    """Return the grid of each number of bits: blocks for few bits, rows for more."""
    return {bits: Grid(bits, block if bits <= FEW else 0) for bits in values}


def grid_of(weight: torch.Tensor) -> Optional[Grid]:
    """Return the grid that all of a weight lies on, after `quantise`; None: there is none."""
    grids = [Grid(bits, block) for bits in range(2, FEW + 1) for block in BLOCKS]
    for grid in [*grids, *(Grid(bits) for bits in range(FEW + 1, 9))]:
        # Most weights lie on none: the first row is enough to know it.
        if all(torch.equal(grid.round(w), w) for w in (weight[:1], weight)):
            return grid
    return None
