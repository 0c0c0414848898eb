"""The corpus on disk: recognised when whole, built beside its place, never half there."""

import contextlib
import os
import shutil
import socket
from pathlib import Path
from typing import Any, Dict, Iterator, TypedDict

from processes import is_alive

from espnet_kd.common.json_file import Record
from espnet_kd.errors import UserError


class _Stamp(TypedDict):
    options: Dict[str, Any]


STAMP = Record("corpus.json", _Stamp, "give another --out")


def is_made(out: Path, options: Dict, force: bool) -> bool:
    """Say whether the corpus of these options is at `out`.

    Args:
        out: The folder.
        options: All that decides about the samples.
        force: A corpus of other options may be replaced.

    Raises:
        UserError: there is something else at `out`.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = STAMP.read(out)["options"]
        ours = found.get("corpus") == options["corpus"]
    except (OSError, UserError):
        ours = False
    if not ours:
        # Even with --force: it may be somebody's only copy.
        raise UserError(f"{out}: not a corpus that this script made; give another --out")
    changed = [
        f"{key} {found.get(key)} -> {options.get(key)}"
        for key in dict.fromkeys([*options, *found])
        if found.get(key) != options.get(key)
    ]
    if changed and not force:
        raise UserError(
            f"{out} was made with other options ({', '.join(changed)}); give --force "
            "(data.sh: --force true) to make it again, or another --out"
        )
    return not changed


@contextlib.contextmanager
def building(out: Path, options: Dict) -> Iterator[Path]:
    """Yield a folder beside `out`; stamp it and rename it to `out` if the block succeeds."""
    prefix = f".{out.name}.{socket.gethostname()}."
    making = out.with_name(f"{prefix}{os.getpid()}.making")
    replaced = out.with_name(f"{prefix}{os.getpid()}.replaced")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path in out.parent.glob(f"{prefix}*.*"):  # of runs that were killed
            pid = path.name[len(prefix) :].split(".")[0]
            if pid.isdecimal() and not is_alive(int(pid)):
                shutil.rmtree(path, ignore_errors=True)
        making.mkdir()
    except (PermissionError, FileExistsError, NotADirectoryError) as e:
        raise UserError(f"{out}: cannot be made ({e.strerror}: {e.filename})") from None
    try:
        yield making
        STAMP.write(making, {"options": options})
        if out.exists():
            out.rename(replaced)
        making.rename(out)
    finally:
        for path in (making, replaced):
            shutil.rmtree(path, ignore_errors=True)
