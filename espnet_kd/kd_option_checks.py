"""Checks of single values of `kd_conf`."""

import math
from typing import Any, List, Optional

from espnet_kd.errors import UserError


def number(where: str, value: Any) -> float:
    """Return a number.

    Raises:
        UserError: `value` is none.
    """
    if not _is_number(value):
        raise UserError(f"{where}: expected a number, found '{value}'")
    return float(value)


def whole_number(where: str, value: Any, least: Optional[int]) -> int:
    """Return a whole number that is not below `least`, if there is a least one.

    Raises:
        UserError: `value` is none.
    """
    if not _is_whole(value) or (least is not None and value < least):
        bound = "" if least is None else f" >= {least}"
        raise UserError(f"{where}: expected a whole number{bound}, found '{value}'")
    return value


def schedule(where: str, value: Any) -> List[List[float]]:
    """Return points (update, factor): updates rise, factors are not negative.

    Raises:
        UserError: `value` is something else.
    """
    if not _are_pairs(value, _is_number):
        raise UserError(f"{where}: expected points [[update, factor], ...], found '{value}'")
    updates, factors = zip(*value)
    if sorted(set(updates)) != list(updates) or min(factors) < 0:
        raise UserError(f"{where}: updates must rise and factors not be negative, found '{value}'")
    return [[float(x), float(y)] for x, y in value]


def block_pairs(where: str, value: Any) -> List[List[int]]:
    """Return pairs (a student's block, its teacher's), counted from 0.

    Raises:
        UserError: `value` is something else.
    """
    if not _are_pairs(value, lambda x: _is_whole(x) and x >= 0):
        raise UserError(
            f"{where}: expected pairs [[student's block, teacher's block], ...] counted from 0, "
            f"found '{value}'"
        )
    return [list(pair) for pair in value]


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_pairs(value: Any, fits: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value)
        and all(fits(x) for pair in value for x in pair)
    )
