"""Files written beside their place and renamed, and Kaldi's two-column tables."""

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, TextIO, Union

from espnet_kd.errors import UserError

PathLike = Union[str, os.PathLike]


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

    Raises:
        UserError: the file is missing, not UTF-8, or holds a key twice.
    """
    table: Dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as f:
            for n, line in enumerate(f, 1):
                fields = line.strip().split(maxsplit=1)  # blanks or tabs
                if not fields:
                    continue
                key, value = fields[0], fields[1] if len(fields) > 1 else ""
                if key in table:
                    raise UserError(f"{path}:{n}: the key '{key}' stands there twice")
                table[sys.intern(key)] = value.strip()  # once for all tables of a directory
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that makes it first") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 ({e.reason} at byte {e.start})") from None
    return table


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
