"""The files of a training's weights: written whole, read with care, one spare checkpoint."""

import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Callable, Optional

import torch

from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open
from espnet_kd.methods.callbacks import Callback, Run
from espnet_kd.saved import check_finite

CHECKPOINT = "checkpoint.pth"  # ESPnet's name
LATEST = "latest.pth"  # ESPnet's name of a link to the last epoch's model
SPARE = "checkpoint.previous.pth"  # of the epoch before
NOTE = ".saving"  # the epoch whose files are being written


class CarefulSaves(Callback):
    """Sees to it that a training can go on, wherever its saving is interrupted.

    ESPnet's trainer writes `checkpoint.pth` in place, then the epoch's model: a training
    killed in that moment could not be resumed, or would miss a model when it averages. So a
    note stands beside them meanwhile, and the checkpoint before is moved out of the way. It is
    kept until the training ends: a checkpoint that is damaged later costs an epoch, too.
    """

    def on_start(self, run: Run) -> None:
        """Find the checkpoint to go on from; take away what a killed training has left."""
        if run.main:
            for path in run.folder.glob(".*.pth.*.tmp"):  # large models would fill the disk
                path.unlink()
            if run.options.resume:
                undo_saving(run.folder)
                find_checkpoint(run.folder)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # the other processes load it, too

    def on_epoch(self, run: Run, epoch: int) -> None:
        """Refuse NaN and infinity, and make room for the files of an epoch.

        Raises:
            UserError: the model holds one of them.
        """
        if not run.main:
            return
        folder = run.folder
        hint = "the file was not written; train again, with a lower learning rate"
        check_finite(run.model.state_dict(), folder / CHECKPOINT, hint)
        (folder / LATEST).unlink(missing_ok=True)
        with atomic_open(folder / NOTE) as f:
            f.write(f"{epoch}\n")
        if (folder / CHECKPOINT).exists():
            os.replace(folder / CHECKPOINT, folder / SPARE)

    def on_save(self, run: Run, epoch: int) -> None:
        """Take the note away."""
        if run.main:
            (run.folder / NOTE).unlink(missing_ok=True)

    def on_end(self, run: Run) -> None:
        """Take the spare checkpoint away."""
        if run.main and not run.options.no_forward_run:
            (run.folder / SPARE).unlink(missing_ok=True)


def undo_saving(folder: Path) -> None:
    """Put back the checkpoint before one whose saving was interrupted.

    Args:
        folder: The experiment.
    """
    note, checkpoint = folder / NOTE, folder / CHECKPOINT
    try:
        model = f"{int(note.read_text())}epoch.pth"
    except FileNotFoundError:
        return
    except ValueError:  # cut off by a lost machine: nothing was saved yet
        model = ""
    # ESPnet makes the link when both files are there.
    link = folder / LATEST
    if not (link.is_symlink() and os.readlink(link) == model):
        checkpoint.unlink(missing_ok=True)
        if model:
            (folder / model).unlink(missing_ok=True)
        if (folder / SPARE).exists():
            os.replace(folder / SPARE, checkpoint)
    note.unlink()


def unwritten(folder: Path, error: RuntimeError, size: int) -> Optional[OSError]:
    """Tell why `torch.save` could not write a file, which it does not say.

    Args:
        folder: The experiment; the file that is not whole is removed.
        error: Any error of a training.
        size: Bytes of the largest file that is written.

    Returns:
        What the system says of the file; None: the error has another cause.
    """
    if "inline_container" not in str(error):
        return None
    files = [path for path in folder.glob("*.pth") if not path.is_symlink()]
    last = max(files, key=lambda path: path.stat().st_mtime_ns, default=folder / CHECKPOINT)
    answer = OSError(errno.EIO, os.strerror(errno.EIO), str(last))
    probe = folder / f".{last.name}.{os.getpid()}.tmp"
    try:
        with open(probe, "wb") as f:
            for _ in range(size // 2**20 + 1):
                f.write(bytes(2**20))
    except OSError as e:
        answer = OSError(e.errno, e.strerror, str(last))
    finally:
        probe.unlink(missing_ok=True)
    last.unlink(missing_ok=True)
    undo_saving(folder)
    return answer


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
