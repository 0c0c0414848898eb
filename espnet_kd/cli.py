"""Options of command lines: one parser for all, and the types of their values."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any, Dict, NoReturn, Optional, Sequence, Union

from espnet_kd.errors import UserError, program
from espnet_kd.progress import clear


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Show the description as it is written, and after each option its default, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        empty = action.default in (None, "", argparse.SUPPRESS)
        if empty or action.required or action.nargs == 0 or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)".strip()


def values_of(words: Sequence[str], *options: str) -> Dict[str, str]:
    """Pick the values of some options out of the words of another program's command line.

    Args:
        words: The command line.
        options: Names of the options; those that are not there are left out.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in options:
        parser.add_argument(option)
    values = vars(parser.parse_known_args(list(words))[0])
    return {name: value for name, value in values.items() if value is not None}


def check_configs(cmd: Optional[Sequence[str]], *options: str) -> None:
    """Read the YAML files that a command line of ESPnet's names, before ESPnet does.

    Args:
        cmd: The arguments; None: those of the process.
        options: Names of the options.

    Raises:
        UserError: see `read_yaml`.
    """
    from espnet_kd.common.yaml_file import read_yaml  # here: most command lines read no YAML

    words = sys.argv[1:] if cmd is None else cmd
    for option, path in values_of(words, *options).items():
        read_yaml(path, f"--{option} names it")


def _on_its_own_line(record: logging.LogRecord) -> bool:
    clear()
    return True


class Parser(argparse.ArgumentParser):
    """A parser that tells a mistake in one line, and switches logging on when it is used."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Read a command line; from here on events are logged, a line each, on stderr."""
        handler = logging.StreamHandler(sys.stderr)
        handler.addFilter(_on_its_own_line)
        logging.basicConfig(
            level=logging.INFO,
            handlers=[handler],
            format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
        )
        return super().parse_args(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Tell a mistake and end with exit code 2."""
        line = " ".join(message.splitlines())
        self.exit(2, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def new_parser(description: Optional[str], epilog: Optional[str] = None) -> Parser:
    """Return the parser of a command line, in ESPnet's style.

    Args:
        description: Docstring of the module.
        epilog: Text after the options.
    """
    return Parser(
        program(),
        description=description,
        epilog=epilog,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )


def check_out(
    option: str, path: Union[str, os.PathLike], what: str, example: str, suffix: str = ""
) -> None:
    """Refuse a place that no file can be written to, before anything is computed for it.

    Args:
        option: Name of the option that gives it, such as `--out`.
        path: The place.
        what: What the file is, such as `a Markdown file`.
        example: Name of such a file.
        suffix: What its name must end with; empty: anything.

    Raises:
        UserError: it has no name of a file, or another one, is a folder, or lies in a file.
    """
    path = Path(path)
    if not path.name or path.is_dir() or (suffix and path.suffix != suffix):
        raise UserError(f"{option} {path}: {what} is expected, such as {example}")
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{option} {path}: {folder} is a file; a folder is expected")


def str2bool(value: str) -> bool:
    """Read `true` or `false` as ESPnet's options do.

    Raises:
        argparse.ArgumentTypeError: `value` is neither.
    """
    if value.lower() in ("true", "yes", "1"):
        return True
    if value.lower() in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{value!r} is neither true nor false")


def sampling_rate(value: str) -> int:
    """Read a sampling rate in hertz, written `16000` or `16k`.

    Raises:
        argparse.ArgumentTypeError: `value` is not a rate of at least 1 kHz.
    """
    number, factor = (value[:-1], 1000) if value[-1:] in "kK" else (value, 1)
    try:
        rate = round(float(number) * factor)
    except (ValueError, OverflowError):
        rate = 0
    if rate < 1000:
        raise argparse.ArgumentTypeError(f"{value!r} is not a sampling rate, such as 16k or 16000")
    return rate


def share(value: str) -> float:
    """Read a share between 0 and 1.

    Raises:
        argparse.ArgumentTypeError: `value` is outside.
    """
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a share between 0 and 1")
    return number


def whole(value: str) -> int:
    """Read a whole number of at least 0, and of at most 9 digits.

    Raises:
        argparse.ArgumentTypeError: `value` is not one.
    """
    if not value.isdecimal() or len(value) > 9:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of at least 0")
    return int(value)


def positive_int(value: str) -> int:
    """Read a whole number of at least 1, and of at most 9 digits.

    Raises:
        argparse.ArgumentTypeError: `value` is not one.
    """
    if not value.isdecimal() or len(value) > 9 or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of at least 1")
    return int(value)


def seconds(value: str) -> float:
    """Read a duration in seconds.

    Raises:
        argparse.ArgumentTypeError: `value` is not a finite number of at least 0.
    """
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds, 0 or more")
    return number


def watts(value: str) -> float:
    """Read a power in watts.

    Raises:
        argparse.ArgumentTypeError: `value` is not a number above 0, and up to 100,000.
    """
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number <= 1e5:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of watts, above 0")
    return number
