"""ESPnet's options, read off its source: importing it takes ten seconds.

The lists may hold a name too many, never one too few, so that only what ESPnet would refuse
hours later is refused. Where the source is not found, or looks different, nothing is known.
"""

import argparse
import ast
import contextlib
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any, Callable, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Tuple

from espnet_kd.spec.option_values import NONE
from espnet_kd.spec.training_config import TO_ZERO

TRAINING = ("tasks/abs_task.py", "tasks/asr_transducer.py", "utils/config_argparse.py")
DECODING = ("bin/asr_transducer_inference.py", "utils/config_argparse.py")
OURS = Path(__file__).parents[1] / "espnet" / "task.py"
_LINES = re.DOTALL | re.MULTILINE
FEWEST = 20  # names that a file with a parser has


@functools.lru_cache(maxsize=None)
def training_names() -> Optional[FrozenSet[str]]:
    """Return the options of the trainer, without dashes; None: unknown."""
    names = _names(*TRAINING)
    ours = set(re.findall(r'"--([a-z]\w+)"', OURS.read_text(encoding="utf-8")))
    return None if names is None else names | ours


@functools.lru_cache(maxsize=None)
def decoding_names() -> Optional[FrozenSet[str]]:
    """Return the options of decoding, without dashes; None: unknown."""
    return _names(*DECODING)


@functools.lru_cache(maxsize=None)
def declared(files: Tuple[str, ...]) -> List[argparse.Action]:
    """Return the options that ESPnet's files declare, with their types and choices.

    Args:
        files: `TRAINING` or `DECODING`.
    """
    trees = []
    texts = [_source(file) for file in files]
    texts += [OURS.read_text(encoding="utf-8")] if files == TRAINING else []
    for text in texts:
        with contextlib.suppress(SyntaxError):
            trees.append(ast.parse(text))
    calls = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [action for call in calls if (action := _action(call)) is not None]


def _action(call: ast.Call) -> Optional[argparse.Action]:
    """Return what `add_argument("--name", ...)` declares; None: another call."""
    name = call.args[0] if call.args else None
    if getattr(call.func, "attr", "") != "add_argument" or not isinstance(name, ast.Constant):
        return None
    words = {word.arg: word.value for word in call.keywords}
    read = _type(ast.unparse(words["type"]) if "type" in words else "")
    written = {}
    for key in ("choices", "nargs", "action"):
        with contextlib.suppress(ValueError, KeyError):  # what is computed is not known
            written[key] = ast.literal_eval(words[key])
    return argparse.Action(
        [str(name.value)],
        str(name.value).lstrip("-"),
        nargs="+" if written.get("action") == "append" else written.get("nargs"),
        type=read,
        # A type that is not known may make one of them of other words: log_level.
        choices=written.get("choices") if read or "type" not in words else None,
    )


def _type(name: str) -> Optional[Callable[[str], Any]]:
    """Return a type by its name in ESPnet's source; None: not known."""
    builtin = {"int": int, "float": float, "str": str, "dict": dict}
    if name in builtin:
        return builtin[name]
    module, _, function = name.rpartition(".")
    if not function.isidentifier() or module not in ("", "humanfriendly"):
        return None
    try:
        return getattr(importlib.import_module(module or "espnet2.utils.types"), function, None)
    except ImportError:
        return None


def unknown_words(options: Mapping[str, Any]) -> Iterator[Tuple[str, Any, List[str]]]:
    """Yield optimizers and schedulers of a training that ESPnet has not.

    Args:
        options: Options of a training.

    Yields:
        The option, its value, and what it may be.
    """
    text = _source("tasks/abs_task.py")
    for key in ("optim", "scheduler"):
        value = options.get(key)
        classes = re.search(rf"^{key}_classes = dict\(.*?^\)", text, _LINES)
        if not isinstance(value, str) or classes is None or value == TO_ZERO:
            continue
        if value.strip().lower() in NONE:
            continue
        # Anywhere in the file: a word too many may pass, none of ESPnet's is refused.
        if not re.search(rf"\b{re.escape(value)}\b", text, re.I):
            known = [TO_ZERO] * (key == "scheduler")
            yield key, value, [*re.findall(r"^\s+(\w+)=", classes[0], re.M), *known]


def unknown_names(
    names: Iterable[str], known: Optional[FrozenSet[str]], abbreviated: bool = False
) -> Iterator[str]:
    """Yield the names that are not known.

    Args:
        names: Names without dashes.
        known: All right ones; None: nothing is known.
        abbreviated: Whether the beginning of a name stands for it, as on a command line.
    """
    if known is None:
        return
    for name in dict.fromkeys(names):
        whole = name in known
        if not whole and not (abbreviated and any(k.startswith(name) for k in known)):
            yield name


def _source(file: str) -> str:
    """Return the text of a file of ESPnet's; empty: it is not found."""
    try:
        spec = importlib.util.find_spec("espnet2")
    except ValueError:
        spec = None
    folders = getattr(spec, "submodule_search_locations", None)
    if not folders:
        return ""
    try:
        return Path(folders[0], file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _names(*files: str) -> Optional[FrozenSet[str]]:
    names = set()
    for file in files:
        text = _source(file)
        if not text:
            return None
        names.update(re.findall(r'"--([a-z]\w*)"', text))
        # The choices of classes: --frontend and --frontend_conf.
        for name in re.findall(r'ClassChoices\(\s*(?:name=)?"(\w+)"', text):
            names.update((name, f"{name}_conf"))
        if 'f"--optim{suf}"' in text:  # of a model with one optimizer, no number follows
            names.update(("optim", "optim_conf", "scheduler", "scheduler_conf"))
    return frozenset(names) if len(names) >= FEWEST else None


def whole_names(
    words: Iterable[Tuple[str, List[str]]], known: Optional[FrozenSet[str]]
) -> List[Tuple[str, List[str]]]:
    """Write abbreviated names of a command line out, as argparse does."""
    written_out = []
    for name, values in words:
        like = [whole for whole in known or () if whole.startswith(name)]
        whole = like[0] if len(like) == 1 and name not in (known or ()) else name
        written_out.append((whole, values))
    return written_out
