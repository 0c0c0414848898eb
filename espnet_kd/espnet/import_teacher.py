"""Take over a transducer that the user trained with ESPnet."""

import argparse
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import torch
import yaml
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.cli import sampling_rate
from espnet_kd.common.records import FACTS
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.bpe import check_pieces
from espnet_kd.data.feature_stats import read_stats
from espnet_kd.errors import UserError
from espnet_kd.espnet.stock import sizes_of
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.fileio import atomic_open, atomic_path, file_digest, save_tensors
from espnet_kd.saved import load_state


def import_teacher(exp: Path, checkpoint: str, fs: str, token_dir: Path, out: Path) -> str:
    """Copy a trained transducer to where the recipe's own teacher would be.

    Nothing is written into the user's directory. Paths in the copied config (token list,
    BPE model, statistics), which hold only in the recipe that trained it, are replaced by
    copies in `out` and `token_dir`.

    Args:
        exp: The user's experiment, with `config.yaml`.
        checkpoint: File name of a checkpoint in it.
        fs: Sampling rate of the recipe, e.g. `16k`.
        token_dir: Folder for the recipe's token list and BPE model.
        out: The experiment to make.

    Returns:
        A line that says what was imported.

    Raises:
        UserError: not a standalone conformer transducer; config, checkpoint, token list, BPE
            model and statistics do not fit together; another sampling rate; or a file that
            the config names is missing.
    """
    config_file = exp / "config.yaml"
    config = _read(config_file)
    front = config.get("frontend_conf") or {}
    rate = _rate(front.get("fs", "16k"), f"{config_file}: frontend_conf.fs")
    recipe_rate = _rate(fs, "--fs")
    if config.get("input_size") is None and rate != recipe_rate:
        raise UserError(
            f"{config_file}: frontend_conf.fs is {rate} Hz, the recipe's audio has {recipe_rate} "
            "Hz; give the teacher's rate with --fs"
        )
    roots = _roots(exp)
    local = copy.deepcopy(config)
    local["token_list"] = _tokens(config_file, config, roots)
    bpe = None
    if config.get("token_type") == "bpe":
        bpe = _find(config_file, "bpemodel", config.get("bpemodel"), roots)
        check_pieces(bpe, local["token_list"], f"{config_file}: token_list")
        local["bpemodel"] = str(token_dir / "bpe.model")
    stats = _stats(config_file, config, roots, exp / checkpoint)
    model = _checked(local, stats, exp, checkpoint)
    sizes = sizes_of(model, local)

    out.mkdir(parents=True, exist_ok=True)
    token_dir.mkdir(parents=True, exist_ok=True)
    if stats is not None:
        with atomic_path(out / "feats_stats.npz") as tmp, open(tmp, "wb") as f:
            np.savez(f, **stats)
        local["normalize_conf"] = _with_stats(local, out / "feats_stats.npz")
    if bpe is not None:
        _copy(bpe, token_dir / "bpe.model")
    with atomic_open(token_dir / "tokens.txt") as f:
        f.writelines(f"{token}\n" for token in local["token_list"])
    with atomic_path(out / checkpoint) as tmp:
        save_tensors(model.state_dict(), tmp, torch.save)
    origin = {"imported_from": str(exp), "checkpoint": checkpoint}
    FACTS.write(out, {**origin, "checkpoint_sha256": file_digest(exp / checkpoint)})
    with atomic_open(out / "config.yaml") as f:  # last: its presence says all is there
        yaml.safe_dump(local, f, sort_keys=False, allow_unicode=True)
    return (
        f"imported {exp}/{checkpoint}: {sizes.params:,} parameters, "
        f"{sizes.in_words()}, {sizes.vocab} tokens ({config.get('token_type')}), "
        f"{rate} Hz"
    )


def _read(path: Path) -> Dict[str, Any]:
    config = read_yaml(path, "--teacher_exp names an ESPnet experiment (exp/asr_...)")
    if "joint_network_conf" not in config:
        task = "espnet2.asr" if "ctc_conf" in config else "another task"
        raise UserError(
            f"{path}: not a standalone transducer ({task}); the teacher must come from "
            "espnet2.bin.asr_transducer_train"
        )
    return config


def _checked(
    config: Dict[str, Any], stats: Optional[Dict[str, Any]], exp: Path, checkpoint: str
) -> ESPnetASRTransducerModel:
    """Load the teacher before anything is written where the recipe looks for it."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "config.yaml"
        if stats is not None:
            file = Path(folder) / "feats_stats.npz"
            np.savez(file, **stats)
            config = {**config, "normalize_conf": _with_stats(config, file)}
        with open(trial, "w", encoding="utf-8") as f:
            yaml.safe_dump(config, f, sort_keys=False, allow_unicode=True)
        try:
            model = load_transducer(str(trial), str(exp / checkpoint))
        except UserError as e:
            raise UserError(str(e).replace(str(trial), str(exp / "config.yaml"))) from e
        bins = model.frontend.output_size() if model.frontend is not None else None
        if stats is not None and bins not in (None, len(stats["sum"])):
            raise UserError(
                f"{exp}/{checkpoint}: has statistics of {len(stats['sum'])} features, the front "
                f"end of {exp}/config.yaml makes {bins}"
            )
        return model


def _with_stats(config: Dict[str, Any], stats_file: Path) -> Dict[str, Any]:
    return {**(config.get("normalize_conf") or {}), "stats_file": str(stats_file)}


def _rate(fs: Any, where: str) -> int:
    try:
        return sampling_rate(str(fs))
    except argparse.ArgumentTypeError as e:
        raise UserError(f"{where}: {e}") from None


def _roots(exp: Path) -> "list[Path]":
    """List the folders in which relative paths of the config may start.

    That is the folder above `exp/`. The folder that we work in is not among them: its files
    may well have the same names.
    """
    parents = exp.resolve().parents
    return [*parents[1:2], *parents[:1], *parents[2:3], exp]


def _find(config_file: Path, key: str, name: Optional[str], roots: "list[Path]") -> Path:
    if not name:
        raise UserError(f"{config_file}: {key} is not set")
    for path in [root / name for root in roots] + [config_file.parent / Path(name).name]:
        if path.is_file():
            return path
    raise UserError(
        f"{config_file}: {key} is {name}, which is neither there nor beside the config"
    )


def _tokens(config_file: Path, config: Dict[str, Any], roots: "list[Path]") -> "list[str]":
    tokens = config.get("token_list")
    if isinstance(tokens, list):
        return [str(token) for token in tokens]
    path = _find(config_file, "token_list", tokens, roots)
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 ({e.reason} at byte {e.start})") from None


def _stats(
    config_file: Path, config: Dict[str, Any], roots: "list[Path]", checkpoint: Path
) -> Optional[Dict[str, Any]]:
    """Return the statistics of global_mvn: the checkpoint's, or else those of the file."""
    if config.get("normalize") != "global_mvn":
        return None
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such file; --teacher_model names it")
    state = load_state(checkpoint)
    if "normalize.mean" in state and "normalize.std" in state:
        # GlobalMVN turns count, sum and sum of squares into mean and deviation again.
        mean, std = (state[f"normalize.{key}"].double().numpy() for key in ("mean", "std"))
        return {"count": np.array(1.0), "sum": mean, "sum_square": std**2 + mean**2}
    name = (config.get("normalize_conf") or {}).get("stats_file")
    return read_stats(_find(config_file, "normalize_conf.stats_file", name, roots))


def _copy(source: Path, to: Path) -> None:
    with atomic_path(to) as tmp:
        shutil.copyfile(source, tmp)
