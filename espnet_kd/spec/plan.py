"""A compression plan, `conf/compression.yaml`: its file, read and checked.

family: {members: [...]}  # nested students of one training, after the stages, if any;
                          # see spec/family_plan.py
gate: {margin: 1.0, otherwise: stop}    # for all stages, if any; see spec/gate.py
margin: 0.5               # points of WER that a way may be worse and count as no worse
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
    teacher: previous       # whose posteriors it learns; or first, or an earlier stage's name
    objective: collapsed    # or full, or none (see kd_conf)
    weight: 0.5             # lambda
    temperature: 1.0
    gate: {margin: 0.5}     # overrules the plan's; false: none
    anneal: anew            # or through: one learning-rate schedule over the stages that say so
    train:                  # overrides of the student's training config, if any
      optim_conf: {lr: 0.001}
"""

import dataclasses
from typing import ContextManager, Dict, List, Optional

from espnet_kd.common.yaml_file import Document, lines_in_messages, parse_yaml, read_document
from espnet_kd.errors import UserError, check_name
from espnet_kd.spec.contradictions import (
    check_annealing,
    check_cutting,
    check_gate,
    check_idle,
    check_members,
    check_names,
    check_said_twice,
    check_sizes_fall,
    check_teachers,
)
from espnet_kd.spec.family_plan import read_family
from espnet_kd.spec.gate import read_gate
from espnet_kd.spec.pseudo_labels import check_labels
from espnet_kd.spec.stage import Stage, read_stage
from espnet_kd.spec.values import number

PLAN_KEYS = ("stages", "family", "gate", "margin")
MOST_STAGES = 100


@dataclasses.dataclass(frozen=True)
class CompressionPlan:
    """The stages in their order.

    Attributes:
        path: The file.
        stages: The stages.
        lines: Lines of its fields, for messages.
        margin: Points of error rate within which one way is no worse than another, which the
            report's verdicts go by; None: the plan names none.
    """

    path: str
    stages: List[Stage]
    lines: Dict[str, int]
    margin: Optional[float] = None

    def lines_in_messages(self) -> ContextManager[None]:
        """Name lines in errors of a block that name places of the plan."""
        return lines_in_messages(self.path, self.lines)

    def stage(self, number: int) -> Stage:
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
    document = read_document(path, "a compression plan with 'stages' is needed")
    return _checked(document, path)


def parse_plan(text: str, path: str) -> CompressionPlan:
    """Check the text of a plan.

    Args:
        text: YAML.
        path: Name of its file, for messages.

    Raises:
        UserError: no YAML, no stages, an unknown key (naming the nearest right one), a
            value of the wrong kind, a duplicate name, sizes that do not go down, or options
            that exclude one another.
    """
    return _checked(parse_yaml(text, path), path)


def _checked(document: Document, path: str) -> CompressionPlan:
    """Check the content of a plan; messages name the line."""
    data = document.data
    if not isinstance(data, dict) or not {"stages", "family"} & set(data):
        raise UserError(f"{path}: no 'stages'; list at least one compression stage")
    for key in data:
        check_name(f"{document.place(path, key)}: unknown key", key, PLAN_KEYS)
    entries = data.get("stages", [])
    if not isinstance(entries, list) or not (entries or "family" in data):
        where = document.place(path, "stages")
        raise UserError(f"{where}: 'stages' is empty; list at least one compression stage")
    with lines_in_messages(path, document.lines):
        if len(entries) > MOST_STAGES:
            raise UserError(f"{path}: stages: more than {MOST_STAGES} compression stages")
        gate = read_gate(f"{path}: gate", data.get("gate"))
        margin = data.get("margin")
        if margin is not None:
            margin = number(f"{path}: margin", margin, 0, 100)
        places = {f"gate.{key}": f"{path}: gate.{key}" for key in (gate.written if gate else ())}
        stages: List[Stage] = []
        for i, entry in enumerate(entries):
            stages.append(read_stage(f"{path}: stages[{i}]", i + 1, entry, gate, places))
        check_gate(f"{path}: gate", gate, stages)
        if "family" in data:
            where = f"{path}: family"
            stages += read_family(where, data["family"], len(stages) + 1, data, stages)
        check_names(stages)
        check_members(stages)
        check_teachers(stages)
        check_labels(stages)
        check_cutting(stages)
        check_idle(stages)
        check_said_twice(stages)
        check_annealing(stages)
        check_sizes_fall(stages)
    return CompressionPlan(path, stages, document.lines, margin)
