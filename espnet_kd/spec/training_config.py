"""A training config for students, and a stage's `train`, which overrules it.

Nearly all of its options are ESPnet's, which alone knows them (`espnet/plan_checks.py` compares
the names). A few we read ourselves.
"""

import dataclasses
import importlib.util
import sys
from typing import Any, Dict, Mapping, Optional

from espnet_kd.common.yaml_file import lines_in_messages, read_document
from espnet_kd.errors import UserError, shown
from espnet_kd.spec.distillation import Distillation, read_kd_conf
from espnet_kd.spec.values import check_exponents, number, whole_number

# What `anneal: through` and drafted rates are for: optimizers with moments, and the scheduler
# whose rates end at zero.
ADAMS, TO_ZERO = ("adam", "adamw"), "warmupanneal"
LOGGERS = ("wandb", "tensorboard", "matplotlib")  # packages that ESPnet's `use_*` ask for
# What makes a model: of a student, its teacher and the sizes of its stage.
MAKES_MODEL = "token_list input_size frontend frontend_conf normalize normalize_conf".split()
MAKES_MODEL += "encoder decoder".split()
THE_TEACHERS = (
    "a student has its teacher's model, with the sizes that `student` or `target` of its stage "
    "says; leave it out"
)
# Whole numbers that ESPnet does not take as 1e6; of others that stand alone it does.
WHOLE = ("batch_bins", "batch_size", "valid_batch_bins", "valid_batch_size", "accum_grad")
OF_STAGE = ("method_conf", "init_moments")  # derivation writes them
PLACE = ("epochs_before", "epochs_after")  # of a training in a schedule, in `scheduler_conf`


def _rate(where: str, value: Any) -> float:
    return number(where, value, 0, 1)


# What of the model's options is training's alone: dropout, and the chunks that are drawn.
OF_TRAINING: Dict[str, Any] = {
    "encoder_conf": {
        "main_conf": {
            "short_chunk_size": lambda where, value: whole_number(where, value, 1),
            "short_chunk_threshold": _rate,
            "num_left_chunks": whole_number,
            "blockdrop_rate": _rate,
        }
    },
    "decoder_conf": {"embed_dropout_rate": _rate, "dropout_rate": _rate},
    "joint_network_conf": {},
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
        main = self.options.get("encoder_conf", {}).get("main_conf", {})
        return {key: value for key, value in main.items() if "chunk" in key}

    def with_chunks_of(self, *others: "TrainingConfig") -> "TrainingConfig":
        """Return the same with the chunks of other configs, each over those before."""
        chunks = {key: value for other in others for key, value in other.chunks.items()}
        if not chunks:
            return self
        main = self.options.get("encoder_conf", {}).get("main_conf", {})
        conf = {"encoder_conf": {"main_conf": {**main, **chunks}}}
        return dataclasses.replace(self, options={**self.options, **conf})


def read_config(path: Optional[str], of_student: bool = True) -> TrainingConfig:
    """Read a training config; no path: an empty one.

    Args:
        path: The file.
        of_student: Whether it is the students', which makes no model.

    Raises:
        UserError: no such file, no YAML, a wrong value of an option that we know, or one that
            makes the model.
    """
    if not path:
        return TrainingConfig()
    options, lines = read_document(path, "a training config for students is needed")
    with lines_in_messages(path, lines):
        if of_student:
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
    for key, value in options.items():
        if key.endswith("_conf") and not isinstance(value, (Mapping, type(None))):
            raise UserError(f"{prefix}{key}: expected options by name, found {shown(value)}")
        if key.endswith("_conf") or key in WHOLE:
            check_exponents(f"{prefix}{key}", value)
    optim = options.get("optim_conf") or {}
    if "lr" in optim:
        number(f"{prefix}optim_conf.lr", optim["lr"], 0)
    kd = read_kd_conf(options.get("kd_conf"), f"{prefix}kd_conf")
    if loggers:
        check_loggers(options, prefix)
    return TrainingConfig(where, options, kd)


def check_model(options: Mapping[str, Any], prefix: str) -> None:
    """Check that a training of a student says no more of the model than `OF_TRAINING`.

    Args:
        options: Options of a training.
        prefix: Beginning of their names in messages, such as `plan.yaml: stages[0].train.`.

    Raises:
        UserError: an option that makes a model, or a wrong value of another.
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
    for key in PLACE:
        conf = options.get("scheduler_conf")
        if isinstance(conf, Mapping) and key in conf:
            raise UserError(
                f"{prefix}scheduler_conf.{key}: is written by derivation, where a stage says "
                "'anneal: through'; leave it out"
            )
    for key in OF_TRAINING:
        if key in options:
            _check_section(f"{prefix}{key}", options[key], OF_TRAINING[key])


def _check_section(where: str, conf: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(conf, Mapping):
        raise UserError(f"{where}: expected options by name, found {shown(conf)}")
    for key, value in conf.items():
        if key not in known:
            raise UserError(f"{where}.{key}: {THE_TEACHERS}")
        if isinstance(known[key], Mapping):
            _check_section(f"{where}.{key}", value, known[key])
        else:
            known[key](f"{where}.{key}", value)


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


def overruled(config: Mapping[str, Any], *parts: TrainingConfig) -> Dict[str, Any]:
    """Lay training configs over a config, each over those before.

    Args:
        config: The config.
        parts: The training configs; in options by name, such as `model_conf`, they overrule those
            that they name.
    """
    config = dict(config)
    for part in parts:
        config = _laid_over(config, part.options)
    return config


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            value = _laid_over(merged[key], value)
        merged[key] = value
    return merged
