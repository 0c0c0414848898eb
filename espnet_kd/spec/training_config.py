"""A training config for students, and a stage's `train`, which overrules it.

Nearly all of its options are ESPnet's, which alone knows them (`espnet/plan_checks.py` compares
the names). A few we read ourselves.
"""

import dataclasses
import importlib.util
import sys
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from espnet_kd.common.yaml_file import lines_in_messages, read_document
from espnet_kd.errors import UserError, shown
from espnet_kd.spec.distillation import Distillation, read_kd_conf
from espnet_kd.spec.values import number, whole_number

# What `anneal: through` and drafted rates are for: optimizers with moments, and the scheduler
# whose rates end at zero.
ADAMS, TO_ZERO = ("adam", "adamw"), "warmupanneal"
LOGGERS = ("wandb", "tensorboard", "matplotlib")  # packages that ESPnet's `use_*` ask for
# What makes a model, but for chunks: of a student, its teacher and the sizes of its stage.
MAKES_MODEL = (
    "token_list input_size frontend frontend_conf normalize normalize_conf encoder decoder "
    "decoder_conf joint_network_conf"
).split()
OF_STAGE = ("method_conf", "init_moments")  # derivation writes them
THE_TEACHERS = (
    "a student has its teacher's model, with the sizes that `student` or `target` of its stage "
    "says; leave it out"
)
# Of `encoder_conf.main_conf`: the chunks that are drawn in training.
CHUNKS: Dict[str, Callable[[str, Any], Any]] = {
    "short_chunk_size": lambda where, value: whole_number(where, value, 1),
    "short_chunk_threshold": lambda where, value: number(where, value, 0, 1),
    "num_left_chunks": whole_number,
}


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Options of a training.

    Attributes:
        where: File or place in the plan, for messages.
        options: All options, as they are written.
        kd: Options of its `kd_conf`.
    """

    where: str = "training config"
    options: Dict[str, Any] = dataclasses.field(default_factory=dict)
    kd: Distillation = Distillation()

    @property
    def max_epoch(self) -> Optional[int]:
        """Return the epoch that training ends with, if it is named."""
        return self.options.get("max_epoch")

    @property
    def chunks(self) -> Dict[str, Any]:
        """Return what it says of the chunks that are drawn in training."""
        return dict(self.options.get("encoder_conf", {}).get("main_conf", {}))

    def with_chunks_of(self, *others: "TrainingConfig") -> "TrainingConfig":
        """Return the same with the chunks of other configs, each over those before."""
        chunks = {key: value for other in others for key, value in other.chunks.items()}
        if not chunks:
            return self
        conf = {"encoder_conf": {"main_conf": chunks}}
        return dataclasses.replace(self, options={**self.options, **conf})


def read_config(path: Optional[str]) -> TrainingConfig:
    """Read the students' training config; no path: an empty one.

    Raises:
        UserError: no such file, no YAML, a wrong value of an option that we know, or one that
            makes the model.
    """
    if not path:
        return TrainingConfig()
    options, lines = read_document(path, "a training config for students is needed")
    with lines_in_messages(path, lines):
        check_model(options, f"{path}: ")
        # Options of the command line may overrule the loggers that it asks for.
        return read_training(options, path, f"{path}: ", loggers=False)


def read_train(where: str, options: Any) -> TrainingConfig:
    """Read the `train` of a stage.

    Raises:
        UserError: no options by name, a wrong value of an option that we know, or one that
            makes the model.
    """
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise UserError(f"{where}: expected options by name, found {shown(options)}")
    check_model(options, f"{where}.")
    return read_training(options, where, f"{where}.")


def read_training(
    options: Dict[str, Any], where: str, prefix: str, loggers: bool = True
) -> TrainingConfig:
    """Read what we know of the options of a training.

    Args:
        options: The options.
        where: File or place in the plan.
        prefix: Beginning of their names in messages, such as `plan.yaml: stages[0].train.`.
        loggers: Whether the loggers that it asks for must be installed.

    Raises:
        UserError: a wrong value, or a logger that is not installed.
    """
    if options.get("max_epoch") is not None:
        whole_number(f"{prefix}max_epoch", options["max_epoch"], 1)
    kd = read_kd_conf(options.get("kd_conf"), f"{prefix}kd_conf")
    if loggers:
        check_loggers(options, prefix)
    return TrainingConfig(where, options, kd)


def check_model(options: Mapping[str, Any], prefix: str) -> None:
    """Check that a training of a student says no more of the model than its chunks.

    Args:
        options: Options of a training.
        prefix: Beginning of their names in messages, such as `plan.yaml: stages[0].train.`.

    Raises:
        UserError: an option that makes a model, or a wrong value of the chunks.
    """
    for key in MAKES_MODEL:
        if key in options:
            raise UserError(f"{prefix}{key}: {THE_TEACHERS}")
    for key in OF_STAGE:
        if key in options:
            raise UserError(
                f"{prefix}{key}: is written by derivation; a method's options stand in the stage, "
                "beside its `train`"
            )
    where, conf = _below(prefix, "encoder_conf", options)
    for key in conf:
        if key != "main_conf":
            raise UserError(f"{where}.{key}: {THE_TEACHERS}")
    where, conf = _below(f"{where}.", "main_conf", conf)
    for key, value in conf.items():
        if key not in CHUNKS:
            raise UserError(f"{where}.{key}: {THE_TEACHERS}")
        CHUNKS[key](f"{where}.{key}", value)


def _below(prefix: str, key: str, options: Mapping[str, Any]) -> Tuple[str, Mapping[str, Any]]:
    """Return the name of an option for messages, and the options below it; none: empty."""
    below = options.get(key, {})
    if not isinstance(below, Mapping):
        raise UserError(f"{prefix}{key}: expected options by name, found {shown(below)}")
    return f"{prefix}{key}", below


def check_loggers(options: Mapping[str, Any], prefix: str) -> None:
    """Check that the packages are there which a training config asks for.

    ESPnet asks for them after minutes of preparation.

    Args:
        options: Options of a training.
        prefix: Beginning of their names in messages, such as `plan.yaml: stages[0].train.`.

    Raises:
        UserError: a package is not installed.
    """
    for package in LOGGERS:
        there = package in sys.modules or importlib.util.find_spec(package)
        if options.get(f"use_{package}") and not there:
            raise UserError(
                f"{prefix}use_{package}: the package {package} is not installed; "
                f"pip install {package}, or say false"
            )
