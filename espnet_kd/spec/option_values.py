"""Values of ESPnet's options in config files and on command lines.

Of a config file ESPnet takes any value, and finds a wrong one where it uses it: of a later
student days after the run has begun.
"""

import argparse
from typing import Any, Iterable, Iterator, List, Mapping, Sequence, Tuple

from espnet_kd.errors import nearest, shown

# Smallest numbers that mean something; with fewer ESPnet does nothing, or fails later.
LEAST = {
    "seed": 0, "max_epoch": 1, "accum_grad": 1, "batch_size": 1, "valid_batch_size": 1,
    "batch_bins": 1, "valid_batch_bins": 1, "num_workers": 0, "patience": 0, "wer_utterances": 0,
    "num_iters_per_epoch": 1, "ngpu": 0, "keep_nbest_models": 1, "log_interval": 1,
    "beam_size": 1, "nbest": 1,
}  # fmt: skip
MOST = {"seed": 2**32 - 1}
# Those that no training does without: nothing in their place is an error of ESPnet's.
NEEDED = (
    "seed", "grad_clip", "max_epoch", "num_workers", "accum_grad", "keep_nbest_models",
    "batch_size", "optim", "optim_conf", "best_model_criterion",
    "beam_size", "nbest",
)  # fmt: skip
PHASES, MODES = ("train", "valid"), ("min", "max")
# Words of an entry that names a statistic, and how many entries there are.
CRITERIA = {
    "best_model_criterion": (3, True),
    "early_stopping_criterion": (3, False),
    "val_scheduler_criterion": (2, False),
}
KINDS = {
    "int": "a whole number", "float": "a number", "str2bool": "true or false",
    "parse_size": "a size such as 2G", "humanfriendly_parse_size": "a size such as 2G",
}  # fmt: skip


def wrong_values(
    options: Mapping[str, Any], actions: Iterable[argparse.Action]
) -> Iterator[Tuple[str, str]]:
    """Yield options whose values ESPnet cannot use.

    Args:
        options: Options as a config file has them.
        actions: Those of ESPnet's parser.

    Yields:
        Name of the option, and what is wrong with its value.
    """
    for action in {action.dest: action for action in actions}.values():
        if action.dest in options:
            problem = _problem(action, options[action.dest])
            if problem:
                yield action.dest, problem


def wrong_words(
    words: Sequence[Tuple[str, List[str]]], actions: Iterable[argparse.Action]
) -> Iterator[Tuple[str, str]]:
    """Yield options of a command line whose values ESPnet's parser, or ESPnet, refuses.

    Args:
        words: Names and values, as often as they are given.
        actions: Those of ESPnet's parser.
    """
    known = {action.dest: action for action in actions}
    for name, values in words:
        if name.endswith("_conf"):
            pairs = [word for word in values if "=" not in word and not word.startswith("{")]
            if pairs or not values:
                yield name, f"expected options by name, found {shown(' '.join(pairs))}"
            continue
        action = known.get(name)
        if action is None:
            continue
        value: Any = values[0] if len(values) == 1 and action.nargs is None else values
        if name in CRITERIA and CRITERIA[name][1]:
            value = criteria_of(values)
        problem = _problem(action, value)
        if problem:
            yield name, problem


def criteria_of(words: Sequence[str]) -> List[List[str]]:
    """Return `best_model_criterion` of a command line as a config file has it."""
    rows = [word.strip().strip("()[]").split(",") for word in words]
    return [[part.strip().strip("'\"") for part in row] for row in rows]


def _problem(action: argparse.Action, value: Any) -> str:
    """Say what is wrong with a value; nothing: ''."""
    name = action.dest
    if name.endswith("_conf") or action.type is dict:
        empty = value is None and name not in NEEDED
        by_name = empty or isinstance(value, Mapping)
        return "" if by_name else f"expected options by name, found {shown(value)}"
    kind = KINDS.get(getattr(action.type, "__name__", "").replace("_or_none", ""), "one value")
    if value is None:
        return f"expected {kind}, found 'null'; leave it out" if name in NEEDED else ""
    if name in CRITERIA:
        return _of_criteria(value, *CRITERIA[name])
    if isinstance(value, Mapping):
        return f"expected {kind}, found {shown(value)}"
    if isinstance(value, (list, tuple)):
        several = action.nargs is not None or isinstance(action.default, list)
        if several:
            problems = (_of_one(action, part, kind) for part in value)
            missing = f"expected {kind} or several, found none" if name in NEEDED else ""
            return next(filter(None, problems), "" if value else missing)
        return f"expected {kind}, found {shown(value)}" if kind != "one value" else ""
    return _of_one(action, value, kind)


def _of_one(action: argparse.Action, value: Any, kind: str) -> str:
    read, name = value, action.dest
    whole = isinstance(value, float) and value.is_integer()  # 2e+6 counts where 2000000 does
    truth = isinstance(value, bool) and kind in ("a whole number", "a number")  # is 1 or 0
    if callable(action.type) and not (whole or truth):
        try:
            read = action.type(str(value))
        except Exception:  # of whatever kind: humanfriendly has its own
            return f"expected {kind}, found {shown(value)}"
    choices = [choice for choice in action.choices or () if choice is not None]
    if choices and read is not None and read not in choices:
        words = [str(choice) for choice in choices]
        return f"{shown(value)} is not one of {', '.join(words)}{nearest(str(value), words)}"
    if isinstance(read, (int, float)):
        if read < LEAST.get(name, read):
            return f"found {value}, at least {LEAST[name]} is needed"
        if read > MOST.get(name, read):
            return f"found {value}, at most {MOST[name]} is possible"
    return ""


def _of_criteria(value: Any, words: int, several: bool) -> str:
    example = ["valid", "loss_transducer", "min"][:words]
    wanted = f"[{', '.join(example)}]"
    wanted = f"[{wanted}]" if several else wanted
    rows = value if several else [value]
    if not isinstance(rows, (list, tuple)) or not rows:
        return f"expected such a list as {wanted}, found {shown(value)}"
    for row in rows:
        right = isinstance(row, (list, tuple)) and len(row) == words
        right = right and all(isinstance(word, str) for word in row)
        if not right or row[0] not in PHASES or row[2:3] and row[2] not in MODES:
            return f"expected such a list as {wanted}, found {shown(value)}"
    return ""
