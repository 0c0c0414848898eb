"""Take over a transducer that the user trained with ESPnet."""

import argparse
import shutil
from pathlib import Path
from typing import Any, Mapping, Optional

import numpy as np
import torch
import yaml

from espnet_kd.cli import sampling_rate
from espnet_kd.common.records import FACTS
from espnet_kd.data.bpe import check_pieces
from espnet_kd.errors import UserError
from espnet_kd.espnet.standalone import find_file, read_standalone, roots_of, with_stats
from espnet_kd.espnet.stock import model_of
from espnet_kd.fileio import atomic_open, atomic_path, file_digest, save_tensors
from espnet_kd.methods.protocol import Model
from espnet_kd.saved import load_state
from espnet_kd.spec.teacher_kinds import only_teaches


def import_teacher(
    exp: Path,
    checkpoint: str,
    fs: str,
    token_dir: Path,
    out: Path,
    template: Optional[Path] = None,
) -> str:
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
        template: Training config of a conformer, see `read_model`; None: a teacher that cannot
            be cut is refused.

    Returns:
        A line that says what was imported.

    Raises:
        UserError: it cannot teach (`spec.teacher_kinds`); config, checkpoint, token list, BPE
            model and statistics do not fit together; another sampling rate; or a file that
            the config names is missing.
    """
    config_file = exp / "config.yaml"
    config, model, stats = read_standalone(exp, checkpoint, ("--teacher_exp", "--teacher_model"))
    front = config.get("frontend_conf") or {}
    rate = _rate(front.get("fs", "16k"), f"{config_file}: frontend_conf.fs")
    recipe_rate = _rate(fs, "--fs")
    if config.get("input_size") is None and rate != recipe_rate:
        raise UserError(
            f"{config_file}: frontend_conf.fs is {rate} Hz, the recipe's audio has {recipe_rate} "
            "Hz; give the teacher's rate with --fs"
        )
    local, bpe = dict(config), None
    if config.get("token_type") == "bpe":
        bpe = find_file(config_file, "bpemodel", config.get("bpemodel"), roots_of(exp))
        check_pieces(bpe, local["token_list"], f"{config_file}: token_list")
        local["bpemodel"] = str(token_dir / "bpe.model")
    # Statistics are not in their place yet.
    known = model_of(model, {**local, "normalize": None}, config_file, template)

    out.mkdir(parents=True, exist_ok=True)
    token_dir.mkdir(parents=True, exist_ok=True)
    if stats is not None:
        with atomic_path(out / "feats_stats.npz") as tmp, open(tmp, "wb") as f:
            np.savez(f, **stats)
        local["normalize_conf"] = with_stats(local, out / "feats_stats.npz")
    if bpe is not None:
        _copy(bpe, token_dir / "bpe.model")
    with atomic_open(token_dir / "tokens.txt") as f:
        f.writelines(f"{token}\n" for token in local["token_list"])
    with atomic_path(out / checkpoint) as tmp:
        # Ours are not ESPnet's names where the encoder is wrapped.
        cut = known.taught_by is None
        state = model.state_dict() if cut else load_state(exp / checkpoint)
        save_tensors(state, tmp, torch.save)
    origin = {"imported_from": str(exp), "checkpoint": checkpoint}
    FACTS.write(out, {**origin, "checkpoint_sha256": file_digest(exp / checkpoint)})
    with atomic_open(out / "config.yaml") as f:  # last: its presence says all is there
        yaml.safe_dump(local, f, sort_keys=False, allow_unicode=True)
    return (
        f"imported {exp}/{checkpoint}: {known.sizes.params:,} parameters, "
        f"{_in_words(known, config)}, {known.sizes.vocab} tokens ({config.get('token_type')}), "
        f"{rate} Hz"
    )


def _in_words(model: Model, config: Mapping[str, Any]) -> str:
    if model.taught_by is None:
        return model.sizes.in_words()
    return f"which teach but are not cut ({only_teaches(config)})"


def _rate(fs: Any, where: str) -> int:
    try:
        return sampling_rate(str(fs))
    except argparse.ArgumentTypeError as e:
        raise UserError(f"{where}: {e}") from None


def _copy(source: Path, to: Path) -> None:
    with atomic_path(to) as tmp:
        shutil.copyfile(source, tmp)
