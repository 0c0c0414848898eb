"""Gates over the units of a conformer transducer, learned under a budget of parameters.

A gate is a hard concrete variable (Louizos et al. 2018, arXiv 1712.01312), as structured pruning
with distillation has it (arXiv 2305.19549; DPHuBERT): with u uniform on (0, 1),

    s = sigmoid((log u - log(1 - u) + a + nu) / beta),    z = clamp(1.2 s - 0.1, 0, 1)
    P(z > 0) = sigmoid(a + nu - beta log(0.1 / 1.1)),     beta = 2/3

Those works push the expected size to its target by a penalty whose weight is learned. Here nu is
such that it is met exactly at each update, its gradient included, as in `learned_bits`: a gate
opens only as far as a parameter is worth more there than elsewhere.
"""

import math
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch

from espnet_kd.spec.size_table import BY_NAME
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.axes import axis_roles
from espnet_kd.students.importance import weight_scores
from espnet_kd.students.predictors import GATES, PREDICTORS

State = Dict[str, torch.Tensor]
BETA, LOW, HIGH = 2 / 3, -0.1, 1.1
SHIFT = -BETA * math.log(-LOW / HIGH)
SCALE = 50.0  # log alpha of a parameter: it moves faster than weights do at one learning rate


def gated_roles(model: Architecture) -> Dict[str, Tuple[int, Tuple[str, ...]]]:
    """Return how many gates there are of each kind, and which units share one.

    Units that must be equally many (both feed-forward modules of a block, both convolutions of
    the front end, all layers of the predictor) share the gate of their rank.

    Args:
        model: The sizes.

    Returns:
        Gates, and roles (`students.axes`), by the name of the kind.
    """
    roles: Dict[str, Tuple[int, Tuple[str, ...]]] = {}
    for b, size in enumerate(model.of_blocks(BY_NAME["encoder.linear_size"])):
        roles[f"ff{b}"] = size, (f"ff{b}", f"mac{b}")
    if not model.conv_size1:
        roles["conv"] = model.conv_size, ("c1", "c2")
    layers = PREDICTORS[model.decoder].gated(model)
    if layers:
        roles["rnn"] = model.decoder_size, tuple(f"rnn{n}" for n in range(layers))
    roles["joint"] = model.joint_size, ("joint",)
    return roles


def sized(model: Architecture, counts: Mapping[str, float]) -> Architecture:
    """Return a model with so many units of each kind, expected numbers among them."""
    sizes = {"linear_size": tuple(counts[f"ff{b}"] for b in range(model.num_blocks))}
    fields = {"conv": "conv_size", "rnn": "decoder_size", "joint": "joint_size"}
    return model.resized(**sizes, **{fields[k]: counts[k] for k in fields if k in counts})


