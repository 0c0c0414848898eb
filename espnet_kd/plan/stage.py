"""One entry of the plan, read and checked."""

import dataclasses
import hashlib
import importlib.util
import json
import re
import sys
from typing import Any, Dict, Mapping, Optional, Tuple

from espnet_kd.errors import UserError, check_choice, check_name, shown
from espnet_kd.kd_option_checks import whole_number
from espnet_kd.kd_options import DistillOptions
from espnet_kd.plan.gate import Gate, parse_gate
from espnet_kd.run.training_options import NEUTRAL
from espnet_kd.students.named_sizes import check_sizes
from espnet_kd.students.target import parse_target

# Keys of a stage that are handed to `kd_conf` as they are.
KD_KEYS = (
    "objective",
    "divergence",
    "weight",
    "weight_schedule",
    "temperature",
    "normalize",
    "nodes",
    "frame_shift",
    "top_k",
    "ctc_weight",
    "encoder_weight",
    "layers",
    "layer_weight",
    "first_weight",
    "teacher_features",
    "teacher_context",
    "teacher_dtype",
)
# Keys of a stage that are one word of several; the first is the default.
CHOICES = {
    "init": ("teacher", "random"),
    "blocks": ("spaced", "influence", "skip_loss"),
    "units": ("weight", "taylor"),
    "allocate": ("rule", "sensitivity"),
    "labels": ("transcript", "teacher"),
}
STAGE_KEYS = ("name", "target", "student", "epochs", "train", "gate", *CHOICES) + KD_KEYS
LONGEST_NAME = 60  # a file system takes 255 bytes, and paths and tags come before it
RESERVED = ("teacher",)
LOGGERS = ("wandb", "tensorboard", "matplotlib")  # packages that ESPnet's `use_*` ask for
PLANNED = "progressive"  # the path of the plan's own stages


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One student.

    Attributes:
        number: 1 for the first stage of the plan; a student that a gate or a path adds has
            the number of the stage whose size it has or leads to.
        name: Part of the student's directory name.
        where: `file: stages[0]`, for messages.
        target: Fraction of the first teacher's parameters, or None.
        sizes: The student's sizes by ESPnet's names, or None.
        epochs: Epochs of distillation; None leaves the training config's.
        init: `teacher`: inherited weights; `random`.
        blocks: Which blocks are inherited: `spaced` evenly; those with the largest block
            `influence`; those whose absence costs the largest loss (`skip_loss`).
        units: Which units are inherited, by the norm of their `weight` or by `taylor`.
        allocate: How a target becomes sizes: by our `rule` or by measured `sensitivity`.
        labels: What the student's RNN-T loss is taken against: the `transcript`, or what
            the `teacher` makes of the training set (hard labels).
        kd: `kd_conf` without the teacher.
        train: Overrides of the training config.
        gate: When it may be the next one's teacher; None: always.
        path: `progressive`, or the path (`plan.paths`) that it was added for.
        teacher: Name of the student that it learns from; None: the run's first teacher.
        way: Stages whose sizes, each derived from the one before and the first from the
            first teacher, lead to this student's; empty: one step below its teacher.
        half: Its size is the geometric mean of the last two that `way` leads to.
        until: The epoch that training ends with since a gate asked for more; None: `epochs`.
    """

    number: int
    name: str
    where: str
    target: Optional[float]
    sizes: Optional[Mapping[str, Any]]
    epochs: Optional[int]
    init: str
    blocks: str
    units: str
    allocate: str
    labels: str
    kd: Dict[str, Any]
    train: Dict[str, Any]
    gate: Optional[Gate] = None
    path: str = PLANNED
    teacher: Optional[str] = None
    way: Tuple["StagePlan", ...] = ()
    half: bool = False
    until: Optional[int] = None

    def fingerprint(self) -> str:
        """Return a short hash of all that determines how this student is made.

        What comes after its training (the gate and what that added) is not in it, nor who
        its teacher is: the recipe compares the teacher's own files. Nor how long it is
        trained, which may grow, and in what batches: see `training_digest`.
        """
        said = dataclasses.asdict(dataclasses.replace(self, way=()))
        for key in ("where", "gate", "until", "teacher", "path", "way", "half", "epochs"):
            del said[key]
        said["train"] = {k: v for k, v in self.train.items() if k not in (*NEUTRAL, "max_epoch")}
        if self.path != PLANNED:
            del said["number"]  # its place in the list of paths
        if self.way:
            said["way"] = [(s.target, s.sizes, s.allocate) for s in self.way]
            said["half"] = self.half
        return _short_hash(said)

    def training_digest(self) -> str:
        """Return a short hash of the options of its training that may change once it has begun."""
        said = {k: v for k, v in self.train.items() if k in (*NEUTRAL, "max_epoch")}
        return _short_hash({**said, "epochs": self.epochs})

    def kd_conf(self, base: Mapping[str, Any]) -> Dict[str, Any]:
        """Return `kd_conf` without the teacher.

        Args:
            base: The recipe's training config for students, which the plan overrules.
        """
        return {**(base.get("kd_conf") or {}), **(self.train.get("kd_conf") or {}), **self.kd}

    def last_epoch(self, default: int) -> int:
        """Return the epoch that training ends with.

        Args:
            default: `max_epoch` of the students' training config.
        """
        return self.until or self.epochs or self.train.get("max_epoch") or default


def _short_hash(said: Mapping[str, Any]) -> str:
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_training(config: Mapping[str, Any], prefix: str) -> None:
    """Check what a plan or a training config says of what we read ourselves.

    Args:
        config: The options.
        prefix: Beginning of their names in messages, such as `plan.yaml: stages[0].train.`.

    Raises:
        UserError: a wrong value, or a logger that is not installed.
    """
    if config.get("max_epoch") is not None:
        whole_number(f"{prefix}max_epoch", config["max_epoch"], 1)
    DistillOptions.checked(config.get("kd_conf") or {}, f"{prefix}kd_conf")
    check_loggers(config, prefix)


def check_loggers(config: Mapping[str, Any], prefix: str) -> None:
    """Check that the packages are there which a training config asks for.

    ESPnet asks for them after minutes of preparation.

    Args:
        config: Options of a training.
        prefix: See `check_training`.

    Raises:
        UserError: one is not installed.
    """
    for package in LOGGERS:
        there = package in sys.modules or importlib.util.find_spec(package)
        if config.get(f"use_{package}") and not there:
            raise UserError(
                f"{prefix}use_{package}: the package {package} is not installed; "
                f"pip install {package}, or say false"
            )


def check_stage_name(name: Any, where: str) -> str:
    """Return the name of a stage: a part of directory names and of lines between programs.

    Raises:
        UserError: it is not text, or text that cannot be such a part.
    """
    if not isinstance(name, str):
        raise UserError(f"{where}: expected text, found {shown(name)}; write it in quotes")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(
            f"{where}: {shown(name)} may hold letters, digits, '-' and '_' only, and begin with a "
            "letter or digit"
        )
    if len(name) > LONGEST_NAME:
        raise UserError(f"{where}: {shown(name)} has more than {LONGEST_NAME} characters")
    if name.lower() in RESERVED:
        raise UserError(f"{where}: '{name}' is reserved: the first model has it in the report")
    return name


def parse_stage(where: str, number: int, entry: Any, gate: Optional[Gate]) -> StagePlan:
    """Read one entry of `stages`.

    Args:
        where: Name of the place, for messages.
        number: 1 for the first.
        entry: What the YAML holds.
        gate: The plan's gate for all stages.

    Raises:
        UserError: an unknown key (naming the nearest right one) or a value of the wrong kind.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected keys and values, found {shown(entry)}")
    for key in entry:
        check_name(f"{where}: unknown key", key, STAGE_KEYS)
    name = check_stage_name(entry.get("name", f"stage{number}"), f"{where}.name")
    target, sizes = entry.get("target"), entry.get("student")
    if (target is None) == (sizes is None):
        what = "neither" if target is None else "both"
        raise UserError(f"{where}: needs either 'target' or 'student', found {what}")
    if target is not None:
        parse_target(target, f"{where}.target")
    if sizes is not None:
        check_sizes(sizes, f"{where}.student")
    epochs = entry.get("epochs")
    if epochs is not None:
        whole_number(f"{where}.epochs", epochs, 1)
    chosen = {key: entry.get(key, known[0]) for key, known in CHOICES.items()}
    for key, value in chosen.items():
        check_choice(f"{where}.{key}", value, CHOICES[key])
    train = entry.get("train") or {}
    if not isinstance(train, dict):
        raise UserError(f"{where}.train: expected options by name, found {shown(train)}")
    check_training(train, f"{where}.train.")
    kd = {key: entry[key] for key in KD_KEYS if key in entry}
    kd.setdefault("objective", "collapsed")
    DistillOptions.checked(kd, where)
    if "gate" in entry:
        gate = parse_gate(f"{where}.gate", entry["gate"], gate)
    return StagePlan(
        number, name, where, target, sizes, epochs, **chosen, kd=kd, train=train, gate=gate
    )
