"""`conf/compression.yaml`, read and checked.

gate: {margin: 1.0, otherwise: stop}    # for all stages, if any; see plan/gate.py
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
    gate: {margin: 0.5}     # overrules the plan's; false: none
    train:                  # overrides of the student's training config, if any
      optim_conf: {lr: 0.001}
"""

import dataclasses
from pathlib import Path
from typing import List, Optional, TextIO, Union

import yaml

from espnet_kd.errors import UserError, nearest
from espnet_kd.plan.gate import parse_gate
from espnet_kd.plan.stage import StagePlan, parse_stage
from espnet_kd.students.target import parse_target

PLAN_KEYS = ("stages", "gate")


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
        UserError: there is no such file; see `parse_plan`.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; a compression plan is needed")
    with open(path, encoding="utf-8") as f:
        return parse_plan(f, path)


def parse_plan(text: Union[str, TextIO], path: str) -> CompressionPlan:
    """Check the text of a plan.

    Args:
        text: YAML.
        path: Name of its file, for messages.

    Raises:
        UserError: no YAML, no stages, an unknown key (naming the nearest right one), a
            value of the wrong kind, a name that stands there twice, or targets that do not
            go down.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(e).split())}") from None
    if not isinstance(data, dict) or "stages" not in data:
        raise UserError(f"{path}: no 'stages'; list at least one compression stage")
    for key in data:
        if key not in PLAN_KEYS:
            hint = nearest(str(key), PLAN_KEYS)
            raise UserError(f"{path}: unknown key '{key}'{hint}; known: {', '.join(PLAN_KEYS)}")
    if not isinstance(data["stages"], list) or not data["stages"]:
        raise UserError(f"{path}: 'stages' is empty; list at least one compression stage")
    gate = parse_gate(f"{path}: gate", data.get("gate"))
    stages: List[StagePlan] = []
    for i, entry in enumerate(data["stages"]):
        stage = parse_stage(f"{path}: stages[{i}]", i + 1, entry, gate)
        if stage.name in {s.name for s in stages}:
            raise UserError(f"{stage.where}.name: '{stage.name}' stands there twice")
        for before in stages:
            # Said now, not after the teachers are trained.
            if _is_smaller(stage, before) is False:
                raise UserError(
                    f"{stage.where}.target: {stage.target} is not smaller than the "
                    f"{before.target} of '{before.name}'; a student must be smaller than its "
                    "teacher"
                )
        stages.append(stage)
    return CompressionPlan(path, stages)


def _is_smaller(stage: StagePlan, before: StagePlan) -> Optional[bool]:
    """Tell whether a stage's target is below another's; None if that depends on the teacher."""
    if None in (stage.target, before.target):
        return None
    targets = [parse_target(s.target, f"{s.where}.target") for s in (stage, before)]
    return targets[0].below(targets[1])
