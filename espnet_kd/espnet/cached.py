"""A teacher cache in the teacher's place: what is checked before a training uses it."""

from argparse import Namespace
from pathlib import Path
from typing import Iterator, Optional, Tuple

import torch

from espnet_kd.errors import UserError
from espnet_kd.espnet.cache_fingerprint import lattice_fields, teacher_fields
from espnet_kd.fileio import read_table
from espnet_kd.spec.distillation import Distillation
from espnet_kd.teachers import Fingerprint
from espnet_kd.teachers.archive import check_keys, check_sizes

NAME = "teacher"  # of the data stream
AGAIN = "make the cache again with espnet_kd.bin.cache_teacher"


def check_cache(args: Namespace, options: Distillation, student: torch.nn.Module) -> None:
    """Check a training's teacher cache, before its first update.

    Args:
        args: The training's options.
        options: Options of its `kd_conf`; names a cache or does not.
        student: The model.

    Raises:
        UserError: the cache was made from something else or lacks an utterance, or the
            training moves frames that a cache holds in their place.
    """
    streams = dict(_streams(args))
    if not (options.distils and options.teacher_cache):
        for part in streams:
            raise UserError(
                f"--{part}_data_path_and_name_and_type: a stream '{NAME}' is given, but kd_conf "
                "has no objective or no teacher_cache (the directory of the cache)"
            )
        return
    cache = Path(options.teacher_cache)
    fingerprint = Fingerprint.load(cache)
    if "train" not in streams:
        raise UserError(
            "kd_conf.teacher_cache is set, but the training does not read it: add "
            f"--train_data_path_and_name_and_type {cache}/SET/teacher.scp,{NAME},kaldi_ark"
        )
    for part, scp in streams.items():
        if scp.resolve().parents[1] != cache.resolve():
            raise UserError(
                f"--{part}_data_path_and_name_and_type: the stream '{NAME}' is {scp}, which is "
                f"no table of kd_conf.teacher_cache ({cache}/SET/teacher.scp)"
            )
    if getattr(args, "train_dtype", "float32") == "float16":
        raise UserError("--train_dtype float16: would round what is read from a teacher cache")
    fingerprint.check(cache, lattice_fields(student), AGAIN)
    paths = [options.teacher_config, options.teacher_model]
    fields = teacher_fields(*(Path(path) if path else None for path in paths))
    fingerprint.check(cache, fields, f"the teacher differs; {AGAIN}")
    if options.teacher_context == "full":
        fingerprint.check(cache, {"chunk_size": 0}, f"teacher_context is full; {AGAIN}")
    options.check_band(fingerprint.band)
    check_time_warp(getattr(student.specaug, "apply_time_warp", False))
    for part, scp in streams.items():
        source = _keys_of(args, part)
        if source is not None:
            check_keys(scp, read_table(source), source)
        check_sizes(scp)


def check_time_warp(warps: bool, where: str = "") -> None:
    """Refuse time warp.

    Raises:
        UserError: the student's SpecAugment warps time.
    """
    if warps:
        raise UserError(
            f"{where}specaug_conf.apply_time_warp: moves frames, which a teacher cache holds in "
            "their place; set it to false (masks are fine)"
        )


def _streams(args: Namespace) -> Iterator[Tuple[str, Path]]:
    """Yield the sets, train and valid, that read a cache, and its table."""
    for part in ("train", "valid"):
        for path, name, _ in getattr(args, f"{part}_data_path_and_name_and_type", None) or []:
            if name == NAME:
                yield part, Path(path)


def _keys_of(args: Namespace, part: str) -> Optional[Path]:
    """A file that lists the utterances of a set."""
    shapes = getattr(args, f"{part}_shape_file", None)
    if shapes:
        return Path(shapes[0])
    for path, name, _ in getattr(args, f"{part}_data_path_and_name_and_type"):
        if name == "speech":
            return Path(path)
    return None
