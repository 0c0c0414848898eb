"""The corpus on disk: recognised when whole, built beside its place, never half there."""

import contextlib
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Dict, Iterator

from processes import is_alive

from espnet_kd.errors import UserError

STAMP = "corpus.json"


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
        found = json.loads((out / STAMP).read_text(encoding="utf-8"))["options"]
        ours = found["corpus"] == options["corpus"]
    except (OSError, ValueError, KeyError, TypeError):
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
        stamp = json.dumps({"options": options}, indent=1) + "\n"
        (making / STAMP).write_text(stamp, encoding="utf-8")
        if out.exists():
            out.rename(replaced)
        making.rename(out)
    finally:
        for path in (making, replaced):
            shutil.rmtree(path, ignore_errors=True)
