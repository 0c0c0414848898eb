"""Take over a transducer that the user trained with ESPnet."""

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional

import humanfriendly
import numpy as np
import torch
import yaml
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.cut import sizes_of
from espnet_kd.espnet.teacher import load_state, load_transducer
from espnet_kd.fileio import atomic_open, atomic_path, save_tensors


def import_teacher(exp: Path, checkpoint: str, fs: str, token_dir: Path, out: Path) -> str:
    """Copy a trained transducer to where the recipe's own teacher would be.

    Nothing is written into the user's directory. Paths in the copied config (token list,
    BPE model, statistics), which hold only in the recipe that trained it, are replaced by
    copies in `out` and `token_dir`.

    Args:
        exp: The user's experiment, with `config.yaml`.
        checkpoint: File name of a checkpoint in it.
        fs: Sampling rate of the recipe, e.g. `16k`.
        token_dir: Where the recipe's token list and BPE model are to lie.
        out: The experiment to make.

    Returns:
        A line that says what was imported.

    Raises:
        UserError: not a standalone conformer transducer, config and checkpoint do not fit,
            another sampling rate, or a file that the config names is missing.
    """
    config_file = exp / "config.yaml"
    config = _read(config_file)
    rate = _rate((config.get("frontend_conf") or {}).get("fs", "16k"))
    if config.get("input_size") is None and rate != _rate(fs):
        raise UserError(
            f"{config_file}: frontend_conf.fs is {rate} Hz, the recipe's audio has {_rate(fs)} "
            "Hz; give the teacher's rate with --fs"
        )
    roots = _roots(exp)
    local = copy.deepcopy(config)
    local["token_list"] = _tokens(config_file, config, roots)
    bpe = None
    if config.get("token_type") == "bpe":
        bpe = _find(config_file, "bpemodel", config.get("bpemodel"), roots)
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
    with atomic_open(out / "config.yaml") as f:  # last: its presence says all is there
        yaml.safe_dump(local, f, sort_keys=False, allow_unicode=True)
    return (
        f"imported {exp}/{checkpoint}: {sizes.params:,} parameters, {sizes.num_blocks} blocks "
        f"of width {sizes.hidden_size}, {sizes.vocab} tokens ({config.get('token_type')}), "
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
            return load_transducer(str(trial), str(exp / checkpoint))
        except UserError as e:
            raise UserError(str(e).replace(str(trial), str(exp / "config.yaml"))) from e


def _with_stats(config: Dict[str, Any], stats_file: Path) -> Dict[str, Any]:
    return {**(config.get("normalize_conf") or {}), "stats_file": str(stats_file)}


def _rate(fs: Any) -> int:
    return humanfriendly.parse_size(fs) if isinstance(fs, str) else int(fs)


def _roots(exp: Path) -> "list[Path]":
    """Where relative paths of the config may start: here, or the recipe that trained it."""
    return [Path("."), *exp.resolve().parents[:3], exp]


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
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _stats(
    config_file: Path, config: Dict[str, Any], roots: "list[Path]", checkpoint: Path
) -> Optional[Dict[str, Any]]:
    """Return the statistics of global_mvn; made from the checkpoint if the file is gone."""
    if config.get("normalize") != "global_mvn":
        return None
    name = (config.get("normalize_conf") or {}).get("stats_file")
    try:
        return _read_stats(_find(config_file, "normalize_conf.stats_file", name, roots))
    except UserError:
        if not checkpoint.is_file():
            raise UserError(f"{checkpoint}: no such file; --teacher_model names it") from None
        state = load_state(str(checkpoint))
        if "normalize.mean" not in state or "normalize.std" not in state:
            raise
        # GlobalMVN turns count, sum and sum of squares into mean and deviation again.
        mean, std = (
            state["normalize.mean"].double().numpy(),
            state["normalize.std"].double().numpy(),
        )
        return {"count": np.array(1.0), "sum": mean, "sum_square": std**2 + mean**2}


def _read_stats(path: Path) -> Dict[str, Any]:
    try:
        with np.load(path) as stats:
            return dict(stats)
    except Exception as e:  # a file of another kind makes numpy raise almost anything
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(f"{path}: not the statistics of features: {reason}") from e


def _copy(source: Path, to: Path) -> None:
    with atomic_path(to) as tmp:
        shutil.copyfile(source, tmp)
