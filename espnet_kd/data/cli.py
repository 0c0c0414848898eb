"""What the command lines of the data stages share."""

import argparse
import logging
import sys

from espnet_kd.cli import HelpFormatter


def new_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser in ESPnet's style and switch logging on (one line an event, stderr)."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s",
    )
    return argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)


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
