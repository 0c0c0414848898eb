"""Contents of files and data directories, in a form that a record can keep and compare."""

import hashlib
import os
from typing import Dict, Optional, Tuple, Union

from espnet_kd.data import identity
from espnet_kd.fileio import file_digest
from espnet_kd.scoring.conditions import LABELS

# Larger files are hashed by their size and by blocks at even distances: a damage between two
# blocks is then not noticed. The checkpoint of a model with 500 million parameters is smaller.
WHOLE = 2 << 30
BLOCK = 1 << 20
BLOCKS = 256

# Tables that training, decoding and scoring depend on; not every one is there at every stage.
TABLES = ("wav.scp", "text", "segments", "utt2num_samples")
# Tables that stages 2 to 4 hand on.
ALL_TABLES = (*TABLES, "utt2spk", "utt2speed", *LABELS)

Content = Union[None, str, Dict[str, Optional[str]]]


def file_content(path: str) -> Optional[str]:
    """SHA-256 of a file; None: there is no such file.

    The table `utt2audio` stands for the sound files that it describes: its own times are nothing
    to compare.
    """
    if not os.path.isfile(path):
        return None
    if os.path.basename(path) == identity.NAME:
        return identity.audio_state(os.path.dirname(path), may_miss=True)
    size = os.path.getsize(path)
    if size <= WHOLE:
        return file_digest(path)
    sha = hashlib.sha256(str(size).encode())
    with open(path, "rb") as f:
        for n in range(BLOCKS):
            f.seek((size - BLOCK) * n // (BLOCKS - 1))
            sha.update(f.read(BLOCK))
    return f"{BLOCKS} blocks:{sha.hexdigest()}"


def data_content(path: str, tables: Tuple[str, ...] = TABLES) -> Content:
    """Contents of a data directory's tables and of the audio that they name.

    Args:
        path: Kaldi-style data directory.
        tables: Names of the tables that count.

    Returns:
        Digests by table; None: there is no such directory, or nothing in it.
    """
    if not os.path.isfile(os.path.join(path, "wav.scp")):
        return None
    contents = {name: file_content(os.path.join(path, name)) for name in tables}
    # A stage that makes a directory from another skips bad files itself.
    contents["audio"] = identity.audio_state(path, may_miss=tables == ALL_TABLES)
    return {name: content for name, content in contents.items() if content is not None}


def content_of(kind: str, path: str) -> Content:
    """Content of an input.

    Args:
        kind: `file`, `given` or `table`; `data`: a data directory; `tables`: with every table.
        path: Path of the input.
    """
    if kind in ("file", "given", "table"):
        return file_content(path)
    return data_content(path, TABLES if kind == "data" else ALL_TABLES)


def differing_parts(old: Content, new: Content) -> str:
    """Names of the tables that differ, as ": text, audio"; "" for files."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return ""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return ": " + ", ".join(names)
