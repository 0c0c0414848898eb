"""Matrices as products of two thin ones, trained together and multiplied out for ESPnet.

    W (n, m)  ->  left (n, r) right (r, m)

The student has its teacher's sizes. Stock ESPnet holds one matrix in each place, so that its
checkpoint becomes no smaller; a device computes with the factors (`device.<checkpoint>.npz`), and
their parameters are what `target` counts, or the bytes of that file.

Averages are taken of the factors, then multiplied out. A mean of products has up to n r ranks
for n epochs: it would be no product of factors of this rank any more.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

from espnet_kd.errors import UserError
from espnet_kd.methods.matrices import MATRICES, chosen, reader
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
from espnet_kd.spec.target import FLOAT, Target
from espnet_kd.spec.values import number

if TYPE_CHECKING:
    import torch

PREFIX = "kd_low_rank."  # of the factors in saved form
RANK, OF_RANKS = 16, 6  # a rank, and bytes by which others may lengthen the index for a matrix


def read_share(where: str, value: Any) -> float:
    """Return the share of a full rank.

    Raises:
        UserError: no number above 0 and up to 1.
    """
    return number(where, value, 1e-4, 1)


@dataclasses.dataclass(frozen=True)
class LowRankOptions(KeepsSizes):
    """The options of `low_rank` in a stage.

    Attributes:
        rank: Share of the full rank that every matrix keeps; None: the stage's `target` is
            shared out among them. 1: every matrix stays whole.
        where: Parts of the model whose matrices are factored.
        by: Weight of an error in a matrix: that of its `weight`s, or of its output on
            utterances (`activation`).
    """

    rank: Optional[float] = option(
        None,
        "share of the full rank that every matrix keeps, in place of `target`",
        read=read_share,
        values="above 0, up to 1",
        published=True,
    )
    where: Sequence[str] = option(
        tuple(MATRICES),
        f"which matrices: {', '.join(MATRICES)}",
        read=reader(MATRICES),
        values="a list",
        published=True,
    )
    by: str = option(
        "weight",
        "what an error of a matrix counts: that of its weights, or of its output on utterances",
        choices=("weight", "activation"),
        published=True,
    )

    def check_stage(self, stage: Any) -> None:
        """Refuse a stage that says not, or twice, how small its factors are.

        Raises:
            UserError: it does, or see `KeepsSizes`.
        """
        if (stage.target is None) == (self.rank is None):
            what = "neither" if self.rank is None else "both"
            raise UserError(
                f"{stage.where}: low_rank needs either 'target' or 'method_conf.rank', found "
                f"{what}"
            )
        super().check_stage(dataclasses.replace(stage, target=None))


class LowRank(Method):
    """See the module."""

    name = "low_rank"
    followed_by = ("low_rank",)
    undone = "it would train whole matrices, and what low_rank has gained would be lost"
    stock = "averaged factors, multiplied out"

    def prepare(self, job: Job) -> Prepared:
        """Factor the teacher's matrices."""
        from espnet_kd.students import factors

        stage, sizes = job.stage, same_sizes(job, self.name)
        conf: LowRankOptions = stage.method_conf
        state = {name: tensor.clone() for name, tensor in job.teacher.net.state_dict().items()}
        names = [name for name in _matrices(job.teacher.net) if chosen(name, conf.where, MATRICES)]
        weights = {name: state[f"{name}.weight"].flatten(1) for name in names}  # (n, m)
        roots = _roots(job, weights) if conf.by == "activation" else {}
        if conf.rank is not None:
            ranks = {name: factors.share_of_rank(w, conf.rank) for name, w in weights.items()}
        else:
            where = stage.at("target")
            beside = _beside(state, names, sizes.params)
            wanted = _room(stage.target, job.first.params, beside)
            if wanted >= sizes.params:
                raise UserError(
                    f"{where}: {wanted:,} parameters are not fewer than the teacher's "
                    f"{sizes.params:,}"
                )
            whole = sizes.params - sum(w.numel() for w in weights.values())
            ranks = factors.share_out(weights, roots, wanted - whole, where)
        ranks = {name: rank for name, rank in ranks.items() if rank}  # 0: it stays whole
        effective = sizes.params
        for name, rank in ranks.items():
            left, right = factors.factor(weights[name], rank, roots.get(name))
            effective += left.numel() + right.numel() - weights[name].numel()
            state.update({f"{PREFIX}{name}.left": left, f"{PREFIX}{name}.right": right})
            state[f"{name}.weight"] = factors.product(left, right).view_as(state[f"{name}.weight"])
        return Prepared(
            sizes,
            list(range(sizes.num_blocks)),
            state if stage.init == "teacher" else None,
            {"effective_params": effective, "ranks": ranks},
            {"ranks": ranks} if ranks else {},
        )

    def attach(self, model: torch.nn.Module, conf: Mapping[str, Any]) -> Attached:
        """Put factors in the place of the matrices."""
        from espnet_kd.students.factors import Factored

        ranks = conf["ranks"]
        for name, rank in ranks.items():
            above, _, last = name.rpartition(".")
            place = model.get_submodule(above)
            setattr(place, last, Factored(getattr(place, last), rank))

        def save(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
            _to_saved(state, ranks)

        def load(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
            _to_trained(state, ranks)

        model.register_state_dict_post_hook(save)
        model.register_load_state_dict_pre_hook(load)
        return Attached()

    def export(self, state: Mapping[str, torch.Tensor], conf: Mapping[str, Any]) -> Exported:
        """Multiply the factors out for ESPnet; a device computes with them."""
        from espnet_kd.students.factors import product

        factors = {k.removeprefix(PREFIX): t for k, t in state.items() if k.startswith(PREFIX)}
        stock = {name: t for name, t in state.items() if not name.startswith(PREFIX)}
        device = {**stock, **factors}
        for name in {key.rpartition(".")[0] for key in factors}:
            whole = product(factors[f"{name}.left"], factors[f"{name}.right"])  # (n, m)
            stock[f"{name}.weight"] = whole.view_as(stock[f"{name}.weight"])
            del device[f"{name}.weight"]
        return Exported(stock, device)

    def on_device(
        self, stage: Any, params: int, first: int, net: Callable[[], torch.nn.Module]
    ) -> OnDevice:
        """Count factors in the place of their matrices."""
        from espnet_kd.students.factors import share_of_rank

        conf: LowRankOptions = stage.method_conf
        model = net()
        names = [name for name in _matrices(model) if chosen(name, conf.where, MATRICES)]
        beside = _beside(model.state_dict(), names, params)
        if conf.rank is None:
            params = min(params, _room(stage.target, first, beside))
        else:
            for name in names:
                weight = model.get_parameter(f"{name}.weight").flatten(1)  # (n, m)
                rank = share_of_rank(weight, conf.rank)
                params += rank * sum(weight.shape) - weight.numel() if rank else 0
        return OnDevice(params, FLOAT * params + beside)


def _room(target: Target, first: int, beside: int) -> int:
    """Return how many parameters a target has room for: of a size in bytes, in `device.*.npz`.

    Args:
        target: The target.
        first: Parameters of the run's first teacher.
        beside: See `_beside`.
    """
    if target.bytes is None:
        return target.params(first)
    return (target.bytes - beside) // FLOAT


def _beside(state: Mapping[str, torch.Tensor], names: Sequence[str], params: int) -> int:
    """Return how many bytes `device.*.npz` has beside the parameters.

    Args:
        state: The model's tensors by name, its matrices whole.
        names: Modules whose matrices are factored.
        params: Parameters of the model.
    """
    from espnet_kd.common.device_weights import PARTS, bytes_of_floats

    whole = {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if name.startswith(PARTS) and tensor.is_floating_point()
    }
    shapes = dict(whole)
    for name in names:
        n, *m = shapes.pop(f"{name}.weight")
        shapes |= {f"{name}.left": (n, RANK), f"{name}.right": (RANK, math.prod(m))}
    beside = bytes_of_floats(shapes) - FLOAT * sum(map(math.prod, shapes.values()))
    buffers = sum(map(math.prod, whole.values())) - params
    return beside + OF_RANKS * len(names) + FLOAT * buffers


def _matrices(net: torch.nn.Module) -> List[str]:
    """Names of all modules that one matrix makes."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv1d)
    return [name for name, module in net.named_modules() if isinstance(module, kinds)]


def _roots(job: Job, weights: Mapping[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """Square roots (m, m) of the mean outer products of what the matrices are given."""
    from espnet_kd.students.factors import MeanSquare

    if job.sample is None:
        raise UserError(
            f"{job.stage.at('method_conf.by')}: 'activation' is measured on utterances: name a "
            "data directory with --data, or say 'weight'"
        )
    seen = {name: MeanSquare(weight.size(1)) for name, weight in weights.items()}
    hooks = [job.teacher.net.get_submodule(n).register_forward_pre_hook(seen[n]) for n in seen]
    try:
        job.sample.loss(job.teacher.net)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: mean.root() for name, mean in seen.items()}


def _to_saved(state: Dict[str, torch.Tensor], ranks: Mapping[str, int]) -> None:
    """Name the factors `kd_*`, and put their products in the places that ESPnet knows."""
    from espnet_kd.students.factors import product

    for name in ranks:
        left, right = (state.pop(f"{name}.{side}") for side in ("left", "right"))
        whole = product(left, right)  # (n, m)
        state[f"{name}.weight"] = whole[..., None] if "pointwise_conv" in name else whole
        state.update({f"{PREFIX}{name}.left": left, f"{PREFIX}{name}.right": right})


def _to_trained(state: Dict[str, torch.Tensor], ranks: Mapping[str, int]) -> None:
    """Undo `_to_saved`.

    Raises:
        UserError: matrices that are not the products of the factors beside them.
    """
    import torch

    from espnet_kd.students.factors import product

    for name in ranks:
        left, right = (state.pop(f"{PREFIX}{name}.{side}", None) for side in ("left", "right"))
        whole = state.pop(f"{name}.weight", None)
        if left is None or right is None:
            raise UserError(
                f"'{name}' has no factors in this checkpoint; begin with the student's init.pth"
            )
        if whole is not None:
            expected = product(left, right).view_as(whole)
            if not torch.allclose(whole, expected, rtol=1e-3, atol=1e-4):
                raise UserError(
                    f"'{name}.weight' is not the product of its factors in this checkpoint; "
                    "begin with the student's init.pth"
                )
        state.update({f"{name}.left": left, f"{name}.right": right})


METHOD = LowRank()
