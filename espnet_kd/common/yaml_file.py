"""The only reader of YAML: plans, training and decoding configs, `config.yaml` of experiments.

What it accepts, ESPnet's `yaml.safe_load` reads as the same data. It refuses more: duplicate
keys (a stage that lost its `-` would swallow the one before), keys that are no text, dates,
tags, NaN, numbers that no computer word holds, and files made to exhaust the reader.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple, Union

import yaml

from espnet_kd.errors import UserError, shown

MAX_BYTES = 2**21  # a config with 50,000 tokens has half a MB
MAX_DEPTH = 40
MAX_NODES = 100_000  # aliases expanded; read in seven seconds
MAX_DIGITS = 40  # of a number
MOST = 1e300  # the largest number
TAG = "tag:yaml.org,2002:"
PLAIN = {TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}


class Document(NamedTuple):
    """Content of a YAML text.

    Attributes:
        data: The content: dicts, lists, text, numbers, booleans, None.
        lines: Line of each field, by a name such as `stages[0].target`.
    """

    data: Any
    lines: Dict[str, int]

    def place(self, path: str, field: str) -> str:
        """Return the file's name with the line of a field, if that is known."""
        return f"{path}:{self.lines[field]}" if field in self.lines else path


def read_yaml(path: Union[str, os.PathLike], purpose: str) -> Dict[str, Any]:
    """Read a YAML file of options by name.

    Args:
        path: The file.
        purpose: Use of the file, or its maker: the end of the message if it is
            not there or empty.

    Raises:
        UserError: see `read_document`.
    """
    return read_document(path, purpose).data


def read_document(path: Union[str, os.PathLike], purpose: str) -> Document:
    """Read a YAML file of options by name, and where they stand.

    Args:
        path: The file.
        purpose: See `read_yaml`.

    Raises:
        UserError: no such file, too large, not UTF-8, no options by name; see `parse_yaml`.
    """
    path = Path(path)
    if not path.is_file():
        what = "a directory, not a file" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; {purpose}")
    with open(path, "rb") as f:
        content = f.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES:,} bytes, which no config is; {purpose}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        raise UserError(
            f"{path}:{line}: not UTF-8: byte 0x{content[e.start]:02x} at offset {e.start}; save "
            "the file as UTF-8"
        ) from None
    document = parse_yaml(text, str(path))
    if document.data is None:
        raise UserError(f"{path}: the file is empty; {purpose}")
    if not isinstance(document.data, dict):
        raise UserError(
            f"{path}: expected options by name ('key: value'), found {shown(document.data)}"
        )
    return document


def parse_yaml(text: str, name: str) -> Document:
    """Read a YAML text.

    Args:
        text: YAML, one document.
        name: Name of its file or option, for messages.

    Raises:
        UserError: no YAML, or YAML that the module's description excludes; the message names
            line and field.
    """
    try:
        loader = _Loader(text)
        return Document(loader.get_single_data(), loader.lines)
    except _Refused as e:
        field = f"{e.field}: " if e.field else ""
        raise UserError(f"{_at(name, e.line)}: {field}{e}") from None
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        problem = ", ".join(part for part in (e.context, e.problem) if part)
        line = mark.line + 1 if mark else 1
        problem = " ".join(problem.split())
        raise UserError(f"{_at(name, line)}: not valid YAML: {problem}") from None
    except yaml.YAMLError as e:  # of a character: it knows a position, and no line
        line = text.count("\n", 0, getattr(e, "position", 0)) + 1
        problem = " ".join(str(e).split())
        raise UserError(f"{_at(name, line)}: not valid YAML: {problem}") from None


def _at(name: str, line: int) -> str:
    """Name a place: an option of the command line has one line."""
    return name if name.startswith("--") else f"{name}:{line}"


def section(config: Mapping[str, Any], key: str, path: Union[str, os.PathLike]) -> Dict[str, Any]:
    """Return the options below a key of a config; none if the key is not there or null.

    Args:
        config: A config.
        key: Such as `frontend_conf`.
        path: Path of the file, for messages.

    Raises:
        UserError: there is something else below the key.
    """
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: {key}: expected options by name, found {shown(value)}")
    return value