class Gates(torch.nn.Module):
    """Gates of one model.

    Args:
        model: Sizes with all gates open.
        target: Parameters that are left at most.

    Attributes:
        theta: What is learned, a / SCALE. (gates,)
        budget: Parameters that are expected to be left.
        hard: Whether gates are open or closed, as after training.
    """

    def __init__(self, model: Architecture, target: int) -> None:
        super().__init__()
        self.model, self.target = model, target
        self.names = {name: size for name, (size, _) in gated_roles(model).items()}
        self.theta = torch.nn.Parameter(torch.zeros(sum(self.names.values())))
        self.budget, self.hard = float(model.params), False
        self.noise: Optional[torch.Tensor] = None  # of this batch (gates,)
        self._solved: Dict[str, Tuple[Any, Any]] = {}  # what was found last, and for what

    def draw(self) -> None:
        """Draw the noise of a batch."""
        u = torch.empty_like(self.theta).uniform_(1e-6, 1 - 1e-6)  # (gates,)
        self.noise = u.log() - (1 - u).log()

    def values(self, name: str) -> torch.Tensor:
        """Return the gates of a kind. (its units,)"""
        return self._split(self._values())[name]

    def _values(self) -> torch.Tensor:
        """Return all gates. (gates,)"""
        if self.hard or not self.training or self.noise is None:
            return self.kept().to(self.theta)
        a = SCALE * self.theta
        nu, share = self._shift(a.detach())
        # The gradient of nu: what all others give when one gate wants more.
        a = a + nu - (share * (a - a.detach())).sum()
        s = torch.sigmoid((self.noise + a) / BETA)
        return (s * (HIGH - LOW) + LOW).clamp(0, 1)

    def _split(self, values: torch.Tensor) -> Dict[str, torch.Tensor]:
        return dict(zip(self.names, values.split(list(self.names.values()))))

    def _params(self, open_: torch.Tensor) -> float:
        """Return the parameters with so much of each unit. (gates,)"""
        counts = {name: float(x.sum()) for name, x in self._split(open_).items()}
        return sized(self.model, counts).params

    def _once(self, what: str, limit: float, solve: Callable[[], Any]) -> Any:
        """Solve for something anew only when theta or the limit has changed.

        A forward pass asks once for each matrix.
        """
        key = (limit, self.theta.device, self.theta.detach().cpu().numpy().tobytes())
        if self._solved.get(what, (None, None))[0] != key:
            self._solved[what] = key, solve()
        return self._solved[what][1]

    def _shift(self, a: torch.Tensor) -> Tuple[float, torch.Tensor]:
        """Find nu, and each gate's part of its gradient. a: (gates,) -> (), (gates,)"""
        return self._once("shift", self.budget, lambda: self._solve_shift(a))

    def _solve_shift(self, a: torch.Tensor) -> Tuple[float, torch.Tensor]:
        exact = a.double().cpu()
        low, high = -30.0 - float(exact.max()), 30.0 - float(exact.min())
        for _ in range(40):
            nu = (low + high) / 2
            if self._params(torch.sigmoid(exact + nu + SHIFT)) > self.budget:
                high = nu
            else:
                low = nu
        p = torch.sigmoid(exact + nu + SHIFT)  # (gates,)
        counts = {name: float(x.sum()) for name, x in self._split(p).items()}
        before = sized(self.model, counts).params
        costs = [
            sized(self.model, {**counts, name: counts[name] + 1}).params - before
            for name in self.names
        ]
        sizes = torch.tensor(list(self.names.values()))
        cost = torch.tensor(costs, dtype=torch.double).repeat_interleave(sizes)  # (gates,)
        share = cost * p * (1 - p)
        return nu, (share / share.sum().clamp_min(1e-30)).to(a)

    def kept(self) -> torch.Tensor:
        """Choose the gates that stay open: those of largest a, as many as the target allows.

        One of each kind stays in any case. (gates,), bool
        """
        return self._once("kept", self.target, self._choose)

    def _choose(self) -> torch.Tensor:
        theta = self.theta.detach().cpu()
        order = theta.argsort(descending=True, stable=True)
        firsts, start = [], 0
        for size in self.names.values():
            firsts.append(start + int(theta[start : start + size].argmax()))
            start += size
        rest = order[~torch.isin(order, torch.tensor(firsts))]
        least, most = 0, len(rest)

        def opened(n: int) -> torch.Tensor:
            kept = torch.zeros(len(theta), dtype=torch.bool)
            kept[firsts] = True
            kept[rest[:n]] = True
            return kept

        while least < most:
            middle = (least + most + 1) // 2
            if self._params(opened(middle)) <= self.target:
                least = middle
            else:
                most = middle - 1
        kept = opened(least)
        for unit in rest[least:].tolist():  # smaller units may still fit
            kept[unit] = True
            if self._params(kept) > self.target:
                kept[unit] = False
        return kept.to(self.theta.device)

    def sizes(self) -> Architecture:
        """Return the sizes without the closed units."""
        counts = {name: int(x.sum()) for name, x in self._split(self.kept()).items()}
        return sized(self.model, counts)

    def masks(self) -> Dict[str, torch.Tensor]:
        """Return which units stay, by role. (units,)"""
        kept, roles = self._split(self.kept()), gated_roles(self.model)
        return {role: kept[name] for name, (_, group) in roles.items() for role in group}


