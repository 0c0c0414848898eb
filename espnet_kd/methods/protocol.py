"""The contract of a compression method: four answers, and the types that they are made of.

1. Its options in a stage of the plan (`method_conf`): a class of `spec.option.Options`.
2. `prepare`: a student of a teacher: sizes, first weights, a report.
3. `attach`: the form in which it is trained, its terms of the loss, its callbacks.
4. `export`: the form in which stock ESPnet decodes it, and the one for a device.

The two forms may differ. Names of what exists in training alone begin with `kd_`: stock
ESPnet, and we, pass over it in a checkpoint (`saved form`: what is decoded, and `kd_*`).

Plans are read without torch: modules of methods import it inside functions.
"""

from __future__ import annotations

import abc
import dataclasses
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from espnet_kd.errors import UserError

if TYPE_CHECKING:
    import torch

    from espnet_kd.methods.callbacks import Callback
    from espnet_kd.students.architecture import Architecture
    from espnet_kd.students.checkpoint_size import Beside

    State = Dict[str, torch.Tensor]


Build = Callable[[Dict[str, Any]], Any]  # a stock ESPnet model of a config


@dataclasses.dataclass
class Model:
    """A trained transducer and its sizes.

    Attributes:
        config: Config of the model.
        net: The model that students are cut from.
        sizes: Its sizes.
        taught_by: The teacher, where `net` only stands in for one that cannot be cut.
        beside: Tensors that its method has kept for the next stage (`Exported.kept`).
    """

    config: Dict[str, Any]
    net: torch.nn.Module
    sizes: Architecture
    taught_by: Optional[torch.nn.Module] = None
    beside: State = dataclasses.field(default_factory=dict)

    @property
    def teacher(self) -> torch.nn.Module:
        """The model that teaches."""
        return self.net if self.taught_by is None else self.taught_by

    @property
    def causal(self) -> bool:
        """Whether its convolutions see the past only."""
        main_conf = self.config["encoder_conf"].get("main_conf") or {}
        return bool(main_conf.get("dynamic_chunk_training", False))


@dataclasses.dataclass(frozen=True)
class Job:
    """A student to be prepared.

    Attributes:
        stage: The stage of the plan.
        teacher: The student's teacher.
        first: Sizes of the run's first teacher.
        sample: Utterances to measure on (`espnet.measure.Sample`); None: there are none.
        build: Builds a stock ESPnet model of a config.
        sizes: Sizes that are decided already, by a path of the report; None: none are.
        others: What a checkpoint of the student will hold beside what is cut; None: nothing.
        overruled: Function that lays what the training configs say over parts of a config.
    """

    stage: Any
    teacher: Model
    first: Architecture
    sample: Optional[Any]
    build: Build
    sizes: Optional[Architecture] = None
    others: "Optional[Beside]" = None
    overruled: Callable[[Dict[str, Any]], Dict[str, Any]] = dict


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A student before its training.

    Attributes:
        sizes: Sizes of the student in stock ESPnet.
        kept: The teacher's blocks that its blocks come from.
        state: First weights in saved form; None: fresh ones are drawn.
        report: Facts for `student.json`.
        method_conf: Facts that `attach` is given, with the method's name; empty: it is not
            called, and stock ESPnet's form is trained.
        alike: Function that cuts other tensors of the teacher's parameters, by name, as the
            weights were cut; None: they are no part of the teacher's.
        cut: Function that cuts weights of other sizes, and of the blocks that it is told, out of
            the teacher; None: nothing of the teacher was cut.
    """

    sizes: Architecture
    kept: List[int]
    state: Optional[State]
    report: Dict[str, Any] = dataclasses.field(default_factory=dict)
    method_conf: Dict[str, Any] = dataclasses.field(default_factory=dict)
    alike: Optional[Callable[[State], State]] = None
    cut: Optional[Callable[[Architecture, List[int]], State]] = None


class OnDevice(NamedTuple):
    """Size of a student's weights on a device.

    Attributes:
        params: Numbers.
        bytes: Bytes.
    """

    params: int
    bytes: float


class Term(abc.ABC):
    """One summand of the loss.

    Attributes:
        name: Name in the statistics.
        needs: Fields of `espnet.terms.Outputs` without which it is left out.
        blocks: Blocks of the student, from 0, whose outputs it reads (`Outputs.blocks`).
    """

    name: str
    needs: Tuple[str, ...] = ()
    blocks: Tuple[int, ...] = ()

    def prepare(self, model: Any, teacher: Any) -> None:  # noqa: B027  most need nothing
        """Check that both models can serve it; give the student what is trained with it.

        Args:
            model: The student.
            teacher: The student's teacher, in memory (`espnet.teacher.FrozenTeacher`).

        Raises:
            UserError: one of them cannot.
        """

    @abc.abstractmethod
    def weight(self, model: Any) -> float:
        """Return how much it counts at the student's present update."""

    def wanted(self, model: Any) -> bool:
        """Tell whether it is computed at all."""
        return self.weight(model) > 0

    @abc.abstractmethod
    def value(self, out: Any) -> torch.Tensor:
        """Compute it: the mean over utterances, nats for all but distances. ()

        Args:
            out: Outputs of both models for the batch (`espnet.terms.Outputs`).
        """

    def beside(self, out: Any) -> Dict[str, torch.Tensor]:
        """Return further statistics."""
        return {}


