"""Values of ESPnet's options in config files, of which ESPnet takes any kind.

It finds a wrong one where it uses it: of a later student days after the run has begun.
"""

import argparse
from typing import Any, Callable, Iterable, Mapping

from espnet_kd.errors import UserError, check_choice, shown

# `optim_conf.lr` in, `plan.yaml: stages[0].train: optim_conf.lr` out, for messages.
Place = Callable[[str], str]

# Smallest numbers that mean something; with fewer ESPnet trains nothing, or fails later.
LEAST = {
    "seed": 0, "max_epoch": 1, "accum_grad": 1, "batch_size": 1, "valid_batch_size": 1,
    "batch_bins": 1, "valid_batch_bins": 1, "num_workers": 0, "patience": 0, "wer_utterances": 0,
    "num_iters_per_epoch": 1, "ngpu": 0,
}  # fmt: skip
LARGEST_SEED = 2**32 - 1


def check_numbers(options: Mapping[str, Any], place: Place) -> None:
    """Refuse numbers that a training cannot have.

    Raises:
        UserError: one is too small, or a seed too large.
    """
    for name, least in LEAST.items():
        value = options.get(name)
        if value is not None and value < least:
            raise UserError(f"{place(name)} {value}: at least {least} is needed")
    if (options.get("seed") or 0) > LARGEST_SEED:
        raise UserError(f"{place('seed')} {options['seed']}: at most {LARGEST_SEED} is possible")


def check_values(
    options: Mapping[str, Any], actions: Iterable[argparse.Action], place: Place
) -> None:
    """Refuse values that the command line would refuse; of a config file ESPnet takes any.

    Args:
        options: Options of a training, as a config file has them.
        actions: Those of the training's parser.
        place: Where an option stands.

    Raises:
        UserError: a value is of the wrong kind, none of the choices, or out of bounds.
    """
    values = {}
    for action in actions:
        value = options.get(action.dest)
        if value is None or isinstance(value, Mapping):
            continue
        if isinstance(value, (list, tuple)):
            if action.nargs is None and not isinstance(action.default, list):
                raise UserError(
                    f"{place(action.dest)}: expected one value, found {shown(value)}; write one"
                )
            continue  # of pairs and triples ESPnet's types are for words on a command line
        values[action.dest] = read = _read(action, value, place)
        if action.choices is not None and None not in (read, action.choices):
            words = [choice for choice in action.choices if choice is not None]
            check_choice(place(action.dest), read, words)
    check_numbers(values, place)


def _read(action: argparse.Action, value: Any, place: Place) -> Any:
    if not callable(action.type) or isinstance(value, float) and value.is_integer():
        return value  # 1e6 counts where 1000000 does
    try:
        return action.type(str(value))
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        like = getattr(action.type, "__name__", "").split("_or_")[0]
        kind = {"int": "a whole number", "float": "a number", "str2bool": "true or false"}
        raise UserError(
            f"{place(action.dest)}: expected {kind.get(like, 'another kind of value')}, found "
            f"{shown(value)}"
        ) from None
