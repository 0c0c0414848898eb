"""Read a transducer that was trained with ESPnet anywhere, from where its experiment lies now.

Paths in a config (token list, BPE model, statistics) hold only in the recipe that trained it.
"""

import copy
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
import yaml
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.feature_stats import read_stats
from espnet_kd.errors import UserError
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.saved import load_state
from espnet_kd.spec.teacher_kinds import check_teacher


class Standalone(NamedTuple):
    """An experiment of ESPnet's standalone transducer.

    Attributes:
        config: Config of the model, with the tokens themselves in `token_list`.
        model: Model of ESPnet's.
        stats: Statistics of `global_mvn`, as ESPnet's `.npz` holds them; None: of none.
    """

    config: Dict[str, Any]
    model: ESPnetASRTransducerModel
    stats: Optional[Dict[str, Any]]


def read_standalone(exp: Path, checkpoint: str, options: "tuple[str, str]") -> Standalone:
    """Load an experiment and check that its parts fit together.

    Args:
        exp: The experiment, with `config.yaml`.
        checkpoint: File name of a checkpoint in it.
        options: Options that name the two, for messages.

    Raises:
        UserError: it cannot teach (`spec.teacher_kinds`); config, checkpoint, token list and
            statistics do not fit together; or a file that the config names is missing.
    """
    config_file = exp / "config.yaml"
    config = _read(config_file, options[0])
    roots = roots_of(exp)
    local = copy.deepcopy(config)
    local["token_list"] = _tokens(config_file, config, roots)
    stats = _stats(config_file, config, roots, exp / checkpoint, options[1])
    return Standalone(local, _checked(local, stats, exp, checkpoint), stats)


def _read(path: Path, option: str) -> Dict[str, Any]:
    config = read_yaml(path, f"{option} names an ESPnet experiment (exp/asr_...)")
    check_teacher(config, path)
    return config


def _checked(
    config: Dict[str, Any], stats: Optional[Dict[str, Any]], exp: Path, checkpoint: str
) -> ESPnetASRTransducerModel:
    """Build the model in a folder of its own: ESPnet reads statistics by their path."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "config.yaml"
        if stats is not None:
            file = Path(folder) / "feats_stats.npz"
            np.savez(file, **stats)
            config = {**config, "normalize_conf": with_stats(config, file)}
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


def with_stats(config: Dict[str, Any], stats_file: Path) -> Dict[str, Any]:
    """Name the statistics in `normalize_conf`."""
    return {**(config.get("normalize_conf") or {}), "stats_file": str(stats_file)}


def roots_of(exp: Path) -> List[Path]:
    """List the folders in which relative paths of a config may start.

    That is the folder above `exp/`. The folder that we work in is not among them: its files
    may well have the same names.
    """
    parents = exp.resolve().parents
    return [*parents[1:2], *parents[:1], *parents[2:3], exp]


def find_file(config_file: Path, key: str, name: Optional[str], roots: List[Path]) -> Path:
    """Return the file that a config names.

    Raises:
        UserError: it is neither below one of `roots` nor beside the config.
    """
    if not name:
        raise UserError(f"{config_file}: {key} is not set")
    for path in [root / name for root in roots] + [config_file.parent / Path(name).name]:
        if path.is_file():
            return path
    raise UserError(
        f"{config_file}: {key} is {name}, which is neither there nor beside the config"
    )


def _tokens(config_file: Path, config: Dict[str, Any], roots: List[Path]) -> List[str]:
    tokens = config.get("token_list")
    if isinstance(tokens, list):
        return [str(token) for token in tokens]
    path = find_file(config_file, "token_list", tokens, roots)
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 ({e.reason} at byte {e.start})") from None


def _stats(
    config_file: Path, config: Dict[str, Any], roots: List[Path], checkpoint: Path, option: str
) -> Optional[Dict[str, Any]]:
    """Return the statistics of global_mvn: the checkpoint's, or else those of the file."""
    if config.get("normalize") != "global_mvn":
        return None
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such file; {option} names it")
    state = load_state(checkpoint)
    if "normalize.mean" in state and "normalize.std" in state:
        # GlobalMVN turns count, sum and sum of squares into mean and deviation again.
        mean, std = (state[f"normalize.{key}"].double().numpy() for key in ("mean", "std"))
        return {"count": np.array(1.0), "sum": mean, "sum_square": std**2 + mean**2}
    name = (config.get("normalize_conf") or {}).get("stats_file")
    return read_stats(find_file(config_file, "normalize_conf.stats_file", name, roots))
