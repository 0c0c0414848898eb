"""The only reader of JSON: records that one tool writes and another reads.

A `Record` knows the name of its file, what it holds, and how it is made again. The shape is a
type: a `TypedDict` (further keys are kept), a dataclass (further keys are refused), `Any`, and
`List`, `Dict`, `Optional`, `int`, `float`, `str`, `bool`; `Annotated[int, 1]` is a number of at
least 1, `Union[int, Tuple[int, ...]]` a number or a list of them.
"""

import collections.abc
import dataclasses
import json
import math
import typing
from pathlib import Path
from typing import Any, Callable, Dict, Generic, List, Optional, TypeVar, cast

from espnet_kd.errors import UserError, shown
from espnet_kd.fileio import atomic_open

MAX_BYTES = 2**26
MOST = 1e300  # the largest number
NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


Content = TypeVar("Content")


@dataclasses.dataclass(frozen=True)
class Record(Generic[Content]):
    """A JSON file of a known shape.

    Attributes:
        file: Name of the file.
        shape: Type of its content.
        remake: Remedy that makes it again: the end of every message.
        check: Further check of the content, which may raise `UserError`; its message begins
            with the field.
    """

    file: str
    shape: Any
    remake: str
    check: Optional[Callable[[Content], None]] = None

    def read(self, folder: Path) -> Content:
        """Read the record in a folder.

        Raises:
            UserError: there is none, or it is damaged or has another shape.
        """
        return self.read_path(folder / self.file)

    def read_if_there(self, folder: Path) -> Optional[Content]:
        """Read the record in a folder; None if there is none.

        Raises:
            UserError: it is damaged or has another shape.
        """
        path = folder / self.file
        return self.read_path(path) if path.exists() else None

    def read_path(self, path: Path) -> Content:
        """Read the record in a file of whatever name.

        Raises:
            UserError: see `read`.
        """
        if not path.is_file():
            raise UserError(f"{path}: no such file; {self.remake}")
        try:
            data = read_json(path)
            check_shape(data, self.shape, "")
            content = cast(Content, data)  # as its shape has shown
            if self.check is not None:
                self.check(content)
        except UserError as e:
            raise UserError(f"{path}: {e}; {self.remake}") from None
        return content

    def write(self, folder: Path, data: Any) -> None:
        """Write the record; see `write_json`."""
        write_json(folder / self.file, data)


def write_json(path: Path, data: Any) -> None:
    """Write a file; numbers that JSON does not know (NaN, infinity) become null."""
    with atomic_open(path) as f:
        json.dump(_finite(data), f, indent=1, ensure_ascii=False, allow_nan=False)
        f.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that exists.

    Raises:
        UserError: too large, not UTF-8, no JSON, nested too deeply, duplicate keys, or numbers
            that are too large; the message does not name the file.
    """
    with open(path, "rb") as f:
        content = f.read(MAX_BYTES + 1)  # no more, however large the file is
    if len(content) > MAX_BYTES:
        raise UserError(f"larger than {MAX_BYTES:,} bytes")
    if not content.strip():
        raise UserError("the file is empty")
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_float=_number,
            parse_int=_whole_number,
            parse_constant=lambda _: None,  # NaN, Infinity: what `Record.write` writes for them
        )
    except UnicodeDecodeError as e:
        raise UserError(f"not UTF-8: byte 0x{content[e.start]:02x} at offset {e.start}") from None
    except json.JSONDecodeError as e:
        raise UserError(f"line {e.lineno}: not JSON ({e.msg})") from None
    except RecursionError:
        raise UserError("nested too deeply") from None


def check_shape(value: Any, shape: Any, where: str) -> None:
    """Compare a value with a type.

    Args:
        value: Content of a JSON file.
        shape: See the module's description.
        where: Name of the place, for messages.

    Raises:
        UserError: it has another shape; the message names the field.
    """
    origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    head = f"{where}: " if where else ""
    if shape is Any or (value is None and shape is type(None)):
        return
    if origin is typing.Annotated:
        check_shape(value, arguments[0], where)
        if value < arguments[1]:
            raise UserError(f"{head}expected at least {arguments[1]}, found {shown(value)}")
    elif origin is typing.Union:  # Optional, or also a list
        if value is not None:
            lists = [a for a in arguments if typing.get_origin(a) in (list, tuple)]
            fits = lists[0] if lists and isinstance(value, list) else arguments[0]
            check_shape(value, fits, where)
    elif origin in (list, tuple):
        _expect(isinstance(value, list), "a list", value, head)
        for i, item in enumerate(value):
            check_shape(item, arguments[0], f"{where}[{i}]")
    elif origin in (dict, collections.abc.Mapping):
        _expect(isinstance(value, dict), "fields by name", value, head)
        for key, item in value.items():
            check_shape(item, arguments[1], _field(where, key))
    elif shape in NAMES:
        # A boolean is an int for Python, and every whole number will do as a number.
        kinds = (int, float) if shape is float else shape
        fits = isinstance(value, kinds) and (shape is bool or not isinstance(value, bool))
        _expect(fits, NAMES[shape], value, head)
    else:
        _check_fields(value, shape, where)


def _check_fields(value: Any, shape: Any, where: str) -> None:
    """Check a `TypedDict` or a dataclass."""
    head = f"{where}: " if where else ""
    _expect(isinstance(value, dict), "fields by name", value, head)
    types = typing.get_type_hints(shape, include_extras=True)
    required = getattr(shape, "__required_keys__", None)
    if required is None:
        fields = dataclasses.fields(shape)
        required = [
            f.name
            for f in fields
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        for key in value:
            if key not in types:
                raise UserError(f"{head}unknown field {shown(key)}")
    for key in types:  # in their order, so that the message is always the same
        if key in value:
            check_shape(value[key], types[key], _field(where, key))
        elif key in required:
            raise UserError(f"{head}no field '{key}'")


def _expect(fits: bool, what: str, value: Any, head: str) -> None:
    if not fits:
        text = "null or NaN" if value is None else shown(value)  # see `read_json`
        raise UserError(f"{head}expected {what}, found {text}")


def _field(where: str, key: str) -> str:
    key = shown(key)[1:-1]
    return f"{where}.{key}" if where else key


def _without_duplicates(pairs: List[Any]) -> Dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [key for key, _ in pairs]
        duplicate = next(key for key in names if names.count(key) > 1)
        raise UserError(f"duplicate field {shown(duplicate)}")
    return fields


def _number(text: str) -> float:
    value = float(text)
    if abs(value) > MOST:
        raise UserError(f"{shown(text)} is not a usable number")
    return value


def _whole_number(text: str) -> int:
    if len(text) > len(str(2**63)):
        raise UserError(f"{shown(text)} is not a usable number")
    return int(text)


def rounded(data: Any) -> Any:
    """Round every float to 4 decimals, a small one to 4 digits."""
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [rounded(value) for value in data]
    if not isinstance(data, float):
        return data
    return round(data, 4) if abs(data) >= 0.1 else float(f"{data:.4g}")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