@contextlib.contextmanager
def lines_in_messages(path: Union[str, os.PathLike], lines: Dict[str, int]) -> Iterator[None]:
    """Add the line to errors of the block that name `<path>: <field>: `.

    What was asked for may stand before it, such as `--paths one_shot: `.

    Args:
        path: The file.
        lines: Line numbers (`Document.lines`).
    """
    try:
        yield
    except UserError as e:
        before, head, text = _parted(str(e), f"{path}: ")
        field = text.split(": ")[0] if head else ""
        while field and field not in lines:
            field = field[: max(field.rfind("."), field.rfind("["), 0)]
        if not field:
            raise
        raise UserError(f"{before}{path}:{lines[field]}: {text}") from None


def _parted(text: str, head: str) -> Tuple[str, str, str]:
    """Part a message at the name of a file, which another name may end with."""
    start = 0 if text.startswith(head) else text.find(f": {head}") + len(": ")
    if not text.startswith(head, start):
        return text, "", ""
    return text[:start], head, text[start + len(head) :]


class _Refused(Exception):
    def __init__(self, place: Any, field: str, message: str) -> None:
        super().__init__(message)
        self.line, self.field = place.start_mark.line + 1, shown(field)[1:-1]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader in Python, which ESPnet uses; libyaml takes tabs that it refuses."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lines: Dict[str, int] = {}
        self.path: List[str] = []
        self.nodes = 0
        self.sizes: Dict[int, int] = {}  # of finished nodes by id, aliases expanded

    @property
    def field(self) -> str:
        """Name of the place that is read now."""
        return "".join(self.path).lstrip(".")

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        """Read a node; see PyYAML's `Composer`. All limits are held while it is read."""
        event = self.peek_event()
        if isinstance(index, int):
            self.path.append(f"[{index}]")
        else:  # neither the whole document nor a key has a name
            self.path.append(f".{index.value}" if isinstance(index, yaml.ScalarNode) else "")
        if len(self.path) > MAX_DEPTH:
            raise _Refused(event, "", f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            node = self.anchors.get(event.anchor)
            if node is not None and id(node) not in self.sizes:
                raise _Refused(event, self.field, f"'*{event.anchor}' contains itself")
            self._count(self.sizes.get(id(node), 1), event)
            node = super().compose_node(parent, index)
        else:
            if event.tag is not None:
                raise _Refused(
                    event, self.field, f"the tag {shown(event.tag)} is not accepted; leave it out"
                )
            before = self.nodes
            self._count(1, event)
            if index is not None:
                self.lines.setdefault(self.field, event.start_mark.line + 1)
            node = super().compose_node(parent, index)
            self._check(node)
            self.sizes[id(node)] = self.nodes - before
        self.path.pop()
        return node

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _Refused(event, "", f"more than {MAX_NODES:,} values, aliases expanded")

    def _check(self, node: yaml.Node) -> None:
        """Refuse what is no plain data."""
        if node.tag not in PLAIN:  # a date, or a lone `=`
            raise _Refused(
                node, self.field, f"YAML reads {shown(node.value)} as no text; write it in quotes"
            )
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        elif node.tag in (TAG + "int", TAG + "float"):
            try:
                value = len(node.value) <= MAX_DIGITS and self.construct_object(node)
            except (ValueError, OverflowError, yaml.YAMLError):
                value = False
            if value is False or not (_is_infinity(node) or -MOST <= value <= MOST):
                raise _Refused(node, self.field, f"{shown(node.value)} is not a usable number")

    def _check_keys(self, node: yaml.MappingNode) -> None:
        first: Dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == TAG + "merge":
                continue
            if key.tag != TAG + "str":
                plain = isinstance(key, yaml.ScalarNode)
                word = shown(key.value) if plain else "of several values"
                message = f"the key {word} is not text; write it in quotes"
            elif key.value in first:
                message = (
                    f"duplicate key {shown(key.value)}, first in line {first[key.value]}; remove "
                    "one, or add the '- ' that begins a new entry of a list"
                )
            else:
                first[key.value] = key.start_mark.line + 1
                continue
            raise _Refused(key, self.field, message)


def _is_infinity(node: yaml.ScalarNode) -> bool:
    return node.value.lower().lstrip("+-") == ".inf"
