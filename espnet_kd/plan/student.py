"""A student that is to be made: a stage of the plan, its teacher, its path."""

import dataclasses
import hashlib
import json
from typing import Any, Dict, List, Mapping, Optional, Tuple

from espnet_kd.run.training_options import NEUTRAL
from espnet_kd.spec.distillation import Distillation
from espnet_kd.spec.gate import Gate
from espnet_kd.spec.option import Options, known_options
from espnet_kd.spec.stage import FIRST, PREVIOUS, Stage
from espnet_kd.spec.target import Target
from espnet_kd.spec.training_config import TrainingConfig

PLANNED = "progressive"  # the path of the plan's own stages
MAY_CHANGE = (*NEUTRAL, "max_epoch")  # options of a training that has begun
# Fields that every fingerprint has had from the first; later ones are in it where they are not
# the default, so that students made before stay what they are.
FIRST_FIELDS = ("name", "target", "sizes", "init", "blocks", "units", "allocate", "labels")


@dataclasses.dataclass(frozen=True)
class Student(Stage):
    """One student.

    Attributes:
        path: `progressive`, or the path (`plan.baselines`) that it was added for.
        teacher: Name of the student that it is derived from; None: the run's first teacher. It
            learns from that, too, unless `taught_by` says otherwise.
        stages_above: Stages whose sizes, each derived from the one before and the first from the
            first teacher, lead to this student's; empty: one step below its teacher.
        half: Whether its size is the geometric mean of the last two that `way` leads to.
        epochs_around: Epochs before and after it in the schedule of its chain (`anneal: through`);
            None: its training has one of its own.
        until: The epoch that training ends with since a gate asked for more; None: `epochs`.
        also_on: Other paths that would make the same student, and have it instead.
    """

    path: str = PLANNED
    teacher: Optional[str] = None
    stages_above: Tuple[Stage, ...] = ()
    half: bool = False
    epochs_around: Optional[Tuple[int, int]] = None
    until: Optional[int] = None
    also_on: Tuple[str, ...] = ()

    @property
    def taught_by_student(self) -> Optional[str]:
        """Name of the student whose posteriors it learns; None: the run's first teacher."""
        if self.taught_by == PREVIOUS:
            return self.teacher
        return None if self.taught_by == FIRST else self.taught_by

    @property
    def named_teachers(self) -> List[str]:
        """Names of students that teach it or label its set, as the plan or a path names them."""
        names = [self.taught_by, *(self.label_teachers or [])]
        return [name for name in names if name not in (PREVIOUS, FIRST) and "/" not in name]

    def renamed(self, names: Mapping[str, str]) -> "Student":
        """Return it with other names of the students that it comes from and learns from.

        Args:
            names: Names that change, to the new ones.
        """
        labels = self.label_teachers
        return dataclasses.replace(
            self,
            teacher=names.get(self.teacher or "", self.teacher),
            taught_by=names.get(self.taught_by, self.taught_by),
            label_teachers=labels and [names.get(name, name) for name in labels],
        )

    @classmethod
    def of(cls, stage: Stage) -> "Student":
        """Return the student of a plan's own stage."""
        return cls(**{f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)})

    def fingerprint(self) -> str:
        """Return a short hash of all that determines how this student is made.

        What comes after its training (the gate and what that added) is not in it, nor who
        its teacher is: the recipe compares the teacher's own files. Nor how long it is
        trained, which may grow, and in what batches: see `training_digest`.
        """
        known = known_options(Distillation)
        kd = {key: x for key, x in self.kd.written.items() if not known[key][1].neutral}
        made_of: Dict[str, Any] = {"kd": kd}
        for field, facts in known_options(type(self)).values():
            value = getattr(self, field.name)
            if not facts.neutral and (field.name in FIRST_FIELDS or value != field.default):
                made_of[field.name] = _written(self, field.name)
        made_of["train"] = {k: v for k, v in self.train.options.items() if k not in MAY_CHANGE}
        if self.path == PLANNED:  # otherwise its number is its place in the list of paths
            made_of["number"] = self.number
        if self.stages_above:
            size = ("target", "sizes", "allocate")
            made_of["way"] = [[_written(s, name) for name in size] for s in self.stages_above]
            made_of["half"] = self.half
        if self.epochs_around is not None:
            made_of["epochs_around"] = self.epochs_around
        return _short_hash(made_of)

    def training_digest(self) -> str:
        """Return a short hash of the options of its training that may change once it has begun."""
        options = {k: v for k, v in self.train.options.items() if k in MAY_CHANGE}
        return _short_hash({**options, "epochs": self.epochs})

    def record(self) -> Dict[str, Any]:
        """Return what is known of it, as JSON holds it."""
        apart = ("written", "stages_above", "also_on", "places")  # nothing of which made it
        fields = [f.name for f in dataclasses.fields(self) if f.name not in apart]
        values = {name: _written(self, name) for name in fields}
        return {**values, "way": [step.name for step in self.stages_above]}

    def last_epoch(self, default: int) -> int:
        """Return the epoch that training ends with.

        Args:
            default: `max_epoch` of the students' training config.
        """
        return self.until or self.epochs or self.train.max_epoch or default


def _written(stage: Stage, name: str) -> Any:
    """Return the value of a field as JSON holds it, where it can be as it was written."""
    value = getattr(stage, name)
    if isinstance(value, Target):
        return stage.written["target"]
    if isinstance(value, TrainingConfig):
        return value.options
    if isinstance(value, Gate):
        return value.values
    return value.written if isinstance(value, Options) else value


def _short_hash(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
