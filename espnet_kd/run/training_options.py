"""Options of a training, or of a decoding: its configs and command line as one mapping.

Comments, the order of keys and the file's name do not count. Options that do not change what
is learnt for stand apart, and so does the number of epochs, which may grow.
"""

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.errors import UserError
from espnet_kd.spec.option_values import criteria_of

ESPNET_EPOCHS = 40  # ESPnet's own `max_epoch`, where nobody names another
ESPNET_KEPT = 10  # and `keep_nbest_models`
# By what ESPnet chooses the checkpoints that it keeps, where nobody says.
ESPNET_CRITERIA = [[phase, what] for what in ("loss", "acc") for phase in ("train", "valid")]
NO_TRANSDUCERS = "acc"  # which of them a transducer does not have

# How fast the same is learnt, on what, and what is said of it meanwhile. Batches are among
# them: after out-of-memory a training goes on with smaller ones.
NEUTRAL = frozenset(
    "batch_size batch_bins valid_batch_size valid_batch_bins min_batch_size max_batch_size "
    "accum_grad num_workers ngpu max_cache_size max_cache_fd valid_max_cache_size "
    "log_interval log_level num_att_plot print_config dry_run "
    "dist_backend dist_init_method dist_world_size dist_rank local_rank dist_master_addr "
    "dist_master_port dist_launcher multiprocessing_distributed "
    "cudnn_enabled cudnn_benchmark cudnn_deterministic "
    "use_matplotlib use_tensorboard create_graph_in_tensorboard use_wandb wandb_project "
    "wandb_id wandb_entity wandb_name wandb_model_log_interval".split()
)
# Options that may be given several times, each adding a value.
REPEATED = frozenset(
    "train_shape_file valid_shape_file fold_length train_data_path_and_name_and_type "
    "valid_data_path_and_name_and_type".split()
)


class TrainingOptions:
    """The merged options.

    Attributes:
        options: Options that determine the result.
        neutral: Options that do not.
        epochs: `max_epoch`, if it was named.
    """

    def __init__(self) -> None:
        """Start without any."""
        self.options: Dict[str, Any] = {}
        self.neutral: Dict[str, Any] = {}
        self.epochs: Optional[str] = None

    def add_config(self, path: str) -> None:
        """Merge a YAML file.

        Raises:
            UserError: see `read_yaml`.
        """
        from espnet_kd.common.yaml_file import read_yaml

        for name, value in read_yaml(path, "an option names it").items():
            self._set(str(name), _plain(value))

    def add_words(self, words: str) -> None:
        """Merge options of a command line, split at blanks as the shell does it."""
        for name, written in words_of(words):
            values = [_plain(value) for value in written] if name else written
            if name in REPEATED:
                old = self.options.get(name)
                self._set(name, [*(old if isinstance(old, list) else []), *values])
            elif name.endswith("_conf") and values and all("=" in value for value in values):
                self._set(name, _nested(values, self.options.get(name)))
            else:
                self._set(name, values[0] if len(values) == 1 else values)

    def keep(self, prefix: str) -> None:
        """Forget the options whose names do not begin with a prefix."""
        self.options = {k: v for k, v in self.options.items() if k.startswith(prefix)}
        self.neutral = {}
        self.epochs = None

    def _set(self, name: str, value: Any) -> None:
        if name == "max_epoch":
            self.epochs = str(value)
        elif name in NEUTRAL:
            self.neutral[name] = value
        else:
            self.options[name] = value


def not_kept(options: Mapping[str, Any], checkpoint: str) -> Optional[Tuple[str, str]]:
    """Say that a training keeps no checkpoint of the name that is decoded with.

    Args:
        options: Options of the training, as a config file has them; right ones.
        checkpoint: `valid.loss_transducer.ave.pth`, or `...ave_3best.pth`; names without a
            criterion are always kept.

    Returns:
        The option that it is due to, and what is wrong; None: it is kept.
    """
    of = re.fullmatch(r"(train|valid)\.(\w+)\.(?:ave|best)(?:_(\d+)best)?\.pth", checkpoint)
    if of is None:
        return None
    rows = options.get("best_model_criterion") or ESPNET_CRITERIA
    kept = [tuple(row[:2]) for row in rows if row[1] != NO_TRANSDUCERS]
    decoded = f"{checkpoint} is decoded with (--inference_asr_model)"
    if of[2] == NO_TRANSDUCERS:
        return "best_model_criterion", f"{decoded}, and a transducer has no {of[2]}; name another"
    if (of[1], of[2]) not in kept:
        names = ", ".join(".".join(pair) for pair in kept) or "none that a transducer has"
        advice = f"add {of[1]}, {of[2]}, min"
        return "best_model_criterion", f"checkpoints are kept by {names}, and {decoded}; {advice}"
    counts = options.get("keep_nbest_models") or ESPNET_KEPT
    means = [str(count) for count in (counts if isinstance(counts, list) else [counts])]
    if of[3] and of[3] not in means:
        several = " and ".join(means)
        return "keep_nbest_models", f"means of {several} are kept, and {decoded}; add {of[3]}"
    return None


def kept_by(words: Sequence[Tuple[str, List[str]]]) -> Dict[str, Any]:
    """Return what options of a command line say of checkpoints, as a config file has it."""
    options = dict(words)
    kept: Dict[str, Any] = {}
    if "best_model_criterion" in options:
        kept["best_model_criterion"] = criteria_of(options["best_model_criterion"])
    if "keep_nbest_models" in options:
        kept["keep_nbest_models"] = options["keep_nbest_models"]
    return kept


def words_of(words: str) -> List[Tuple[str, List[str]]]:
    """Split options of a command line: names without dashes, and values as they are written."""
    options: List[Tuple[str, List[str]]] = []
    for word in words.split():
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options.append((name.replace("-", "_"), [_unquoted(value)] if equals else []))
        elif options:
            options[-1][1].append(_unquoted(word))
        else:
            options.append(("", [word]))
    return options


def update_config(config: Dict[str, Any], wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a training config with the neutral options and `max_epoch` of another."""
    changing = (*NEUTRAL, "max_epoch")
    kept = {name: value for name, value in config.items() if name not in changing}
    return {**kept, **{name: wanted[name] for name in wanted if name in changing}}


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] == "'" else word


def _nested(pairs: List[str], old: Any) -> Dict[str, Any]:
    """`a.b=1` as `{"a": {"b": "1"}}` over what was there, as ESPnet reads it."""
    conf: Dict[str, Any] = dict(old) if isinstance(old, dict) else {}
    for pair in pairs:
        names, _, value = pair.partition("=")
        *path, last = names.split(".")
        place = conf
        for name in path:
            below = place.get(name)
            place[name] = dict(below) if isinstance(below, dict) else {}
            place = place[name]
        place[last] = _plain(value)
    return conf


def typed(value: Any) -> Any:
    """Return values of a command line as a file would hold them."""
    from espnet_kd.common.yaml_file import parse_yaml

    if isinstance(value, dict):
        return {key: typed(below) for key, below in value.items()}
    try:
        return parse_yaml(value, "a command line").data if isinstance(value, str) else value
    except UserError:
        return value


def _plain(value: Any) -> Any:
    """A value of a YAML file as a command line would spell it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None:
        return "none"
    word = str(value)
    if word.lower() in ("true", "false", "none"):
        return word.lower()
    try:
        number = float(word)
    except ValueError:
        return word
    whole = abs(number) < 1e15 and number.is_integer()
    return str(int(number)) if whole else repr(number)
