"""Additions to a method that trains what is decoded: keys of its `method_conf`, a file each.

An addition changes how a student is trained, never what stock ESPnet decodes of it (a second one
beside it may be ours: a strict cascade's look-ahead). `cut` and `retrain`
take all of `ADDITIONS`; one that is not asked for is not there: bit for bit, and in no file.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Tuple, Type

from espnet_kd.errors import UserError
from espnet_kd.methods.protocol import Attached, Exported, Job, Method, Prepared, Sibling
from espnet_kd.spec.method import MethodOptions, PlannedSibling

if TYPE_CHECKING:
    import torch

    from espnet_kd.methods.protocol import State


class Addition(abc.ABC):
    """An addition; the defaults are those of one that the model's training alone knows of.

    Attributes:
        name: Key in `method_conf`.
        kind: Type of its value.
        option: Field of options (`spec.option.option`); its default: it is not asked for.
        inherits: Whether it needs inherited weights in all parts: a stage with random ones is
            refused, and so is the first student of a teacher that cannot be cut.
        of_cut: Whether it needs a teacher that can be cut, whose weights may be left behind.
        decodes_averages: See `MethodOptions`.
        own_schedule: Whether what it trains is no part of the teacher's, so that it does not go
            with `anneal: through`.
        keeps: Beginning of names in the saved form that later stages read; empty: none.
    """

    name: str
    kind: Any
    option: Any
    inherits: bool = False
    of_cut: bool = False
    decodes_averages: bool = False
    own_schedule: bool = False
    keeps: str = ""

    def check_stage(self, stage: Any, value: Any, where: str) -> None:  # noqa: B027
        """Check what else the stage says.

        Args:
            stage: The stage (`spec.stage.Stage`).
            value: Value of the key, not the default.
            where: Name of the place in the plan, for messages.

        Raises:
            UserError: it does not go together with the addition.
        """

    def siblings_of(self, value: Any) -> Dict[str, PlannedSibling]:
        """Return what is known before of those that `siblings` will return, by name."""
        return {}

    def prepare(self, job: Job, prepared: Prepared, value: Any) -> Prepared:
        """Change a student before its training; what `attach` is given is written down here.

        Raises:
            UserError: the student cannot have it.
        """
        return with_facts(prepared, self.name, value)

    @abc.abstractmethod
    def attach(self, model: torch.nn.Module, facts: Any) -> Attached:
        """Change how a model is trained, in place; see `Method.attach`."""

    def export(self, state: State, facts: Any) -> State:
        """Return the state that is decoded; `kd_*`, which it may read, are left out after it."""
        return state

    def siblings(self, state: State, facts: Any) -> Dict[str, Sibling]:
        """Return further models that the training leaves, by name; see `Exported`."""
        return {}


def with_facts(prepared: Prepared, name: str, facts: Any, **changes: Any) -> Prepared:
    """Return a prepared student with facts for the `attach` of an addition.

    Args:
        prepared: The student.
        name: Name of the addition.
        facts: The facts, plain YAML.
        changes: Further fields of `Prepared` that change.
    """
    conf = {**prepared.method_conf, name: facts}
    return dataclasses.replace(prepared, method_conf=conf, **changes)


class WithAdditions(Method):
    """A method that trains what is decoded, and takes additions."""

    @abc.abstractmethod
    def derive(self, job: Job) -> Prepared:
        """Derive a student without additions; see `Method.prepare`."""

    def prepare(self, job: Job) -> Prepared:
        """Derive a student, then add to it."""
        prepared = self.derive(job)
        for addition, value in asked_for(job.stage.method_conf):
            prepared = addition.prepare(job, prepared, value)
        return prepared

    def attach(self, model: torch.nn.Module, conf: Mapping[str, Any]) -> Attached:
        """Attach all additions."""
        parts = [addition.attach(model, facts) for addition, facts in _attached(conf)]
        terms = [term for part in parts for term in part.terms]
        callbacks = [callback for part in parts for callback in part.callbacks]
        own_share = math.prod(part.own_share for part in parts)
        return Attached(terms, callbacks, any(part.rests for part in parts), own_share)

    def export(self, state: Mapping[str, torch.Tensor], conf: Mapping[str, Any]) -> Exported:
        """Leave out what exists in training alone."""
        whole = dict(state)
        siblings: Dict[str, Sibling] = {}
        kept: Dict[str, torch.Tensor] = {}
        for addition, facts in _attached(conf):
            if addition.keeps:
                kept |= {name: t for name, t in whole.items() if name.startswith(addition.keeps)}
            whole = addition.export(whole, facts)
        for addition, facts in _attached(conf):
            siblings.update(addition.siblings(whole, facts))
        decoded = {name: t for name, t in whole.items() if not name.startswith("kd_")}
        return Exported(decoded, siblings=siblings, kept=kept)


def options_with_additions(base: Type[MethodOptions]) -> Type[MethodOptions]:
    """Return the options of a method and those of all additions."""

    def check_stage(self: Any, stage: Any) -> None:
        """Check what the stage says apart from these options."""
        base.check_stage(self, stage)
        for addition, value in asked_for(self):
            where = stage.at(f"method_conf.{addition.name}")
            if addition.inherits and stage.init != "teacher":
                raise UserError(f"{where}: needs inherited weights, not 'init: {stage.init}'")
            if addition.own_schedule and stage.anneal != "anew":
                raise UserError(f"{where}: does not go with 'anneal: {stage.anneal}'")
            addition.check_stage(stage, value, where)

    def siblings(self: Any) -> Dict[str, PlannedSibling]:
        """Return the other models that the method and its additions make of the training."""
        others = dict(super(cls, self).siblings)
        for addition, value in asked_for(self):
            others.update(addition.siblings_of(value))
        return others

    def decodes_averages(self: Any) -> bool:
        """Tell whether the method or an addition makes what is decoded of averages."""
        added = any(addition.decodes_averages for addition, _ in asked_for(self))
        return added or super(cls, self).decodes_averages

    cls: Any = dataclasses.make_dataclass(
        f"{base.__name__}WithAdditions",
        [(addition.name, addition.kind, addition.option) for addition in _all()],
        bases=(base,),
        namespace={
            "check_stage": check_stage,
            "siblings": property(siblings),
            "decodes_averages": property(decodes_averages),
            "__doc__": base.__doc__,
        },
        frozen=True,
    )
    return cls


def asked_for(conf: Any) -> Iterator[Tuple[Addition, Any]]:
    """Yield the additions that a stage's options ask for, with their values."""
    for addition in _all():
        value = getattr(conf, addition.name, addition.option.default)
        if value != addition.option.default:
            yield addition, value


def without_inherited(conf: Any) -> Any:
    """Return a stage's options for a student of random weights."""
    for addition, _ in asked_for(conf):
        conf = conf.without(addition.name) if addition.inherits else conf
    return conf


def _attached(conf: Mapping[str, Any]) -> Iterator[Tuple[Addition, Any]]:
    """Yield the additions of a student's `method_conf`, with their facts."""
    for addition in _all():
        if addition.name in conf:
            yield addition, conf[addition.name]


def _all() -> List[Addition]:
    from espnet_kd.methods import ADDITIONS  # where they are registered

    return ADDITIONS
