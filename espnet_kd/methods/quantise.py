"""Weights of few bits: trained as they will be rounded, distilled from the float student.

The student has its teacher's sizes. In training each layer computes with its weights on a grid
(`students/grid.py`), while what is updated, saved and averaged are the weights before rounding.
Averages are rounded once more as they are exported, so that ESPnet decodes exactly the values
that ship; their codes and scales lie beside (`device.<checkpoint>.npz`).

Biases, norms and depthwise convolutions stay float. Activations are not rounded.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.errors import UserError, shown
from espnet_kd.methods.computed_weights import compute_weights
from espnet_kd.methods.matrices import BLOCK, MATRICES, chosen, reader
from espnet_kd.methods.protocol import (
    Attached,
    Exported,
    Job,
    Method,
    OnDevice,
    Prepared,
    same_sizes,
)
from espnet_kd.spec.method import KeepsSizes
from espnet_kd.spec.option import option
from espnet_kd.spec.values import number

if TYPE_CHECKING:
    import torch

FLOAT = 32  # bits: nothing is rounded
BITS = (2, 3, 4, 5, 6, 7, 8)
PLACES = {
    **MATRICES,
    "front_end": r"encoder\.embed\.(conv\.\d+|output)",
    "predictor": r"decoder\.(embed|rnn\.\d+|position|output)",
    "joint_network": r"joint_network\.lin_(enc|dec|out)",
    "depthwise": BLOCK + r"conv_mod\.depthwise_conv",
}
USUAL = tuple(word for word in PLACES if word != "depthwise")  # it is sensitive, and small
NAMES = r"weight|weight_[ih]h_l\d+"  # of the matrices in a module


def read_bits(where: str, value: Any) -> Tuple[int, ...]:
    """Return bits a weight: one number, or several to choose from.

    Raises:
        UserError: another number, or none.
    """
    values = value if isinstance(value, list) else [value]
    for bits in values or [None]:
        if type(bits) is not int or bits not in (*BITS, FLOAT):
            raise UserError(
                f"{where}: expected {BITS[0]} to {BITS[-1]}, {FLOAT} (float), or a list of them, "
                f"found {shown(value)}"
            )
    return tuple(sorted(set(values)))


def read_mean(where: str, value: Any) -> float:
    """Return the mean bits a weight.

    Raises:
        UserError: no number of bits that can be.
    """
    return number(where, value, BITS[0], BITS[-1])


@dataclasses.dataclass(frozen=True)
class QuantiseOptions(KeepsSizes):
    """The options of `quantise` in a stage.

    Attributes:
        bits: Bits of every weight; with `mean_bits`, those that it may choose from.
        mean_bits: Mean bits a weight, shared out among the matrices by what the loss gains
            when each is rounded; None: all have as many.
        allocate: Way in which `mean_bits` is shared out.
        block: Inputs of an output channel that share a scale in matrices of 4 bits and
            fewer; 0: all. Matrices of more bits have a scale an output channel.
        where: Parts of the model whose matrices are quantised.
    """

    bits: Sequence[int] = option(
        (),
        "bits of every weight, 32: float; with `mean_bits` a list of those to choose from",
        read=read_bits,
        values="2 to 8, 32, or a list",
        published=True,
    )
    mean_bits: Optional[float] = option(
        None,
        "mean bits a weight, more for matrices where rounding costs more loss on utterances",
        read=read_mean,
        values="2 to 8",
        published=True,
    )
    allocate: str = option(
        "sensitivity",
        "how `mean_bits` is shared out: by the `sensitivity` of each matrix to rounding, "
        "`learned` by gradient on utterances, or `uniform`: all have as many",
        choices=("sensitivity", "learned", "uniform"),
        published=True,
    )
    block: int = option(
        32,
        "inputs that share a scale, in matrices of 4 bits and fewer; 0: all of an output channel",
        choices=(0, 16, 32, 64, 128),
        published=True,
    )
    where: Sequence[str] = option(
        USUAL,
        f"which matrices: {', '.join(PLACES)} (the last is not among them by default)",
        read=reader(PLACES),
        values="a list",
        published=True,
    )

    @property
    def decodes_averages(self) -> bool:
        """Whether: yes, the model of an epoch has the weights before they are rounded."""
        return True

    def check_stage(self, stage: Any) -> None:
        """Refuse a stage that says not, or twice, how many bits there are.

        Raises:
            UserError: it does, or see `KeepsSizes`.
        """
        place = stage.at("method_conf")
        if self.mean_bits is None:
            if len(self.bits) != 1:
                count = "none" if not self.bits else f"{len(self.bits)} to choose from"
                raise UserError(
                    f"{place}.bits: expected a number of bits (or 'mean_bits' too), found {count}"
                )
        elif not self.choice[0] <= self.mean_bits <= self.choice[-1] or FLOAT in self.choice:
            raise UserError(
                f"{place}.mean_bits: {self.mean_bits:g} is no mean of {list(self.choice)} ('bits')"
            )
        elif len(self.choice) == 1:
            raise UserError(
                f"{place}: 'mean_bits' has nothing to choose from with 'bits: {self.choice[0]}'; "
                "leave one of them out"
            )
        if self.mean_bits is None and self.allocate != "sensitivity":
            raise UserError(
                f"{place}.allocate: '{self.allocate}' shares out 'mean_bits', which is not there; "
                "leave one of them out, or name both"
            )
        if self.allocate == "uniform" and self.mean not in self.choice:
            raise UserError(
                f"{place}.mean_bits: with 'allocate: uniform' expected one of "
                f"{list(self.choice)} ('bits'), found {self.mean:g}"
            )
        if stage.init != "teacher":
            raise UserError(
                f"{stage.at('init')}: '{stage.init}' and rounding do not go together; a student "
                "of few bits begins with its teacher's weights"
            )
        super().check_stage(stage)

    def check_after(self, stage: Any, before: Any) -> None:
        """Refuse as many bits as there were, or more.

        Raises:
            UserError: that is so.
        """
        above = before.method_conf
        if isinstance(above, QuantiseOptions) and self.mean >= above.mean:
            raise UserError(
                f"{stage.at('method_conf')}: {self.mean:g} bits are not fewer than the "
                f"{above.mean:g} of '{before.name}'"
            )

    @property
    def mean(self) -> float:
        """Bits a weight, on average."""
        return self.bits[0] if self.mean_bits is None else self.mean_bits

    @property
    def choice(self) -> Tuple[int, ...]:
        """The bits that a matrix may have."""
        return tuple(self.bits) or BITS


class Quantise(Method):
    """See the module."""

    name = "quantise"
    followed_by = ("quantise",)
    undone = "it would train values between the steps of the grid, and the few bits would be lost"
    stock = "averaged weights, rounded to their bits"

    def prepare(self, job: Job) -> Prepared:
        """Choose the bits of each matrix."""
        from espnet_kd.students import grid
        from espnet_kd.students.learned_bits import learn_bits

        stage, sizes = job.stage, same_sizes(job, self.name)
        conf: QuantiseOptions = stage.method_conf
        state = {name: tensor.clone() for name, tensor in job.teacher.net.state_dict().items()}
        weights = {name: state[name] for name in _matrices(job.teacher.net, conf.where)}
        counts = {name: weight.numel() for name, weight in weights.items()}
        choice = [bits for bits in conf.choice if bits != FLOAT]
        bits = dict.fromkeys(weights, choice[0]) if choice else {}
        if conf.mean_bits is not None and conf.allocate == "uniform":
            bits = dict.fromkeys(weights, round(conf.mean_bits))
        elif conf.mean_bits is not None:
            if job.sample is None:
                raise UserError(
                    f"{stage.at('method_conf.mean_bits')}: shared out by what is measured on "
                    "utterances: name a data directory with --data, or say 'bits' alone"
                )
            grids = grid.candidates(choice, conf.block)
            if conf.allocate == "learned":
                bits = learn_bits(
                    job.teacher.net, grids, list(weights), job.sample.losses, conf.mean_bits
                )
            else:
                noises = grid.noise(weights, job.sample.curvature(job.teacher.net), grids)
                bits = grid.share_bits(noises, counts, conf.mean_bits)
        report: Dict[str, Any] = {}
        if bits:
            report.update(bits=bits, mean_bits=grid.mean_bits(bits, counts))
        attached = {"bits": bits, "block": conf.block} if bits else {}
        return Prepared(sizes, list(range(sizes.num_blocks)), state, report, attached)

    def attach(self, model: torch.nn.Module, conf: Mapping[str, Any]) -> Attached:
        """Let layers compute with rounded weights."""
        from espnet_kd.students.grid import Rounding

        compute_weights(model, {name: Rounding(grid) for name, grid in _grids(conf).items()})
        return Attached()

    def export(self, state: Mapping[str, torch.Tensor], conf: Mapping[str, Any]) -> Exported:
        """Round, and lay codes and scales beside."""
        from espnet_kd.common.device_weights import Rounded

        stock: Dict[str, Any] = dict(state)
        device: Dict[str, Any] = dict(state)
        for name, grid in _grids(conf).items():
            weight = state[name].float()
            scales = grid.scales(weight)  # (rows, blocks)
            codes = grid.codes(weight, scales)  # (as the weight)
            rounded = Rounded(codes.char().numpy(), scales.numpy(), grid.bits, grid.block)
            stock[name] = grid.round(weight).to(state[name].dtype)
            device[name] = rounded
        return Exported(stock, device)

    def on_device(
        self, stage: Any, params: int, first: int, net: Callable[[], torch.nn.Module]
    ) -> OnDevice:
        """Count the bits of codes, scales (as if all matrices had the mean bits), and the rest."""
        from espnet_kd.common.device_weights import PARTS, bytes_of_floats
        from espnet_kd.students.grid import candidates

        conf: QuantiseOptions = stage.method_conf
        model = net()
        held = {name: t for name, t in model.state_dict().items() if name.startswith(PARTS)}
        floats = {name: tuple(t.shape) for name, t in held.items() if t.is_floating_point()}
        size: float = bytes_of_floats(floats)
        if conf.mean == FLOAT:
            return OnDevice(params, size)
        (grid,) = candidates([round(conf.mean)], conf.block).values()
        for name in _matrices(model, conf.where):
            weight = model.get_parameter(name)
            scales = grid.blocks(weight)[..., 0].numel()
            size += weight.numel() * (conf.mean - FLOAT) / 8 + 2 * scales
        return OnDevice(params, size)


def _matrices(net: torch.nn.Module, words: Sequence[str]) -> List[str]:
    """Names of all weights that the words stand for."""
    return [
        f"{module}.{name}"
        for module, part in net.named_modules()
        if chosen(module, words, PLACES)
        for name, weight in part.named_parameters(recurse=False)
        if re.fullmatch(NAMES, name) and weight.dim() > 1
    ]


def _grids(conf: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the grid of each weight that is rounded, by its name."""
    from espnet_kd.students.grid import candidates

    grids = candidates(sorted(set(conf["bits"].values())), conf["block"])
    return {name: grids[bits] for name, bits in conf["bits"].items()}


METHOD = Quantise()
