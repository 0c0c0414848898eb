"""One archive a model, made by ESPnet's own `espnet2.bin.pack`."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Optional

from espnet_kd.deploy.bundle import Bundle, lay_out
from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open

README = "README.md"
_TRIAL = ".packing."


def make_archive(
    exp: Path,
    checkpoint: str,
    decoding: Optional[Path],
    out: Path,
    card: Callable[[Bundle], str],
) -> None:
    """Write `out`, and the model card beside it; both appear only when they are complete.

    Args:
        exp: The model's experiment.
        checkpoint: File name of its weights.
        decoding: Decoding config to put in.
        out: The archive to make, `*.zip`.
        card: Writes the model card of what was laid out.

    Raises:
        UserError: a file of the model is missing, or ESPnet could not pack.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f"{_TRIAL}*"):  # by a run that was killed
        shutil.rmtree(left)
    # Beside `out`: what is made here is renamed, and large files need not be copied.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=_TRIAL) as folder:
        root = Path(folder) / "content"
        bundle = lay_out(exp, checkpoint, decoding, root)
        text = card(bundle)
        (root / README).write_text(text, encoding="utf-8")
        archive = Path(folder).resolve() / out.name
        _pack(bundle, archive)
        with atomic_open(out.parent / README) as f:
            f.write(text)
        os.replace(archive, out)


def _pack(bundle: Bundle, archive: Path) -> None:
    """Run ESPnet's packer where the paths in the archive start."""
    command = [sys.executable, "-m", "espnet2.bin.pack", "asr", "--outpath", str(archive)]
    command += ["--asr_train_config", str(bundle.config)]
    command += ["--asr_model_file", str(bundle.checkpoint)]
    for path in (bundle.decoding, *bundle.others, Path(README)):
        command += ["--option", str(path)] if path else []
    done = subprocess.run(command, cwd=bundle.root, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        if os.strerror(errno.ENOSPC) in reason:
            raise OSError(errno.ENOSPC, reason, str(archive.parent))
        raise UserError(f"espnet2.bin.pack failed for {bundle.home}: {reason}")
