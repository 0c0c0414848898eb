"""Errors a user can cause, shown as one line and an exit code."""

import errno
import functools
import json
import os
import sys
from typing import Callable, Iterable, NoReturn, Optional, Sequence

# A path of the user's: not there, of another kind, not permitted, impossible.
_OF_A_PATH = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.ENODEV,
}  # fmt: skip


class UserError(Exception):
    """A mistake in the user's input.

    The message is one line that names the file, the field, what was found and
    what to do. `run_main` prints it without a traceback.
    """


def shown(value: object) -> str:
    """Return a value in quotes for a message: one line of at most some 60 characters."""
    plain = value is None or isinstance(value, bool)  # as YAML and JSON write them
    text = json.dumps(value) if plain else " ".join(str(value).split())
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}...'"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the known word closest to `word`, or `""`."""
    import difflib

    match = difflib.get_close_matches(word[:60], list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def check_name(what: str, name: object, known: Iterable[str]) -> None:
    """Refuse a name that is not known, and say which one may have been meant.

    Args:
        what: Beginning of the message, such as `plan.yaml: unknown key`.
        name: The name.
        known: All right ones, in the order in which the message lists them.

    Raises:
        UserError: `name` is not among them.
    """
    known = list(known)
    if name not in known:
        hint = nearest(str(name), known)
        raise UserError(f"{what} {shown(name)}{hint}; known: {', '.join(known)}")


def check_choice(where: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is not one of several words, and say which may have been meant.

    Args:
        where: Name of the field, the beginning of the message.
        value: The value.
        choices: The words, in the order in which the message lists them.

    Raises:
        UserError: `value` is not among them.
    """
    choices = list(choices)
    if value not in choices:
        words = [str(choice) for choice in choices]
        hint = nearest(str(value), words)
        raise UserError(f"{where}: {shown(value)} is not one of {', '.join(words)}{hint}")


def _check_words(words: Sequence[str]) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"{word!r}: not UTF-8; rename it or write another value") from None


def program() -> str:
    """Return the name of the running command line."""
    return os.path.basename(sys.argv[0]).removesuffix(".py")


def run_main(main: Callable[..., Optional[int]]) -> Callable[..., None]:
    """Decorate a command line's `main`: user mistakes end in one line, exit code 1.

    `UserError`, a full disk, a path that cannot be used and a package that is not installed
    become one line on stderr.
    Ctrl-C exits with 130, and output that nobody reads any more (`| head`) with 141, silently.
    Anything else is a defect of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> None:
        try:
            _check_words(sys.argv[1:])
            try:
                sys.exit(main(*args, **kwargs) or 0)
            except SystemExit:
                sys.stdout.flush()  # what is wrong with stdout shows now, not at Python's end
                raise
        except UserError as e:
            # The words of another program in it may run over several lines.
            _tell(f"{program()}: error: {' '.join(str(e).splitlines())}")
            _leave(1)
        except OSError as e:
            if e.errno == errno.EPIPE and _unread_output():
                _leave(141)
            if e.filename is not None and e.errno in _OF_A_PATH:
                path = " ".join(str(e.filename).splitlines())
                path = path if len(path) <= 200 else f"{path[:200]}..."
                _tell(f"{program()}: error: {path}: {e.strerror}")
                _leave(1)
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" while writing {e.filename}" if e.filename else ""
            _tell(
                f"{program()}: error: the disk is full{where}; free some space and "
                "run the same command again: finished work is kept"
            )
            _leave(1)
        except ModuleNotFoundError as e:
            package = (e.name or "").split(".")[0]
            if package in ("", "espnet_kd"):
                raise
            _tell(
                f"{program()}: error: the package '{package}' is not installed in "
                f"{sys.executable}; 'python -m espnet_kd.bin.check_install' says what is missing "
                "and what to do"
            )
            _leave(1)
        except KeyboardInterrupt:
            _tell(f"{program()}: interrupted; run the same command to go on")
            _leave(130)

    return wrapper


def _tell(line: str) -> None:
    from espnet_kd.progress import clear  # which the core does without

    clear()
    print(line, file=sys.stderr)


def _leave(code: int) -> NoReturn:
    """Exit; Python flushes stdout then, and would complain a second time."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _unread_output() -> bool:
    """Tell whether stdout or stderr is a pipe that nobody reads."""
    import select

    poll = select.poll()
    for output in (1, 2):
        poll.register(output, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
