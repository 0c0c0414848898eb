"""ESPnet imported without typeguard's rewriting of its functions, and without what it seldom uses.

For each function that asks for checks of its arguments' types, typeguard parses and compiles the
whole module again. ESPnet asks for that hundreds of times, and so does inflect, which ESPnet
202511 imports through g2p_en: eleven of the nineteen CPU seconds that a process took to begin.
Our command lines check what users write themselves.

g2p_en, which ESPnet 202511 imports for English phonemes, looks for data of nltk's and tells of the
network that it has not reached. scipy.stats, of which ESPnet's speech synthesis takes a
distribution, and scipy.signal, which imports it, are a third of what is left. These three are
imported when somebody uses them.
"""

import functools
import importlib.machinery
import importlib.util
import sys
import types
from typing import Any, Callable, Iterator, List, Optional

SPARED = ("espnet2", "inflect")


def spare_espnet() -> None:
    """Have typeguard leave ESPnet's functions as they are, and three packages wait to be used."""
    _import_later("g2p_en")
    _import_later("scipy.stats", "betabinom")
    _import_later("scipy.signal")
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


def _import_later(name: str, *waiting: str) -> None:
    """Have a module run when something of it is asked for, not when it is imported.

    Args:
        name: The module.
        waiting: Objects of it that are imported by name long before they are used: the module is
            run when something of theirs is asked for.
    """
    spec = None if name in sys.modules else _spec(name)
    if spec is None:
        return
    stand_in = types.ModuleType(name)
    stand_in.__spec__ = spec  # by which others ask whether it is there

    def real() -> types.ModuleType:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return importlib.import_module(name)

    def of_the_module(attribute: str) -> Any:
        if attribute.startswith("__"):  # as `inspect` asks of all modules
            raise AttributeError(attribute)
        if attribute in waiting and sys.modules.get(name) is stand_in:
            return _Waiting(lambda: getattr(real(), attribute))
        return getattr(real(), attribute)

    if spec.submodule_search_locations is not None:
        stand_in.__path__ = _Places(spec.submodule_search_locations, real)
    stand_in.__getattr__ = of_the_module  # type: ignore[method-assign]
    sys.modules[name] = stand_in


def _spec(name: str) -> Optional[importlib.machinery.ModuleSpec]:
    """Find a module, but import nothing: `find_spec` alone imports the package that it is in."""
    package = name.rpartition(".")[0]
    if not package:
        return importlib.util.find_spec(name)
    around = _spec(package)
    places = around.submodule_search_locations if around else None
    return importlib.machinery.PathFinder.find_spec(name, places) if places else None


class _Places(List[str]):
    """Where modules of a package lie; it is run before one of them is looked for."""

    def __init__(self, places: List[str], real: Callable[[], Any]) -> None:
        super().__init__(places)
        self._real = real

    def __iter__(self) -> Iterator[str]:
        self._real()
        return super().__iter__()


class _Waiting:
    """Stands for an object of a module that is run when something of the object is asked for."""

    def __init__(self, real: Callable[[], Any]) -> None:
        self._real = real

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._real(), attribute)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._real()(*args, **options)
