"""Checks of single values: numbers, words, lists of pairs."""

import contextlib
import math
import re
import sys
from fractions import Fraction
from typing import Any, Iterable, List, Mapping, Optional, Tuple

from espnet_kd.errors import UserError, check_choice, shown

_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
MOST = 10**6  # of whatever a plan counts or weighs


def number(where: str, value: Any, least: float = -MOST, most: float = MOST) -> float:
    """Return a number.

    Args:
        where: Name of the field.
        value: Value of the field.
        least: Smallest right value.
        most: Largest right value.

    Raises:
        UserError: `value` is no number, or out of bounds.
    """
    if not _is_number(value):
        raise UserError(f"{where}: expected a number, found {shown(value)}{_written(value)}")
    if not least <= value <= most:
        raise UserError(f"{where}: expected a number from {least:g} to {most:g}, found {value}")
    return float(value)


def part_of(share: float, count: int) -> Fraction:
    """Return a share of a count, as the share is written in decimals.

    In binary 0.07 of 100 is a hair above 7, and 0.29 of 100 below 29: rounded up or down they
    would be others.

    >>> math.ceil(part_of(0.07, 100)), math.floor(part_of(0.29, 100))
    (7, 29)
    """
    return Fraction(repr(float(share))) * count


def whole_number(where: str, value: Any, least: Optional[float] = None, most: float = MOST) -> int:
    """Return a whole number.

    Args:
        where: Name of the field.
        value: Value of the field.
        least: Smallest right value; None: `most` below zero.
        most: Largest right value.

    Raises:
        UserError: `value` is no whole number, or out of bounds.
    """
    if not _is_whole(value) or (least is not None and value < least):
        bound = "" if least is None else f" >= {least}"
        raise UserError(
            f"{where}: expected a whole number{bound}, found {shown(value)}{_written(value)}"
        )
    if abs(value) > most:
        raise UserError(f"{where}: expected at most {most:,}, found {value:,}")
    return value


def text(where: str, value: Any) -> str:
    """Return text.

    Raises:
        UserError: `value` is something else.
    """
    if not isinstance(value, str):
        raise UserError(f"{where}: expected text, found {shown(value)}; write it in quotes")
    return value


def words(where: str, value: Any, choices: Iterable[str]) -> List[str]:
    """Return words of a list, each of which is one of some choices and stands there once.

    Raises:
        UserError: no list, another word, or one twice.
    """
    choices = list(choices)
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: expected a list of {', '.join(choices)}, found {shown(value)}")
    for word in value:
        check_choice(where, word, choices)
    if len(set(value)) < len(value):
        raise UserError(f"{where}: a name stands twice in {shown(value)}")
    return list(value)


def truth(where: str, value: Any) -> bool:
    """Return true or false.

    Raises:
        UserError: `value` is neither.
    """
    if not isinstance(value, bool):
        raise UserError(f"{where}: expected true or false, found {shown(value)}")
    return value


def _written(value: Any) -> str:
    """Tell how a number must be written that YAML has read as text."""
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(value, str) and math.isfinite(float(value)):
            number = float(value)
            text = str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
            # With a point, or YAML reads 1e-09 as text again.
            text = text if "." in text else text.replace("e", ".0e")
            return f" (text for YAML; write {text:.40})"
    return ""


def check_exponents(where: str, value: Any) -> None:
    """Refuse numbers such as 1e-3, which YAML reads as text, wherever they stand in a value.

    Args:
        where: Name of the field.
        value: Value of the field: options by name, a list, or what stands in them.

    Raises:
        UserError: there is one; training would fail for it hours later.
    """
    if isinstance(value, Mapping):
        for key, below in value.items():
            check_exponents(f"{where}.{key}", below)
    elif isinstance(value, (list, tuple)):
        for i, below in enumerate(value):
            check_exponents(f"{where}[{i}]", below)
    elif isinstance(value, str) and _EXPONENT.fullmatch(value):
        number(where, value)


def schedule(where: str, value: Any) -> Optional[List[List[float]]]:
    """Return points (update, factor), or None: updates rise, factors are not negative.

    Raises:
        UserError: `value` is something else.
    """
    if value is None:
        return None
    if not _are_pairs(value, lambda x: _is_number(x) and abs(x) <= 1000 * MOST):
        raise UserError(f"{where}: expected points [[update, factor], ...], found {shown(value)}")
    updates, factors = zip(*value)
    if sorted(set(updates)) != list(updates) or min(factors) < 0:
        raise UserError(
            f"{where}: updates must rise and factors not be negative, found {shown(value)}"
        )
    return [[float(x), float(y)] for x, y in value]


def rising_shares(where: str, value: Any) -> Optional[List[float]]:
    """Return rising shares between 0 and 1, both excluded, or None.

    Raises:
        UserError: `value` is something else.
    """
    if value is None:
        return None
    fits = isinstance(value, (list, tuple)) and all(_is_number(x) and 0 < x < 1 for x in value)
    if not fits or not value or sorted(set(value)) != list(value):
        raise UserError(
            f"{where}: expected rising shares between 0 and 1, such as [0.2, 0.4, 0.7], found "
            f"{shown(value)}"
        )
    return [float(x) for x in value]


def block_pairs(where: str, value: Any) -> Optional[List[List[int]]]:
    """Return pairs (a student's block, its teacher's), counted from 0, or None.

    Raises:
        UserError: `value` is something else.
    """
    if value is None:
        return None
    if not _are_pairs(value, lambda x: _is_whole(x) and 0 <= x <= MOST):
        raise UserError(
            f"{where}: expected pairs [[student's block, teacher's block], ...] counted from 0, "
            f"found {shown(value)}"
        )
    return [list(pair) for pair in value]


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and abs(value) <= sys.float_info.max


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_pairs(value: Any, fits: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value)
        and all(fits(x) for pair in value for x in pair)
    )


def two_weights(where: str, value: Any) -> Optional[Tuple[float, ...]]:
    """Return two numbers above 0, or none.

    Raises:
        UserError: `value` is something else.
    """
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise UserError(f"{where}: expected two numbers, found {shown(value)}")
    return tuple(number(where, x, 1e-6, MOST) for x in value)


def three_weights(where: str, value: Any) -> Tuple[float, ...]:
    """Return three numbers that are not negative.

    Raises:
        UserError: `value` is something else.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise UserError(f"{where}: expected three numbers, found {shown(value)}")
    return tuple(number(where, x, 0, MOST) for x in value)