@dataclasses.dataclass(frozen=True)
class Attached:
    """Terms and callbacks that a method adds to a training.

    Attributes:
        terms: Terms of the loss, behind our own.
        callbacks: See `Callback`.
        rests: Whether a parameter may have no part in an update, which several processes that
            train together have to know.
        own_share: Factor of our own terms.
    """

    terms: Sequence[Term] = ()
    callbacks: Sequence[Callback] = ()
    rests: bool = False
    own_share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Sibling:
    """Another model of stock ESPnet that comes out of the same training.

    Attributes:
        config: Parts of its config that differ from the student's.
        state: Its weights.
    """

    config: Dict[str, Any]
    state: State


@dataclasses.dataclass(frozen=True)
class Exported:
    """A trained student as others use it.

    Attributes:
        state: The weights that stock ESPnet loads, and nothing else.
        device: The weights as a device holds them, tensors or `device_weights.Rounded`; more
            than decoding needs is left out by whoever writes them. Empty: those of `state`.
        siblings: Further models of the training by the names of their folders in the student's.
        kept: Tensors of the saved form that later stages read, in a file beside; empty: none.
    """

    state: State
    device: Dict[str, Any] = dataclasses.field(default_factory=dict)
    siblings: Dict[str, Sibling] = dataclasses.field(default_factory=dict)
    kept: State = dataclasses.field(default_factory=dict)


class Method(abc.ABC):
    """A compression method; the defaults are those of one that trains what is decoded.

    Attributes:
        name: Name in a plan.
        followed_by: Methods whose teacher may be its student; None: all.
        undone: Harm that any other would do to it, for the message.
        stock: Origin of the form that stock ESPnet decodes, for `manifest.json`.
    """

    name: str
    followed_by: Optional[Tuple[str, ...]] = None
    undone: str = ""
    stock: str = "as trained"

    @abc.abstractmethod
    def prepare(self, job: Job) -> Prepared:
        """Derive a student.

        Raises:
            UserError: the stage asks for what cannot be.
        """

    def attach(self, model: torch.nn.Module, conf: Mapping[str, Any]) -> Attached:
        """Turn a model that ESPnet has built into the form that is trained.

        Args:
            model: The model, changed in place. Its `state_dict` becomes the saved form.
            conf: `Prepared.method_conf`.
        """
        return Attached()

    def export(self, state: Mapping[str, torch.Tensor], conf: Mapping[str, Any]) -> Exported:
        """Turn a saved form, averaged over epochs or not, into the one that is decoded.

        Args:
            state: The saved form.
            conf: `Prepared.method_conf`.
        """
        return Exported(dict(state))

    def on_device(
        self, stage: Any, params: int, first: int, net: Callable[[], torch.nn.Module]
    ) -> Optional[OnDevice]:
        """Tell what a planned student's device form will take; None: the method has none.

        Args:
            stage: The stage of the plan.
            params: Parameters of the student in stock ESPnet.
            first: Parameters of the run's first teacher.
            net: Builds the student, with random weights.
        """
        return None


def device_file(checkpoint: Path) -> Path:
    """Return where `Exported.device` of a checkpoint lies, or of what it links to."""
    checkpoint = _linked(checkpoint)
    return checkpoint.with_name(f"device.{checkpoint.stem}.npz")


def kept_file(checkpoint: Path) -> Path:
    """Return where `Exported.kept` of a checkpoint lies, or of what it links to."""
    checkpoint = _linked(checkpoint)
    return checkpoint.with_name(f"kd.{checkpoint.name}")


def _linked(checkpoint: Path) -> Path:
    return checkpoint.resolve() if checkpoint.name.endswith(".ave.pth") else checkpoint


def same_sizes(job: Job, method: str) -> Architecture:
    """Return the teacher's sizes for a student that keeps them.

    Args:
        job: The student.
        method: Name of its method.

    Raises:
        UserError: a path of the report asks for other sizes.
    """
    if job.sizes not in (None, job.teacher.sizes):
        raise UserError(
            f"{job.stage.where}: the path '{job.stage.path}' leads to this size in one step, "
            f"which method '{method}' cannot do behind a cut; leave the path out (--paths)"
        )
    return job.teacher.sizes
