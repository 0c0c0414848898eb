"""Whether the parts that a training names can be built, asked before it begins.

ESPnet builds them when it trains, which for a plan's later stage may be days after the run began.
"""

import inspect
from typing import Any, Callable, Dict, Mapping, Optional

import torch
from espnet2.tasks.abs_task import optim_classes, scheduler_classes
from espnet2.tasks.asr_transducer import specaug_choices

from espnet_kd.errors import UserError, check_choice, nearest, shown
from espnet_kd.spec.option_values import Place
from espnet_kd.spec.values import number


def check_parts(options: Mapping[str, Any], model_conf: Mapping[str, Any], place: Place) -> None:
    """Build optimizer, scheduler and augmentation as ESPnet would, and make one update.

    Args:
        options: All options of a training; what is missing is not checked.
        model_conf: The options of ESPnet's model, with their defaults.
        place: Where an option stands.

    Raises:
        UserError: one has no such option, refuses a value, or cannot be used in this training.
    """
    _check_model_conf(options.get("model_conf") or {}, model_conf, place)
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    optimizer = _built("optim", optim_classes, options, place, [weight])
    if optimizer is not None:
        _refused(optimizer.step, "optim", options, place)
        _built("scheduler", scheduler_classes, options, place, optimizer)
    _built("specaug", specaug_choices.classes, options, place)


def _built(
    key: str, classes: Mapping[str, type], options: Mapping[str, Any], place: Place, *args: Any
) -> Optional[Any]:
    """Return the object that an option names; None: none, or none that could be made here."""
    name = options.get(key)
    if not isinstance(name, str) or name.lower() in ("none", "null"):
        return None
    check_choice(place(key), name.lower(), classes)
    made = classes[name.lower()]
    conf: Dict[str, Any] = options.get(f"{key}_conf") or {}
    taken = inspect.signature(made).parameters
    known = list(taken)[len(args) :]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    for word in conf:
        if word not in known and not takes_all:
            raise UserError(
                f"{place(f'{key}_conf.{word}')}: not an option of {name}, which {place(key)} names"
                f"{nearest(word, known)}; it takes {', '.join(known)}"
            )
    return _refused(lambda: made(*args, **conf), key, options, place)


def _refused(make: Callable[[], Any], key: str, options: Mapping[str, Any], place: Place) -> Any:
    try:
        return make()
    except (RuntimeError, AssertionError):
        return None  # of what this machine is not, as a GPU may be
    except Exception as e:  # whatever torch, ESPnet or typeguard finds wrong
        reason = (str(e).splitlines() or [""])[0]
        conf = options.get(f"{key}_conf") or {}
        raise UserError(
            f"{place(f'{key}_conf')}: {options[key]} with {shown(conf)}: {reason}"
        ) from None


def _check_model_conf(conf: Mapping[str, Any], defaults: Mapping[str, Any], place: Place) -> None:
    for key, value in conf.items():
        where = place(f"model_conf.{key}")
        if key not in defaults:
            raise UserError(f"{where}: unknown option of the model{nearest(key, defaults)}")
        default = defaults[key]
        if isinstance(default, bool):
            check_choice(where, value, (True, False))
        elif isinstance(default, (int, float)):
            number(where, value)
