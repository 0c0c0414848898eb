"""The files of a training's weights: written whole, read with care, one spare checkpoint."""

import contextlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Iterator

import torch

from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_path, save_tensors
from espnet_kd.saved import check_finite

CHECKPOINT = "checkpoint.pth"  # ESPnet's name
SPARE = "checkpoint.previous.pth"  # of the epoch before


@contextlib.contextmanager
def careful_saves() -> Iterator[None]:
    """Let `torch.save` write beside its target and rename, and refuse NaN and infinity.

    ESPnet's trainer writes `checkpoint.pth` in place: a training killed in that moment
    could not be resumed, and a full disk would leave half a file. It then writes the epoch's
    model: killed between the two, a resumed training would miss a model when it averages.
    So the checkpoint waits until that model is there. The one before it is kept, until the
    training ends: a checkpoint that is damaged later costs an epoch, not the training.
    """
    save = torch.save
    with contextlib.ExitStack() as waiting:

        def careful(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
            if not isinstance(f, (str, os.PathLike)):
                save(obj, f, *args, **kwargs)
                return
            hint = "the file was not written; train again, with a lower learning rate"
            if Path(f).name == CHECKPOINT:
                check_finite(obj["model"], f, hint)
                path = waiting.enter_context(_replacing(Path(f)))
                save_tensors(obj, path, save, **kwargs)
            else:
                check_finite(obj, f, hint)
                with atomic_path(f) as path:
                    save_tensors(obj, path, save, **kwargs)
                waiting.close()

        torch.save = careful
        try:
            yield
        finally:
            torch.save = save


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` in the end, and keep what was there."""
    with atomic_path(path) as tmp:
        yield tmp
        if path.exists():
            with atomic_path(path.with_name(SPARE)) as spare:
                try:
                    os.link(path, spare)  # at no time is there no `path`
                except OSError:  # not every file system has links
                    shutil.copyfile(path, spare)


def find_checkpoint(folder: Path) -> None:
    """Put the spare checkpoint in the place of one that is missing.

    Args:
        folder: The experiment.

    Raises:
        UserError: there is none, but models of finished epochs, which a training from the
            start would replace.
    """
    if (folder / CHECKPOINT).exists():
        return
    if (folder / SPARE).exists():
        logging.warning(f"{folder}/{CHECKPOINT} is missing: going on from {SPARE}")
        shutil.copyfile(folder / SPARE, folder / CHECKPOINT)
        return
    epochs = [re.fullmatch(r"(\d+)epoch\.pth", path.name) for path in folder.glob("*epoch.pth")]
    last = max((int(match[1]) for match in epochs if match), default=0)
    if last > 1:  # a kill may leave the first epoch's model alone
        raise UserError(
            f"{folder}/{CHECKPOINT} is missing, although {last}epoch.pth is there; put it back, "
            f"or remove {folder}/*epoch.pth to train from the start"
        )


def resume(load: Callable[[Path], None], checkpoint: Path) -> None:
    """Load a checkpoint, or the spare one if it is damaged.

    Args:
        load: Loads the file it is given.
        checkpoint: `checkpoint.pth` of an experiment.

    Raises:
        UserError: both are damaged.
    """
    spare = checkpoint.with_name(SPARE)
    try:
        load(checkpoint)
        return
    except UserError as e:
        if not spare.exists():
            raise
        logging.warning(f"{e}")
    logging.warning(f"going on from {spare}: an epoch is trained again")
    load(spare)
