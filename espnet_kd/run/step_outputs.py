"""Outputs of a step in its folder: files, their digests, epochs of a training."""

import glob
import os
import re
import shutil
from pathlib import Path
from typing import Iterable, List, Tuple

from espnet_kd.common.records import HISTORY
from espnet_kd.errors import UserError
from espnet_kd.run.content import file_content
from espnet_kd.run.step_record import DONE, STARTED, Record


def trained_epochs(folder: str) -> Tuple[int, List[str]]:
    """Count the epochs that a training has finished.

    By its history, or by its models if that is damaged.

    Returns:
        The number, 0 if nothing says it; and a line for the log if the history is damaged.
    """
    try:
        return len(HISTORY.read_if_there(Path(folder)) or []), []
    except UserError as e:
        names = glob.glob(os.path.join(glob.escape(folder), "*epoch.pth"))
        numbers = [re.fullmatch(r"(\d+)epoch\.pth", os.path.basename(name)) for name in names]
        last = max((int(number[1]) for number in numbers if number), default=0)
        reason = str(e).rpartition("; ")[0]
        return last, [f"{reason}: the models beside it say that {last} epochs were trained"]


def missing_file(new: Record, done: Record) -> str:
    """Return the path of a file that should be there and is not, or `""`."""
    for pattern in (*new.patterns["out"], *new.patterns["has"]):
        if not files_of(new.folder, pattern):
            return new.path_of(pattern)
    for name in done.outputs:
        if not os.path.exists(done.path_of(name)):
            return done.path_of(name)
    return ""


def damaged_file(new: Record, done: Record) -> str:
    """Return the path of a file that is not what the step left, or `""`."""
    for pattern in new.patterns["out"]:
        for name in files_of(new.folder, pattern):
            digest = done.outputs.get(name, done.others.get(name))
            if digest is not None and file_content(new.path_of(name)) != digest:
                return new.path_of(name)
    return ""


def files_of(folder: str, pattern: str) -> List[str]:
    """List the files of a pattern, relative to the folder."""
    if not any(c in pattern for c in "*?["):
        return [pattern] if os.path.exists(os.path.join(folder, pattern)) else []
    start = glob.escape(folder)
    return [os.path.relpath(path, folder) for path in sorted(glob.glob(f"{start}/{pattern}"))]


def digests_of(folder: str, patterns: List[str]) -> Iterable[Tuple[str, str]]:
    """Name the files of all patterns with their digests."""
    for pattern in patterns:
        for name in files_of(folder, pattern):
            digest = file_content(os.path.join(folder, name))
            if digest is not None:
                yield name, digest


def holds_training(new: Record) -> bool:
    """Tell whether a training, which nothing may remove unasked, would be lost."""
    if new.kind == "note":
        return False
    return new.kind == "train" or any(
        os.path.exists(os.path.join(new.folder, prefix + "train")) for prefix in (DONE, STARTED)
    )


def clear(folder: str) -> None:
    """Remove what an earlier run has left."""
    if os.path.isdir(folder):
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
