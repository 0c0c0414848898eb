"""`conf/compression.yaml`, read and checked.

stages:
  - name: stage1            # letters, digits, - and _; stage<K> by default
    target: 0.7             # at most 70 % of the first teacher's parameters, or ...
    student:                # ... sizes by ESPnet's names; what is not named is kept
      encoder: {num_blocks: 4, hidden_size: 96}
      joint_network: {joint_space_size: 96}
    epochs: 8
    init: teacher           # inherited weights, or random
    blocks: spaced          # which of the teacher's blocks are kept
    units: weight           # which of its units
    labels: transcript      # or teacher: what it makes of the training set
    objective: collapsed    # or full, or none (see kd_conf)
    weight: 0.5             # lambda
    temperature: 1.0
    train:                  # overrides of the student's training config, if any
      optim_conf: {lr: 0.001}
"""

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import yaml

from espnet_kd.errors import UserError, nearest

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
)
# Keys of a stage that are one word of several; the first is the default.
CHOICES = {
    "init": ("teacher", "random"),
    "blocks": ("spaced", "influence", "skip_loss"),
    "units": ("weight", "taylor"),
    "allocate": ("rule", "sensitivity"),
    "labels": ("transcript", "teacher"),
}
STAGE_KEYS = ("name", "target", "student", "epochs", "train", *CHOICES) + KD_KEYS


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One compression stage.

    Attributes:
        number: 1 for the first.
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

    def fingerprint(self) -> str:
        """Return a short hash of all that the plan says of this stage."""
        said = dataclasses.asdict(self)
        del said["where"]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class CompressionPlan:
    """The stages in their order."""

    path: str
    stages: List[StagePlan]

    def stage(self, number: int) -> StagePlan:
        """Return stage `number`, counted from 1.

        Raises:
            UserError: there is no such stage.
        """
        if not 1 <= number <= len(self.stages):
            raise UserError(
                f"{self.path}: no compression stage {number}; the plan has {len(self.stages)}"
            )
        return self.stages[number - 1]


def load_plan(path: str) -> CompressionPlan:
    """Read a plan.

    Raises:
        UserError: no file, no YAML, no stages, an unknown key (naming the nearest right
            one), a value of the wrong kind, a name that stands there twice, or targets that
            do not go down.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; a compression plan is needed")
    try:
        with open(path, encoding="utf-8") as f:
            data = yaml.safe_load(f)
    except yaml.YAMLError as e:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(e).split())}") from None
    if not isinstance(data, dict) or "stages" not in data:
        raise UserError(f"{path}: no 'stages'; list at least one compression stage")
    for key in data:
        if key != "stages":
            raise UserError(
                f"{path}: unknown key '{key}'{nearest(key, ['stages'])}; known: stages"
            )
    if not isinstance(data["stages"], list) or not data["stages"]:
        raise UserError(f"{path}: 'stages' is empty; list at least one compression stage")
    stages: List[StagePlan] = []
    for i, entry in enumerate(data["stages"]):
        stage = _stage(f"{path}: stages[{i}]", i + 1, entry)
        if stage.name in {s.name for s in stages}:
            raise UserError(f"{stage.where}.name: '{stage.name}' stands there twice")
        for before in stages:
            # Said now, not after the teachers are trained.
            if None not in (before.target, stage.target) and stage.target >= before.target:
                raise UserError(
                    f"{stage.where}.target: {stage.target:g} is not smaller than the "
                    f"{before.target:g} of '{before.name}'; a student must be smaller than its "
                    "teacher"
                )
        stages.append(stage)
    return CompressionPlan(path, stages)


def _stage(where: str, number: int, entry: Any) -> StagePlan:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected keys and values, found '{entry}'")
    for key in entry:
        if key not in STAGE_KEYS:
            hint = nearest(str(key), STAGE_KEYS)
            raise UserError(f"{where}: unknown key '{key}'{hint}; known: {', '.join(STAGE_KEYS)}")
    name = str(entry.get("name", f"stage{number}"))
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"{where}.name: '{name}' may hold letters, digits, '-' and '_' only")
    target, sizes = entry.get("target"), entry.get("student")
    if (target is None) == (sizes is None):
        raise UserError(f"{where}: needs either 'target' or 'student', found {_found(entry)}")
    if target is not None and not (_number(target) and 0 < target < 1):
        raise UserError(
            f"{where}.target: expected a fraction between 0 and 1 of the first teacher's "
            f"parameters, found '{target}'"
        )
    if sizes is not None and not isinstance(sizes, dict):
        raise UserError(f"{where}.student: expected sizes by name, found '{sizes}'")
    epochs = entry.get("epochs")
    if epochs is not None and (
        isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1
    ):
        raise UserError(f"{where}.epochs: expected a whole number > 0, found '{epochs}'")
    chosen = {key: entry.get(key, known[0]) for key, known in CHOICES.items()}
    for key, value in chosen.items():
        if value not in CHOICES[key]:
            hint = nearest(str(value), CHOICES[key])
            raise UserError(f"{where}.{key}: '{value}' is not one of {CHOICES[key]}{hint}")
    train = entry.get("train") or {}
    if not isinstance(train, dict):
        raise UserError(f"{where}.train: expected options by name, found '{train}'")
    kd = {key: entry[key] for key in KD_KEYS if key in entry}
    kd.setdefault("objective", "collapsed")
    return StagePlan(number, name, where, target, sizes, epochs, **chosen, kd=kd, train=train)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _found(entry: Mapping[str, Any]) -> str:
    both = [key for key in ("target", "student") if key in entry]
    return "both" if both else "neither"
