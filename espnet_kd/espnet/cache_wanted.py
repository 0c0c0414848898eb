"""A look at a student's training before its teacher's cache is made."""

import shlex
from pathlib import Path
from typing import NoReturn

from espnet_kd.errors import UserError
from espnet_kd.espnet.cached import check_time_warp
from espnet_kd.espnet.task import DistilTransducerTask
from espnet_kd.spec.distillation import read_kd_conf


def cache_wanted(config: str, more: str, cache: str, band: int) -> bool:
    """Check whether a student can be trained from a cache that is to be made.

    Args:
        config: Path of its training config (`student.yaml`).
        more: Further options of its training, as on a command line.
        cache: Folder of the cache.
        band: Rows of the cache, 0: all.

    Returns:
        False if the student is trained without distillation.

    Raises:
        UserError: it cannot be trained from a cache.
    """
    if not Path(config).is_file():
        raise UserError(f"{config}: no such file; derive the student first")
    parser = DistilTransducerTask.get_parser()
    parser.error = _refuse
    args = parser.parse_args(["--config", config, *shlex.split(more)])
    where = f"{config}: kd_conf"
    kd = read_kd_conf(args.kd_conf, where)
    if not kd.distils:
        return False
    kd.changed(teacher_cache=cache).complete(where).check_band(band, f"{where}: ")
    warps = args.specaug is not None and (args.specaug_conf or {}).get("apply_time_warp", True)
    check_time_warp(warps, f"{config}: ")
    return True


def _refuse(message: str) -> NoReturn:
    raise UserError(f"--student_args: {message}")
