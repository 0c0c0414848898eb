"""The files of one model, laid out as they will lie in its archive.

Everything that decoding reads and nothing else: the config, the checkpoint, the files that
the config names (statistics, BPE model), the decoding config. The token list stands inside
the config. Paths in the config are those in the archive; ESPnet's `unpack` looks for exactly
these and puts the folder it unpacks to before them.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError

# Values of a config that name a file which decoding opens.
FILES: Tuple[Tuple[str, ...], ...] = (
    ("bpemodel",),
    ("non_linguistic_symbols",),
    ("token_list",),  # a list, or the file that holds it
    ("normalize_conf", "stats_file"),
)
# What belongs to the training alone, and would name files (the teacher's among them), users
# and machines that are not where the archive is unpacked.
TRAINING = (
    "config",
    "output_dir",
    "init_param",
    "pretrain_path",
    "kd_conf",
    "rir_scp",
    "noise_scp",
    "deepspeed_config",
)
TRAINING_STARTS = ("dist_", "wandb_")
TRAINING_ENDS = ("_data_path_and_name_and_type", "_shape_file")


@dataclass(frozen=True)
class Bundle:
    """Files below `root`; `home` is the model's folder, all paths relative to `root`.

    Attributes:
        root: The folder that becomes the archive.
        home: `exp/<model>`.
        config: The model's config, with paths that hold in `root`.
        checkpoint: The weights.
        decoding: The decoding config, if there is one.
        others: The files that `config` names.
    """

    root: Path
    home: Path
    config: Path
    checkpoint: Path
    decoding: Optional[Path]
    others: List[Path]


def read_config(exp: Path) -> Dict[str, Any]:
    """Read the config of an experiment.

    Raises:
        UserError: it is not there or not a config.
    """
    path = exp / "config.yaml"
    config = read_yaml(path, "train the model first")
    if "encoder_conf" not in config:
        raise UserError(f"{path}: not the config of a transducer")
    return config


def lay_out(exp: Path, checkpoint: str, decoding: Optional[Path], root: Path) -> Bundle:
    """Fill `root` with what decoding with a model needs.

    Args:
        exp: The model's experiment. Nothing in it is changed.
        checkpoint: File name of its weights.
        decoding: Decoding config.
        root: An empty folder, best on the file system of `exp`: large files are linked.

    Raises:
        UserError: a file is missing; the message names it and the field that asks for it.
    """
    config = read_config(exp)
    home = Path("exp") / exp.resolve().name
    (root / home).mkdir(parents=True)
    others = []
    for field in FILES:
        *parents, key = field
        part = config
        for name in parents:
            part = part.get(name) or {}
        value = part.get(key)
        if not isinstance(value, str):
            continue
        path = home / Path(value).name
        _place(Path(value), root / path, f"{exp}/config.yaml: {'.'.join(field)}")
        part[key] = str(path)
        others.append(path)
    packed = {key: value for key, value in config.items() if not _of_training(key)}
    with open(root / home / "config.yaml", "w", encoding="utf-8") as f:
        yaml.safe_dump(packed, f, sort_keys=False, allow_unicode=True)
    _place(exp / checkpoint, root / home / checkpoint, "checkpoint")
    if decoding is not None:
        _place(decoding, root / home / "decode.yaml", "decoding config")
        decoding = home / "decode.yaml"
    return Bundle(root, home, home / "config.yaml", home / checkpoint, decoding, others)


def _of_training(key: str) -> bool:
    return key in TRAINING or key.startswith(TRAINING_STARTS) or key.endswith(TRAINING_ENDS)


def _place(source: Path, to: Path, what: str) -> None:
    """Put a file at its place, without a second copy on the disk where that is possible."""
    if not source.is_file():
        raise UserError(f"{what}: {source} is not there, so the model cannot be packed")
    if to.exists():
        raise UserError(f"{what}: a second file would be called {to.name}; rename {source}")
    try:
        os.link(source.resolve(), to)  # of a link, the file: ESPnet would follow it and
    except OSError:  # store the name of where it leads to
        shutil.copyfile(source, to)
