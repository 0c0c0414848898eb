"""Text cleaners by name: ESPnet's (`tacotron`, `jaconv`, ...), or a function of the user's."""

import importlib
import os
import sys
from typing import Callable

from espnet_kd.data.transcripts import CLEANERS
from espnet_kd.errors import UserError, check_choice


def text_cleaner(name: str) -> Callable[[str], str]:
    """Return what cleans a transcript.

    Args:
        name: One of `CLEANERS`; or `module:function`, looked for in the current folder, too.

    Raises:
        UserError: There is no such cleaner, or a package that it needs is missing.
    """
    if ":" in name:
        return _function(name)
    check_choice("--cleaner", name, ("none", *CLEANERS, "module:function"))
    from espnet2.text.cleaner import TextCleaner  # here: few corpora need it

    cleaner = TextCleaner(name)
    try:
        cleaner("text")
    except RuntimeError as e:
        raise UserError(f"--cleaner {name}: a package that it needs is missing ({e})") from None
    return cleaner


def _function(name: str) -> Callable[[str], str]:
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as e:  # whatever the user's module does
        reason = str(e) if isinstance(e, (ImportError, AttributeError)) else repr(e)
        raise UserError(f"--cleaner {name}: {reason}") from None

    def clean(text: str) -> str:
        try:
            cleaned = function(text)
        except Exception as e:
            reason = f"{type(e).__name__}: {e}"
            raise UserError(f"--cleaner {name}: fails on '{text}': {reason}") from None
        if not isinstance(cleaned, str):
            kind = type(cleaned).__name__
            raise UserError(f"--cleaner {name}: makes {kind} of '{text}', no text")
        return cleaned

    return clean
