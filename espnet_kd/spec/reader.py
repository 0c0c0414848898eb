"""The one reader of what a user writes: names, types, ranges, choices, each checked once."""

from typing import Any, Mapping, Sequence, Type, TypeVar

from espnet_kd.errors import UserError, check_choice, check_name, shown
from espnet_kd.spec.option import Option, Options, kinds, known_options
from espnet_kd.spec.values import MOST, number, text, truth, whole_number

T = TypeVar("T", bound=Options)


def read(cls: Type[T], data: Any, where: str, what: str = "options by name") -> T:
    """Read what a user has written into a class of options.

    Args:
        cls: The class.
        data: Content of the YAML.
        where: Name of the place, for messages.
        what: Name of what is expected there, for the message if it is something else.

    Raises:
        UserError: no mapping, an unknown key (naming the nearest right one), a value of the
            wrong type, out of range, or none of the choices.
    """
    options = known_options(cls)
    check_keys(data, where, list(options), what)
    values = {}
    for key, value in data.items():
        field, facts = options[key]
        values[field.name] = _value(
            f"{where}.{key}", value, facts, kinds(cls)[field.name], field.default
        )
    return cls(written=dict(data), **values)


def check_keys(data: Any, where: str, known: Sequence[str], what: str) -> None:
    """Refuse what is no mapping, or has a key that is not known.

    Raises:
        UserError: see `read`.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected {what}, found {shown(data)}")
    for key in data:
        check_name(f"{where}: unknown key", key, known)


def _value(where: str, value: Any, facts: Option, kind: Any, default: Any) -> Any:
    """Return a value in its type."""
    if facts.read is not None:
        return facts.read(where, value)
    if facts.choices:
        if kind is int:  # 32.0 and false are among 32 and 0 for Python
            whole_number(where, value)
        check_choice(where, value, facts.choices)
        return value
    if value is None and default is None:
        return None
    if kind is float:
        least = -MOST if facts.least is None else facts.least
        return number(where, value, least, MOST if facts.most is None else facts.most)
    if kind is int:
        return whole_number(where, value, facts.least, MOST if facts.most is None else facts.most)
    return (truth if kind is bool else text)(where, value)
