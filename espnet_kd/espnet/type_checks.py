"""ESPnet imported without typeguard's rewriting of its functions.

For each function that asks for checks of its arguments' types, typeguard parses and compiles the
whole module again. ESPnet asks for that hundreds of times, and so does inflect, which ESPnet
202511 imports through g2p_en: eleven of the nineteen CPU seconds that a process took to begin.
Our command lines check what users write themselves.
"""

import functools
from typing import Any

SPARED = ("espnet2", "inflect")


def spare_espnet() -> None:
    """Have typeguard leave ESPnet's functions as they are; all others are checked as before."""
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
