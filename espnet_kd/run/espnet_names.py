"""Names of ESPnet's options, read off its source: importing it takes ten seconds.

The lists may hold a name too many, never one too few, so that only what ESPnet would refuse
hours later is refused. Where the source is not found, or looks different, nothing is known.
"""

import functools
import importlib.util
import re
from pathlib import Path
from typing import FrozenSet, Iterable, Iterator, Optional

OURS = Path(__file__).parents[1] / "espnet" / "task.py"
FEWEST = 20  # names that a file with a parser has


@functools.lru_cache(maxsize=None)
def training_names() -> Optional[FrozenSet[str]]:
    """Return the options of the trainer, without dashes; None: unknown."""
    names = _names("tasks/abs_task.py", "tasks/asr_transducer.py", "utils/config_argparse.py")
    ours = set(re.findall(r'"--([a-z]\w+)"', OURS.read_text(encoding="utf-8")))
    return None if names is None else names | ours


@functools.lru_cache(maxsize=None)
def decoding_names() -> Optional[FrozenSet[str]]:
    """Return the options of decoding, without dashes; None: unknown."""
    return _names("bin/asr_transducer_inference.py", "utils/config_argparse.py")


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


def _names(*files: str) -> Optional[FrozenSet[str]]:
    try:
        spec = importlib.util.find_spec("espnet2")
    except ValueError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(spec.submodule_search_locations[0])
    names = set()
    for file in files:
        try:
            text = (root / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        names.update(re.findall(r'"--([a-z]\w*)"', text))
        # The choices of classes: --frontend and --frontend_conf.
        for name in re.findall(r'ClassChoices\(\s*(?:name=)?"(\w+)"', text):
            names.update((name, f"{name}_conf"))
        if 'f"--optim{suf}"' in text:  # of a model with one optimizer, no number follows
            names.update(("optim", "optim_conf", "scheduler", "scheduler_conf"))
    return frozenset(names) if len(names) >= FEWEST else None
