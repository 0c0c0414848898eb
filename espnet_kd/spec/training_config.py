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
from espnet_kd.spec.values import whole_number

# What `anneal: through` and drafted rates are for: optimizers with moments, and the scheduler
# whose rates end at zero.
ADAMS, TO_ZERO = ("adam", "adamw"), "warmupanneal"
LOGGERS = ("wandb", "tensorboard", "matplotlib")  # packages that ESPnet's `use_*` ask for


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


def read_config(path: Optional[str]) -> TrainingConfig:
    """Read the students' training config; no path: an empty one.

    Raises:
        UserError: no such file, no YAML, or a wrong value of an option that we know.
    """
    if not path:
        return TrainingConfig()
    options, lines = read_document(path, "a training config for students is needed")
    with lines_in_messages(path, lines):
        # Options of the command line may overrule the loggers that it asks for.
        return read_training(options, path, f"{path}: ", loggers=False)


def read_train(where: str, options: Any) -> TrainingConfig:
    """Read the `train` of a stage.

    Raises:
        UserError: no options by name, or a wrong value of an option that we know.
    """
    if not isinstance(options or {}, dict):
        raise UserError(f"{where}: expected options by name, found {shown(options)}")
    return read_training(options or {}, where, f"{where}.")


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
