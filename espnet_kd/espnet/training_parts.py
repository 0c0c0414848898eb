"""Whether the parts that a training names can be built, asked before it begins.

ESPnet builds them when it trains, which for a plan's later stage may be days after the run began.
"""

import inspect
from argparse import Namespace
from typing import Any, Callable, Mapping, Optional

import torch
from espnet2.tasks.abs_task import optim_classes, scheduler_classes
from espnet2.tasks.asr_transducer import ASRTransducerTask, specaug_choices

from espnet_kd.errors import UserError, check_choice, nearest, shown
from espnet_kd.spec.option_values import NONE

# `optim_conf.lr` in, `plan.yaml: stages[0].train: optim_conf.lr` out, for messages.
Place = Callable[[str], str]


def check_parts(options: Mapping[str, Any], model_conf: Mapping[str, Any], place: Place) -> None:
    """Build optimizer, scheduler and augmentation as ESPnet would, and make one update.

    Args:
        options: All options of a training; what is missing is not checked.
        model_conf: The options of ESPnet's model, with their defaults.
        place: Where an option stands.

    Raises:
        UserError: one has no such option, refuses a value, or cannot be used in this training.
    """
    if not _is_none(options.get("init")):
        raise UserError(f"{place('init')}: ESPnet initialises no transducer; leave it out")
    _check_model_conf(options.get("model_conf") or {}, model_conf, place)
    parts = _Parts(options, place)
    parts.built("specaug", specaug_choices.classes, lambda cls, **conf: cls(**conf))
    optimizer = parts.built("optim", optim_classes, lambda _, **conf: _optimizer(options), 1)
    if optimizer is not None and options.get("exclude_weight_decay"):
        optimizer = parts.told("exclude_weight_decay", lambda: _optimizer(options, apart=True))
    if optimizer is None:  # any will do for its scheduler
        optimizer = _optimizer({"optim": "adamw"})
    scheduler = parts.built(
        "scheduler", scheduler_classes, lambda cls, **conf: cls(optimizer, **conf), 1
    )
    parts.told("optim", optimizer.step)
    if scheduler is not None:
        asked = inspect.signature(scheduler.step).parameters.values()
        losses = [1.0 for p in asked if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        parts.told("scheduler", lambda: scheduler.step(*losses))


def _optimizer(options: Mapping[str, Any], apart: bool = False) -> torch.optim.Optimizer:
    """Build the optimizer of a small net as ESPnet does.

    Args:
        options: Options of a training.
        apart: Whether what does not decay is a group of its own (`exclude_weight_decay`).
    """
    net = torch.nn.Linear(1, 1)
    for weight in net.parameters():
        weight.grad = torch.zeros_like(weight)
    words = Namespace(
        optim=str(options["optim"]).lower(),
        optim_conf=options.get("optim_conf") or {},
        exclude_weight_decay=apart,
        exclude_weight_decay_conf=options.get("exclude_weight_decay_conf") or {},
        sharded_ddp=False,
    )
    return ASRTransducerTask.build_optimizers(words, net)[0]


def _is_none(value: Any) -> bool:
    return value is None or str(value).strip().lower() in NONE


class _Parts:
    """Builds what options name.

    Args:
        options: Options of a training.
        place: Where an option stands.
    """

    def __init__(self, options: Mapping[str, Any], place: Place) -> None:
        self.options, self.place = options, place

    def built(
        self, key: str, classes: Mapping[str, type], make: Callable[..., Any], taken: int = 0
    ) -> Optional[Any]:
        """Return what an option names; None: nothing, or what only another machine can make.

        Args:
            key: Name of the option: `optim`.
            classes: Classes by the values of the option.
            make: Function of the class and its options.
            taken: Arguments of the class that are no options.
        """
        name = self.options.get(key)
        if _is_none(name):
            return None
        if not isinstance(name, str):
            raise UserError(f"{self.place(key)}: expected a name, found {shown(name)}")
        check_choice(self.place(key), name.lower(), classes)
        part = classes[name.lower()]
        conf = self.options.get(f"{key}_conf", {})
        if not isinstance(conf, Mapping):
            where = self.place(f"{key}_conf")
            raise UserError(f"{where}: expected options by name, found {shown(conf)}")
        signature = inspect.signature(part).parameters
        known = list(signature)[taken:]
        takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.values())
        for word in conf:
            if word not in known and not takes_all:
                where, by = self.place(f"{key}_conf.{word}"), self.place(key)
                hint = nearest(str(word), known)
                if ".train" in by and ".train" not in where:  # no stage can take it back
                    hint += "; say it in the `train` of the stages that it is for"
                raise UserError(
                    f"{where}: not an option of {name}, which {by} names{hint}; it takes "
                    f"{', '.join(known)}"
                )
        return self.told(key, lambda: make(part, **conf))

    def told(self, key: str, do: Callable[[], Any]) -> Any:
        """Return what a function returns; None: it asks for another machine.

        Raises:
            UserError: it fails.
        """
        try:
            return do()
        except Exception as e:  # whatever torch, ESPnet or typeguard finds wrong
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            if isinstance(e, (RuntimeError, AssertionError)) and "device" in reason:
                return None
            conf = self.options.get(f"{key}_conf") or {}
            where = self.place(f"{key}_conf") if conf else self.place(key)
            raise UserError(
                f"{where}: {self.options[key]} cannot be used with {shown(conf)} ({reason}); "
                "see its documentation"
            ) from None


def _check_model_conf(conf: Any, defaults: Mapping[str, Any], place: Place) -> None:
    if not isinstance(conf, Mapping):
        raise UserError(f"{place('model_conf')}: expected options by name, found {shown(conf)}")
    for key, value in conf.items():
        where = place(f"model_conf.{key}")
        if key not in defaults:
            raise UserError(f"{where}: unknown option of the model{nearest(str(key), defaults)}")
        default = defaults[key]
        counted = isinstance(default, (int, float)) and not isinstance(default, bool)
        if counted and not isinstance(value, (int, float)):
            raise UserError(f"{where}: expected a number, found {shown(value)}")
