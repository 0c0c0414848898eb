"""The size that a plan asks of a student: a stage's `target`."""

import dataclasses
import math
import re
from typing import Any, Optional, Union

from espnet_kd.errors import UserError, nearest, shown
from espnet_kd.spec.values import part_of

BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
LEAST_SHARE = 1e-4
MOST_PARAMETERS = 10**12
FLOAT = 4  # bytes of a number of a checkpoint, which holds float32


@dataclasses.dataclass(frozen=True)
class Target:
    """At most so many parameters, or bytes of a checkpoint.

    Attributes:
        written: Target as the plan writes it, for messages.
        fraction: Share of the first teacher's parameters; None if `number` is given.
        number: Parameters; None if `fraction` is given. Of a size in bytes: as many as they could
            be if nothing else were in the file.
        bytes: Bytes of the file; None: the target is no size of one.
    """

    written: str
    fraction: Optional[float] = None
    number: Optional[int] = None
    bytes: Optional[int] = None

    def __str__(self) -> str:
        return self.written

    def params(self, first_params: int) -> int:
        """Return the number of parameters, given that of the run's first teacher."""
        if self.number is not None:
            return self.number
        assert self.fraction is not None  # one of the two is given
        return math.floor(part_of(self.fraction, first_params))

    def below(self, other: "Target") -> Optional[bool]:
        """Tell whether this is the smaller one; None if that depends on the teacher."""
        if self.number is not None and other.number is not None:
            return self.number < other.number
        if self.fraction is not None and other.fraction is not None:
            return self.fraction < other.fraction
        return None


def parse_target(value: Union[float, int, str, Target, Any], where: str) -> Target:
    """Read a target of a plan.

    Args:
        value: A fraction between 0 and 1 of the first teacher's parameters; a whole number
            above 1: parameters; or the size of a float32 checkpoint, `1.8 MB` (10^6 bytes), with
            all that the file holds.
        where: Name of the place, for messages.

    Raises:
        UserError: it is none of these.

    >>> parse_target("1.8 MB", "plan").params(10**7)
    450000
    """
    if isinstance(value, Target):
        return value
    hint = ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if LEAST_SHARE <= value < 1:
            return Target(f"{value:g}", fraction=float(value))
        if 1 < value <= MOST_PARAMETERS and value == int(value):
            return Target(f"{int(value):,} parameters", number=int(value))
        if 0 < value < LEAST_SHARE:
            hint = f"; the least share is {LEAST_SHARE:g}"
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([A-Za-z]{1,9})\s*", value)
        if match and match[2] in BYTES:
            # Rounded first: 1.1 * 10^6 is not a whole number in binary.
            size = round(float(match[1]) * BYTES[match[2]])
            number = size // FLOAT
            if 1 <= number <= MOST_PARAMETERS:
                return Target(f"{match[1]} {match[2]}", number=number, bytes=size)
        elif match:
            hint = nearest(match[2], BYTES)
    raise UserError(
        f"{where}: expected a fraction between 0 and 1 of the first teacher's parameters, a whole "
        f"number of parameters, or a size like '1.8 MB', found {shown(value)}{hint}"
    )


def read_target(where: str, value: Any) -> Optional[Target]:
    """Read a stage's `target`; None: it has none."""
    return None if value is None else parse_target(value, where)
