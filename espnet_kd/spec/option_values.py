"""Values of ESPnet's options in config files and on command lines.

Of a config file ESPnet takes any value, and finds a wrong one where it uses it: of a later
student days after the run has begun.
"""

import argparse
import re
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
# Those that no training or decoding does without: ESPnet fails where they are null.
NEEDED = (
    "seed", "grad_clip", "grad_clip_type", "max_epoch", "num_workers", "accum_grad",
    "keep_nbest_models", "best_model_criterion", "batch_size", "batch_type", "sort_in_batch",
    "train_dtype", "use_amp", "max_cache_size", "optim", "optim_conf", "scheduler_conf",
    "model_conf", "encoder_conf", "decoder_conf", "joint_network_conf", "frontend_conf",
    "beam_size", "nbest",
)  # fmt: skip
# Whole numbers that ESPnet takes as 2000000.0, too, and words that it takes as a list.
AS_FLOATS = ("batch_bins", "valid_batch_bins", "accum_grad", "patience")
AS_LISTS = ("token_list", "chunk_length")
NONE = ("none", "null", "nil")  # what ESPnet reads as nothing
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
    known = {action.dest: action for action in actions}
    for name, value in options.items():
        # Some of them are declared in a way that is not read off ESPnet's source.
        action = known.get(name, argparse.Action([], name))
        problem = _problem(action, value) if name in known or name.endswith("_conf") else ""
        if problem:
            yield name, problem


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
        several = action.nargs is not None or isinstance(action.default, list)
        if not values or len(values) > 1 and not several:
            expected = _kind(action) + (" or several" if several else "")
            yield name, f"expected {expected}, found {shown(' '.join(values) or None)}"
            continue
        if name == "best_model_criterion":
            if _of_criteria(criteria_of(values), 3, True):
                given = shown(" ".join(values))
                yield name, f"expected such words as valid,loss_transducer,min, found {given}"
            continue
        problem = _problem(action, values if several else values[0])
        if problem:
            yield name, problem


def criteria_of(words: Sequence[str]) -> List[List[str]]:
    """Return `best_model_criterion` of a command line as a config file has it."""
    rows = []
    for word in words:
        inside = re.fullmatch(r"\s*(?:\((.*)\)|\[(.*)\]|(.*?))\s*", word)
        text = next((part for part in inside.groups() if part), "") if inside else word
        rows.append([part.strip().strip("'\"") for part in text.split(",")])
    return rows


def _kind(action: argparse.Action) -> str:
    name = getattr(action.type, "__name__", "").replace("_or_none", "")
    return KINDS.get(name, "one value")


def _problem(action: argparse.Action, value: Any) -> str:
    """Say what is wrong with a value; nothing: ''."""
    name = action.dest
    if name.endswith("_conf") or action.type is dict:
        empty = value is None and name not in NEEDED
        by_name = empty or isinstance(value, Mapping)
        return "" if by_name else f"expected options by name, found {shown(value)}"
    kind, typed = _kind(action), action.type is not None or action.choices is not None
    if name in CRITERIA and (value is not None or name in NEEDED):
        return _of_criteria(value, *CRITERIA[name])
    if value is None:
        return f"expected {kind}, found 'null'; leave it out" if name in NEEDED else ""
    if isinstance(value, Mapping):
        return f"expected {kind}, found {shown(value)}" if typed else ""
    if isinstance(value, (list, tuple)):
        several = action.nargs is not None or isinstance(action.default, list)
        if several:
            problems = (_of_one(action, part, kind) for part in value)
            missing = f"expected {kind} or several, found none" if name in NEEDED else ""
            return next(filter(None, problems), "" if value else missing)
        right = name in AS_LISTS or not typed
        return "" if right else f"expected {kind}, found {shown(value)}"
    return _of_one(action, value, kind)


def _of_one(action: argparse.Action, value: Any, kind: str) -> str:
    read, name = value, action.dest
    whole = name in AS_FLOATS and isinstance(value, float) and value.is_integer()
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
