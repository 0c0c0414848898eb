"""Bits of each weight, learned by gradient under a mean: a mixture of its roundings.

In training-free form: the weights stay as they are. Each is replaced by a mixture of its values
on the grids of all candidates; the shares of the mixture are learned on the loss, while one
number that is common to all weights keeps their mean bits at the bound:

    w' = sum_b p_b * round_b(w),    p = softmax(a / tau + nu * b)

nu is found by bisection, and its gradient is that of the implicit function: what a weight gains
by a bit counts only as far as it is more than the others gain. tau falls, so that shares end near
0 and 1; then each weight takes the candidate of the largest, under the same mean.

After the relaxation of DARTS with a constraint in place of its penalty; arXiv 2501.03643 learns
shares so together with the weights, which we train afterwards, with the bits fixed.
"""

import contextlib
import itertools
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Sequence

import torch
from torch.nn.utils import parametrize

from espnet_kd.students.grid import Grid

STEPS, RATE = 120, 0.1  # of Adam
TAU = (5.0, 0.5)  # first and last
LARGEST = 100.0  # of nu, which shares of 1 by 1e-40 do not exceed
LEAST = 1e-12  # of a share, before its logarithm is taken


class Mixture(torch.nn.Module):
    """A parametrization: a weight as a mixture of its roundings.

    Args:
        roundings: Values on the grid of each candidate. (candidates, *shape)
    """

    def __init__(self, roundings: torch.Tensor) -> None:
        super().__init__()
        self.roundings = roundings
        self.shares = roundings.new_full((len(roundings),), 1 / len(roundings))  # (candidates,)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Mix; the weight itself is not needed."""
        return torch.tensordot(self.shares, self.roundings, dims=1)  # (*shape)


def learn_bits(
    net: torch.nn.Module,
    grids: Mapping[int, Grid],
    names: Sequence[str],
    losses: Callable[[torch.nn.Module], Iterable[torch.Tensor]],
    mean: float,
    steps: int = STEPS,
) -> Dict[str, int]:
    """Choose the bits of each weight under a mean.

    Args:
        net: The model, in eval mode afterwards.
        grids: Grid by number of bits.
        names: Names of the weights.
        losses: Function that yields the loss of each batch of a model, a pass at a time.
        mean: Bits an element, over all weights.
        steps: Number of updates.

    Returns:
        Bits by name; their mean is at most `mean`.
    """
    counts = {name: net.get_parameter(name).numel() for name in names}
    bits = torch.tensor([float(b) for b in grids], dtype=torch.float64)  # (candidates,)
    sizes = torch.tensor([float(counts[n]) for n in names], dtype=torch.float64)  # (weights,)
    scores = torch.zeros(len(names), len(grids), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=RATE)
    with _mixed(net, names, grids) as mixtures:
        batches = itertools.chain.from_iterable(losses(net) for _ in itertools.count())
        for step in range(steps):
            tau = TAU[0] * (TAU[1] / TAU[0]) ** (step / max(1, steps - 1))
            shares = constrained(scores / tau, bits, sizes, mean)  # (weights, candidates)
            for mixture, row in zip(mixtures, shares):
                mixture.shares = row.to(mixture.roundings.dtype)
            loss = next(batches)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return hardened(scores.detach() / TAU[1], list(grids), counts, mean)


def hardened(
    scores: torch.Tensor, bits: Sequence[int], counts: Mapping[str, int], mean: float
) -> Dict[str, int]:
    """Choose one candidate for each weight.

    One number times the bits is added to all scores, the largest with which the best candidates
    keep to the mean; what is then to spare goes where the score falls least.

    Args:
        scores: Scores of the candidates of each weight, in the order of `counts`.
            (weights, candidates)
        bits: Bits of the candidates, rising.
        counts: Elements of each weight.
        mean: Bits an element, over all weights.

    Returns:
        Bits by name; their mean is at most `mean`.
    """
    steps, low, high = torch.tensor(bits).double(), -LARGEST, LARGEST
    bound = mean * sum(counts.values()) + 1e-6

    def best(nu: float) -> Dict[str, int]:
        return dict(zip(counts, (scores + nu * steps).argmax(1).tolist()))

    def spent(chosen: Mapping[str, int]) -> float:
        return sum(bits[chosen[name]] * counts[name] for name in chosen)

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if spent(best(middle)) > bound else (middle, high)
    chosen = best(low)
    values = dict(zip(counts, (scores + low * steps).tolist()))
    while True:
        spare = bound - spent(chosen)
        moves = [
            (values[name][to] - values[name][at], name, to)
            for name, at in chosen.items()
            for to in range(at + 1, len(bits))
            if (bits[to] - bits[at]) * counts[name] <= spare
        ]
        if not moves:
            return {name: bits[at] for name, at in chosen.items()}
        _, name, to = max(moves)
        chosen[name] = to


@contextlib.contextmanager
def _mixed(
    net: torch.nn.Module, names: Sequence[str], grids: Mapping[int, Grid]
) -> Iterator[List[Mixture]]:
    """Let a model compute with mixtures, without gradients of its own, for a while."""
    wanted = [(weight, weight.requires_grad) for weight in net.parameters()]
    net.eval().requires_grad_(False)
    places = [name.rpartition(".")[::2] for name in names]
    mixtures: List[Mixture] = []
    try:
        for module, weight in places:
            values = net.get_parameter(f"{module}.{weight}").detach()
            mixtures.append(Mixture(torch.stack([g.round(values) for g in grids.values()])))
            parametrize.register_parametrization(net.get_submodule(module), weight, mixtures[-1])
        yield mixtures
    finally:
        for module, weight in places[: len(mixtures)]:
            part = net.get_submodule(module)
            parametrize.remove_parametrizations(part, weight, leave_parametrized=False)
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


def constrained(
    scores: torch.Tensor, bits: torch.Tensor, sizes: torch.Tensor, mean: float
) -> torch.Tensor:
    """Return shares whose mean bits are as given.

    Args:
        scores: Scores of the candidates of each weight. (weights, candidates)
        bits: Bits of the candidates. (candidates,)
        sizes: Elements of the weights. (weights,)
        mean: Bits an element.

    Returns:
        (weights, candidates)
    """

    def shares_of(nu: torch.Tensor) -> torch.Tensor:
        return (scores + nu * bits).softmax(1)  # (weights, candidates)

    low, high = torch.tensor(-LARGEST).double(), torch.tensor(LARGEST).double()
    with torch.no_grad():
        for _ in range(60):
            nu = (low + high) / 2
            above = float(sizes @ (shares_of(nu) @ bits) / sizes.sum()) > mean
            low, high = (low, nu) if above else (nu, high)
        p = shares_of(nu)
        variance = p @ bits.square() - (p @ bits).square()  # (weights,)
        slope = sizes @ variance / sizes.sum()  # of the mean, by nu
    excess = sizes @ (shares_of(nu) @ bits) / sizes.sum() - mean  # 0, but for its gradient
    return shares_of(nu - excess / slope.clamp(min=LEAST))
