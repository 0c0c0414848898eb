"""Files written beside their place and renamed, and Kaldi's two-column tables."""

import codecs
import contextlib
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, TextIO, Tuple, Union

from espnet_kd.errors import UserError

PathLike = Union[str, os.PathLike]

_BLANKS = re.compile("[ \\t]+")
_CONTROL = re.compile("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]")  # but tabs


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield tmp
        os.replace(tmp, path)
    except OSError as e:
        if e.filename in (None, str(tmp)):  # a write says no name, an open that of `tmp`
            e.filename = str(path)
        raise
    finally:
        tmp.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_open(path: PathLike) -> Iterator[TextIO]:
    """Open `path` for writing UTF-8 text; nothing is seen there until the block succeeds."""
    with atomic_path(path) as tmp, open(tmp, "w", encoding="utf-8") as f:
        yield f


def save_tensors(obj: Any, path: PathLike, save: Callable[..., None], **kwargs: Any) -> None:
    """Call `torch.save`, which is handed in, so that a full disk is an `OSError`.

    Given a path, `torch.save` says of a full disk only that it is at an unexpected position.
    """
    with open(path, "wb") as f:
        try:
            save(obj, f, **kwargs)
        except RuntimeError as e:
            if isinstance(e.__context__, OSError):  # what Python's file said to it
                raise e.__context__ from None
            raise


def read_table(path: PathLike) -> Dict[str, str]:
    """Read a Kaldi table `key value...` (text, wav.scp, utt2spk) in file order.

    Blanks and tabs part key and value, line feeds part lines. A byte order mark and the line
    ends of Windows are passed over. ESPnet would also end a line at a lone carriage return,
    and a key at any white space of Unicode; here such lines are refused.

    Raises:
        UserError: the file is missing, not UTF-8, or holds a duplicate key or a control
            character.
    """
    try:
        with open(path, "rb") as f:
            content = f.read()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file; run the stage that makes it first") from None
    table = _plain_table(content)
    if table is not None:
        return table
    table = {}
    for n, raw in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        key, value = _fields(raw, f"{path}:{n}")
        if not key:
            continue
        if key in table:
            raise UserError(f"{path}:{n}: duplicate key '{key}'")
        table[sys.intern(key)] = value
    return table


def _plain_table(content: bytes) -> Optional[Dict[str, str]]:
    """Read a table of single blanks and printable characters, in a third of the time.

    Returns:
        None: there is something else in it, or a duplicate key.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = text.removesuffix("\n")
    flat = text.replace("\n", " ")
    if not flat.isprintable() or "  " in flat or flat[:1] == " " or flat[-1:] in ("", " "):
        return None
    lines = text.split("\n")
    parts = (line.partition(" ") for line in lines)
    # A key once for all tables of a directory.
    table = {sys.intern(key): value for key, _, value in parts}
    return table if len(table) == len(lines) else None


def _fields(raw: bytes, where: str) -> Tuple[str, str]:
    """Split a line of a Kaldi table into key and value."""
    try:
        line = raw.decode("utf-8").strip(" \t\r\n")
    except UnicodeDecodeError as e:
        raise UserError(f"{where}: not UTF-8 ({e.reason} at byte {e.start} of the line)") from None
    control = None if line.isprintable() else _CONTROL.search(line)  # the first is fast
    if control:
        what = f"the control character U+{ord(control[0]):04X}"
        if control[0] == "\r":
            what = "a carriage return (\\r)"
        raise UserError(
            f"{where}: {what} stands inside the line, after '{line[: control.start()][-20:]}'; "
            "the file is damaged, or needs that character removed"
        )
    key, value = (*_BLANKS.split(line, maxsplit=1), "")[:2]
    if not key.isascii() and key.split() != [key]:
        raise UserError(
            f"{where}: the key {ascii(key)} holds white space that is neither blank nor tab"
        )
    return key, value


def write_table(path: PathLike, table: Mapping[str, object]) -> None:
    """Write a Kaldi table, sorted by key in C order, atomically."""
    with atomic_open(path) as f:
        for key in sorted(table):
            f.write(f"{key} {table[key]}\n")


def file_digest(path: PathLike) -> str:
    """SHA-256 of a file."""
    sha = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(2**20):
            sha.update(block)
    return sha.hexdigest()