def readers(model: Architecture) -> Dict[str, Tuple[str, int]]:
    """Return the kind of gate on the inputs of each matrix, and how many inputs a unit has."""
    read: Dict[str, Tuple[str, int]] = {"joint_network.lin_out.weight": ("joint", 1)}
    for b in range(model.num_blocks):
        for part in ("feed_forward", "feed_forward_macaron"):
            read[f"encoder.encoders.blocks.{b}.{part}.w_2.weight"] = f"ff{b}", 1
    if not model.conv_size1:
        read["encoder.embed.conv.2.weight"] = "conv", 1
        read["encoder.embed.output.weight"] = "conv", model.front_end_bins
    layers = PREDICTORS[model.decoder].gated(model)
    for n in range(layers):
        read[f"decoder.rnn.{n}.weight_hh_l0"] = "rnn", 1
        if n:
            read[f"decoder.rnn.{n}.weight_ih_l0"] = "rnn", 1
    if layers:
        read["joint_network.lin_dec.weight"] = read["lm_lin.weight"] = "rnn", 1
    return read


class GatedInputs(torch.nn.Module):
    """A parametrization: a matrix whose inputs have gates.

    Args:
        gates: The gates, which are no part of this module.
        name: Their kind.
        copies: Inputs of one unit, side by side.
    """

    def __init__(self, gates: Gates, name: str, copies: int) -> None:
        super().__init__()
        self.gates, self.name, self.copies = [gates], name, copies

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Multiply. (outputs, inputs, ...)"""
        z = self.gates[0].values(self.name).repeat_interleave(self.copies)  # (inputs,)
        # An LSTM that is moved asks for its weights before the gates are moved.
        return weight * z.view(1, -1, *[1] * (weight.dim() - 2)).to(weight)


class _Axis(NamedTuple):
    """An axis of a parameter that holds units which may have a gate: tiles x units x copies."""

    axis: int
    role: str
    tiles: int  # gates of the predictor's layer, one after the other
    copies: int  # bins of a channel, side by side


def _axes(name: str, dims: int, model: Architecture) -> List[_Axis]:
    """List such axes."""
    roles = axis_roles(name, dims, PREDICTORS[model.decoder].layers(model)) or []
    gated = {role for _, group in gated_roles(model).values() for role in group}
    axes = []
    for axis, role in enumerate(roles):
        base = "c2" if role == "c2*bins" else (role or "").removeprefix("gates*")
        if base in gated:
            tiles = GATES[model.rnn_type] if role == f"gates*{base}" else 1
            copies = model.front_end_bins if role == "c2*bins" else 1
            axes.append(_Axis(axis, base, tiles, copies))
    return axes


def closed(
    state: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor], model: Architecture
) -> State:
    """Set everything that belongs to closed units to zero.

    Args:
        state: Weights.
        masks: See `Gates.masks`.
        model: The sizes.
    """
    out: State = {}
    for name, tensor in state.items():
        for axis, role, tiles, copies in _axes(name, tensor.dim(), model):
            mask = masks[role].repeat_interleave(copies).repeat(tiles)  # (of the axis,)
            shape = [-1 if i == axis else 1 for i in range(tensor.dim())]
            tensor = tensor * mask.to(tensor).view(shape)
        out[name] = tensor
    return out


def unit_scores(state: Mapping[str, torch.Tensor], model: Architecture) -> State:
    """Sum the squared weights of each unit that may have a gate, by role. (units,)"""
    total: State = {}
    for name, score in weight_scores(state).items():
        for axis, role, tiles, copies in _axes(name, score.dim(), model):
            others = [i for i in range(score.dim()) if i != axis]
            sums = score.sum(dim=others).view(tiles, -1, copies).sum((0, 2)).cpu()  # (units,)
            total[role] = total.get(role, 0) + sums
    return total


def in_order(state: Mapping[str, torch.Tensor], model: Architecture) -> State:
    """Sort the units of each kind, those of the largest weights first: the same function.

    Units that share a gate are then of one rank.
    """
    scores = unit_scores(state, model)
    orders = {role: score.argsort(descending=True, stable=True) for role, score in scores.items()}
    out: State = {}
    for name, tensor in state.items():
        for axis, role, tiles, copies in _axes(name, tensor.dim(), model):
            places = torch.arange(tensor.size(axis)).view(tiles, -1, copies)
            tensor = tensor.index_select(axis, places[:, orders[role]].flatten())
        out[name] = tensor.clone()
    return out


def live_sizes(state: Mapping[str, torch.Tensor], model: Architecture) -> Architecture:
    """Return the sizes without units whose weights are all zero."""
    scores = unit_scores(state, model)
    counts = {
        name: max(int((scores[role] > 0).sum()) for role in group)
        for name, (_, group) in gated_roles(model).items()
    }
    return sized(model, counts)
