"""Paths and names that the recipe can use, and folders that it can write into.

A path goes through ESPnet's options (`path,name,type`), Kaldi's tables (split at blanks), the
`NAME=DIR:FILE` of the report and several shells. A character that one of them takes for its own
is refused at the beginning, not met after hours.
"""

import os
import re
import unicodedata
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional

LONGEST_NAME = 200  # bytes; 255 less what the recipe adds
LONGEST_PATH = 2000
_REASONS = {
    ",": "ESPnet splits `path,name,type` at commas",
    " ": "lists of paths are split at spaces",
    "~": "it is not replaced here; write the folder itself or $HOME",
}


def path_problem(path: str) -> Optional[str]:
    """Return why the recipe cannot use a path; None if it can."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        return f"is longer than {LONGEST_PATH} bytes: {path[:40]!r}..."
    for part in path.split("/"):
        if len(os.fsencode(part)) > LONGEST_NAME:
            return f"has a name of more than {LONGEST_NAME} bytes: {part[:40]!r}..."
    return _characters(path, r"[\w./+@%-]")


def name_problem(name: str) -> Optional[str]:
    """Return why something cannot be the name of a folder or file; None if it can."""
    if len(os.fsencode(name)) > LONGEST_NAME:
        return f"is a name of more than {LONGEST_NAME} bytes: {name[:40]!r}..."
    if name.startswith("."):
        return f"{name!r}: a name cannot begin with a dot"
    return _characters(name, r"[\w.+@%-]")


def _characters(text: str, allowed: str) -> Optional[str]:
    if text.startswith("-"):
        return f"{text!r}: begins with '-' and would be taken for an option"
    for c in text:
        if not re.fullmatch(allowed, c):
            reason = _REASONS.get(c, "")
            called = unicodedata.name(c, "this character").lower()
            return f"{text!r}: {c!r} ({called}) cannot be used{f': {reason}' if reason else ''}"
    return None


def folder_problem(folder: str) -> Optional[str]:
    """Return why a folder cannot be written into, or cannot be made; None if it can."""
    path = Path(os.path.abspath(folder))
    while not os.path.lexists(path):
        path = path.parent
    shown = os.path.relpath(path) if not os.path.isabs(folder) else str(path)
    if path.is_symlink() and not path.exists():
        return f"{shown} is a link that leads nowhere"
    if not path.is_dir():
        return f"{shown} is a file; a folder is expected"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"{shown} cannot be written to"
    return None


def check_folders(folders: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with folders that will be written into.

    Args:
        folders: Each folder by the option that names it.
    """
    seen: Dict[str, str] = {os.path.realpath("data"): "data"}
    problems = set()
    for name, folder in folders.items():
        problem = folder_problem(folder)
        if problem is not None and problem not in problems:
            problems.add(problem)
            yield f"--{name} {folder}: {problem}"
        other = seen.setdefault(os.path.realpath(folder), f"--{name}")
        if other != f"--{name}":
            yield f"--{name} {folder}: is the same folder as {other}"
