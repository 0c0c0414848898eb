"""Errors a user can cause, shown as one line and an exit code."""

import errno
import functools
import os
import sys
from typing import Callable, Iterable, Optional


class UserError(Exception):
    """A mistake in the user's input.

    The message is one line that names the file, the field, what was found and
    what to do. `run_main` prints it without a traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the known word closest to `word`, or `""`."""
    import difflib

    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def run_main(main: Callable[..., Optional[int]]) -> Callable[..., None]:
    """Decorate a command line's `main`: user mistakes end in one line, exit code 1.

    `UserError`, a full disk and a place without permission become one line on stderr.
    Ctrl-C exits with 130.
    Anything else is a defect of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> None:
        program = os.path.basename(sys.argv[0]).removesuffix(".py")
        try:
            sys.exit(main(*args, **kwargs) or 0)
        except UserError as e:
            # The words of another program in it may run over several lines.
            print(f"{program}: error: {' '.join(str(e).splitlines())}", file=sys.stderr)
            sys.exit(1)
        except OSError as e:
            if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                print(f"{program}: error: {e.filename}: {e.strerror}", file=sys.stderr)
                sys.exit(1)
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" while writing {e.filename}" if e.filename else ""
            print(
                f"{program}: error: the disk is full{where}; free some space and "
                "run the same command again: finished work is kept",
                file=sys.stderr,
            )
            sys.exit(1)
        except KeyboardInterrupt:
            print(f"{program}: interrupted; run the same command to go on", file=sys.stderr)
            sys.exit(130)

    return wrapper
