"""ESPnet imported without typeguard's rewriting of its functions, and without g2p_en.

For each function that asks for checks of its arguments' types, typeguard parses and compiles the
whole module again. ESPnet asks for that hundreds of times, and so does inflect, which ESPnet
202511 imports through g2p_en: eleven of the nineteen CPU seconds that a process took to begin.
Our command lines check what users write themselves.

g2p_en, which ESPnet 202511 imports for English phonemes, looks for data of nltk's and tells of the
network that it has not reached. It is imported when somebody uses it.
"""

import functools
import importlib.util
import sys
import types
from typing import Any

SPARED = ("espnet2", "inflect")


def spare_espnet() -> None:
    """Have typeguard leave ESPnet's functions as they are, and g2p_en wait until it is used."""
    _import_later("g2p_en")
    try:
        import typeguard
    except ImportError:  # then this ESPnet does without it
        return
    checked = typeguard.typechecked
    if hasattr(checked, "spared"):
        return

    @functools.wraps(checked)
    def typechecked(target: Any = None, **options: Any) -> Any:
        if target is None:
            return functools.partial(typechecked, **options)
        if str(getattr(target, "__module__", "")).partition(".")[0] in SPARED:
            return target
        return checked(target, **options)

    typechecked.spared = SPARED  # type: ignore[attr-defined]
    typeguard.typechecked = typechecked


def _import_later(name: str) -> None:
    """Have a module run when something of it is asked for, not when it is imported."""
    if name in sys.modules or importlib.util.find_spec(name) is None:
        return
    stand_in = types.ModuleType(name)

    def of_the_module(attribute: str) -> Any:
        if attribute.startswith("__"):  # as `inspect` asks of all modules
            raise AttributeError(attribute)
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    stand_in.__getattr__ = of_the_module  # type: ignore[method-assign]
    sys.modules[name] = stand_in
