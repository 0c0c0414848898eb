"""A recipe folder that stands alone: the stages, configs and `run.sh` of `egs2/own_corpus`."""

import os
import shutil
from pathlib import Path
from typing import Tuple

import espnet_kd
from espnet_kd.errors import UserError

# What runs leave in a folder.
MADE = ("exp", "data", "dump", "downloads")


def recipe_source() -> Path:
    """Return the folder to copy: that of the wheel, or of the checkout.

    Raises:
        UserError: There is neither.
    """
    package = Path(espnet_kd.__file__).resolve().parent
    for folder in (package / "recipe", package.parent / "egs2/own_corpus/asr_kd"):
        if (folder / "asr_kd.sh").exists():
            return folder
    raise UserError(f"{package}: was installed without its recipe; install it from its checkout")


def make_recipe(target: Path) -> None:
    """Write a recipe folder, links followed; nothing that is there is written over.

    Raises:
        UserError: `target` is there already.
    """
    if not (target.is_dir() and not any(target.iterdir())) and os.path.lexists(target):
        raise UserError(f"{target}: is there already; nothing was changed")

    def leave_out(folder: str, names: "list[str]") -> "list[str]":
        unused: Tuple[str, ...] = MADE if Path(folder) == source else ()
        if Path(folder).name == "large":  # of LibriSpeech, whose other sizes are there already
            unused = ("small", "mini")
        return [name for name in names if name in unused or name == "__pycache__"]

    source = recipe_source()
    shutil.copytree(source, target, ignore=leave_out, dirs_exist_ok=True)
