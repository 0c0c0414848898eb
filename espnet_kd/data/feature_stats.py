"""Statistics of features (`feats_stats.npz`, stage 10): are they numbers, and of all the data?"""

import math
from pathlib import Path
from typing import Dict

import numpy as np

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table

KEYS = ("count", "sum", "sum_square")
FLAT = 1e-12  # a variance below it: the feature never changes
RATIO = 1.2  # between two sets, of audio samples a frame


def read_stats(path: Path) -> Dict[str, np.ndarray]:
    """Read and check the statistics of one set.

    Args:
        path: A `feats_stats.npz` as ESPnet writes it.

    Returns:
        `count`, a number of frames; `sum` and `sum_square`. (F,)

    Raises:
        UserError: the file is missing or something else, holds NaN or infinity, or says that no
            feature ever changes.
    """
    again = "make them again (stage 10)"
    try:
        with np.load(path) as archive:
            stats = {key: np.asarray(archive[key], np.float64) for key in KEYS}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {again}") from None
    except Exception as e:  # a file of another kind makes numpy raise almost anything
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(f"{path}: not the statistics of features: {reason}; {again}") from None
    shapes = [stats[key].shape for key in KEYS]
    if shapes[0] != () or len(shapes[1]) != 1 or shapes[1] != shapes[2]:
        raise UserError(f"{path}: not the statistics of features: shapes are {shapes}; {again}")
    for key in KEYS:
        if not np.isfinite(stats[key]).all():
            raise UserError(
                f"{path}: '{key}' holds NaN or infinity: an utterance whose audio does; find it, "
                f"then {again}"
            )
    if stats["count"] < 1:
        raise UserError(f"{path}: 'count' is {stats['count']:g} frames; {again}")
    mean = stats["sum"] / stats["count"]
    variance = stats["sum_square"] / stats["count"] - mean**2
    if (variance < -1e-3 * (1 + mean**2)).any():
        raise UserError(f"{path}: 'sum_square' is less than it can be; {again}")
    if (variance < FLAT).all():
        raise UserError(f"{path}: no feature ever changes: is the audio silent?")
    return stats


def check_stats(folder: Path) -> None:
    """Check the statistics of a training and a validation set, and that they are of all of it.

    Args:
        folder: `exp/asr_stats_*`, with `train` and `valid`.

    Raises:
        UserError: see `read_stats`; or one set has far fewer frames for its audio.
    """
    spacing = {}
    for part in ("train", "valid"):
        path = folder / part / "feats_stats.npz"
        lengths = read_table(folder / part / "speech_shape").values()
        count = float(read_stats(path)["count"])
        samples = sum(int(length.split(",")[0]) for length in lengths)
        if not len(lengths) <= count <= samples:
            raise UserError(
                f"{path}: 'count' is {count:,.0f} frames, of {len(lengths):,} utterances and "
                f"{samples:,} samples; make them again (stage 10)"
            )
        spacing[part] = samples / count
    train, valid = spacing.values()
    if abs(math.log(train / valid)) > math.log(RATIO):
        raise UserError(
            f"{folder}: {train:.0f} samples a frame in train, {valid:.0f} in valid; a part of "
            "the statistics is missing: make them again (stage 10)"
        )
