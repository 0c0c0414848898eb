"""Other ways to students of the same sizes: baselines and ablations as data.

Each path ends in a student of exactly the sizes of a progressive one, after as many epochs
as that one and its teachers (the first excepted) had together, or as that one had alone.
"""

import dataclasses
import itertools
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from espnet_kd.errors import UserError, check_name
from espnet_kd.methods.additions import without_inherited
from espnet_kd.plan.effective import Effective
from espnet_kd.plan.family_steps import alone, check_steps, line_to
from espnet_kd.plan.student import PLANNED, Student
from espnet_kd.plan.twins import check_there, with_row
from espnet_kd.spec.contradictions import check_annealing
from espnet_kd.spec.distillation import Distillation
from espnet_kd.spec.plan import CompressionPlan
from espnet_kd.spec.pseudo_labels import MEDIAN
from espnet_kd.spec.stage import FIRST, PREVIOUS, THROUGH
from espnet_kd.spec.training_config import TrainingConfig

NOTHING_SAID = TrainingConfig()


@dataclasses.dataclass(frozen=True)
class Path:
    """A path: the differences of its students from the progressive ones.

    Attributes:
        says: Question that it answers.
        init: Origin of the first weights.
        kd: Distillation settings that overrule the stage's; None: no distillation.
        chain: Whether it goes through the same steps, or in one from the first teacher.
        ablation: Whether `--ablate true` adds it.
        cached: Whether a teacher cache serves it if it serves the progressive path.
        teacher: Who teaches each stage; None: whom the stage names.
        anneal: How the learning rate goes; None: as the stage says.
    """

    says: str
    init: str = "teacher"
    kd: Optional[Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    chain: bool = False
    ablation: bool = True
    cached: bool = True
    teacher: Optional[str] = None
    anneal: Optional[str] = None


# One objective alone: one teacher, every node of the lattice, nothing of the encoder.
_PLAIN = {
    "nodes": "all",
    "first_weight": 0.0,
    "ctc_weight": 0.0,
    "encoder_weight": 0.0,
    "layers": None,
    "layer_weight": 0.0,
    "auxiliary": None,
    "relations": None,
    "relation_weight": 0.0,
    "curriculum": None,
    "two_modes": None,
}

PATHS: Dict[str, Path] = {
    "scratch": Path(
        "the same size trained from random weights with the RNN-T loss alone",
        init="random",
        kd=None,
        ablation=False,
    ),
    "one_shot": Path("inherited and distilled from the first teacher in one step", ablation=False),
    "inherited": Path(
        "inherited from the first teacher, trained with the RNN-T loss alone",
        kd=None,
        ablation=False,
    ),
    "one_shot_collapsed": Path(
        "one step, KL over {blank, next label, rest}", kd={**_PLAIN, "objective": "collapsed"}
    ),
    "one_shot_full": Path(
        "one step, KL over the vocabulary", kd={**_PLAIN, "objective": "full"}, cached=False
    ),
    "one_shot_one_best": Path(
        "one step, collapsed KL on the teacher's best path alone",
        kd={**_PLAIN, "objective": "collapsed", "nodes": "one_best"},
    ),
    "one_shot_encoder": Path(
        "one step, the encoder outputs are matched and nothing of the lattice",
        # An objective names that there is a teacher; weight 0 takes its lattice out.
        kd={**_PLAIN, "objective": "collapsed", "weight": 0.0, "encoder_weight": 1.0},
        cached=False,
    ),
    "one_shot_random": Path("one step, distilled but from random weights", init="random"),
    "curriculum_random": Path(
        "one step from random weights, taught by the teacher as it was after 15, 30 and 60 % of "
        "its own epochs, then as it is",
        init="random",
        kd={"curriculum": [0.15, 0.3, 0.6]},
        ablation=False,
        cached=False,
    ),
    "progressive_random": Path(
        "all steps, distilled but from random weights", init="random", chain=True
    ),
    "progressive_none": Path(
        "all steps, inherited weights, RNN-T loss alone", kd=None, chain=True
    ),
    "progressive_first": Path(
        "all steps, each distilled from the first teacher",
        chain=True,
        ablation=False,
        teacher=FIRST,
    ),
    "progressive_half": Path(
        "all steps, each distilled half from its teacher and half from the first one",
        chain=True,
        ablation=False,
        kd={"first_weight": 0.5},
        cached=False,
        teacher=PREVIOUS,
    ),
    "progressive_through": Path(
        "all steps, one schedule of the learning rate over them",
        chain=True,
        ablation=False,
        anneal=THROUGH,
    ),
}


def choose(words: Sequence[str], ablate: bool) -> List[str]:
    """Return the names of the paths asked for, in their order.

    Raises:
        UserError: an unknown name (naming the nearest right one), or none.
    """
    known = [PLANNED, *PATHS]
    for word in words:
        check_name("--paths: unknown path", word, known)
    added = [name for name, path in PATHS.items() if path.ablation and ablate]
    names = list(dict.fromkeys([*words, *added]))
    if not names:
        raise UserError(f"--paths: name at least one of {', '.join(known)}")
    return names


@dataclasses.dataclass(frozen=True)
class Epochs:
    """How many epochs a student in one step has.

    Attributes:
        extra: Epochs beside those of the stage of its size, and of stages that keep its sizes;
            None: those of all stages up to it.
    """

    extra: Optional[int] = None

    def of(self, steps: Sequence[Student], default: int) -> int:
        """Count the epochs of a student in the place of some steps."""
        first = 0
        if self.extra is not None:
            first = max((k for k, step in enumerate(steps) if not _keeps_sizes(step)), default=0)
        return sum(step.last_epoch(default) for step in steps[first:]) + (self.extra or 0)

    @property
    def suffix(self) -> str:
        """What names of paths and students bear, so that several can lie side by side."""
        return "" if self.extra is None else f"_own{self.extra or ''}"


def _keeps_sizes(step: Student) -> bool:
    return step.method_conf.keeps_sizes or (step.sizes is not None and not step.sizes.named)


_SUFFIX = re.compile(r"_own\d*$")


def path_named(name: str) -> Optional[Path]:
    """Return the path of a student's `path`, however long it trains; None: the plan's own."""
    return PATHS.get(_SUFFIX.sub("", name))


def read_epochs(words: Sequence[str]) -> List[Epochs]:
    """Read `sum`, `own`, `own+2`.

    Raises:
        UserError: another word, or none.
    """
    epochs = []
    for word in words:
        match = re.fullmatch(r"sum|own(?:\+([1-9]\d{0,3}))?", word)
        if match is None:
            raise UserError(f"--paths_epochs: '{word}' is none of sum, own, own+1, own+2, ...")
        epochs.append(Epochs(None if word == "sum" else int(match[1] or 0)))
    if not epochs:
        raise UserError("--paths_epochs: say sum, own, or both")
    return list(dict.fromkeys(epochs))


def check_of_use(paths: Sequence[str], sizes_at: Sequence[str], epochs: Sequence[Epochs]) -> None:
    """Refuse words on other paths where there is none that they are of.

    Args:
        paths: See `all_students`.
        sizes_at: See `all_students`.
        epochs: See `all_students`.

    Raises:
        UserError: sizes for the planned path alone, or epochs without a path in one step.
    """
    others = [name for name in paths if name != PLANNED]
    asked = f"--paths '{' '.join(paths)}'"
    if sizes_at and not others:
        raise UserError(
            f"--paths_at '{' '.join(sizes_at)}': names sizes of other paths, and {asked} has "
            "none; add one (--paths 'progressive one_shot'), or leave it out"
        )
    if any(e.extra is not None for e in epochs) and all(PATHS[name].chain for name in others):
        raise UserError(
            f"--paths_epochs: 'own' counts epochs of students in one step, and {asked} has none; "
            "add such a path (--paths 'progressive one_shot'), or leave it out"
        )


def all_students(
    plan: CompressionPlan,
    progressive: Effective,
    paths: Sequence[str],
    sizes_at: Sequence[str],
    default_epochs: int,
    epochs: Sequence[Epochs] = (Epochs(),),
    is_there: Callable[[str], bool] = lambda name: False,
    base: TrainingConfig = NOTHING_SAID,
) -> List[Student]:
    """List the students of all paths; one that several would make is made once (`plan.twins`).

    Args:
        plan: The plan.
        progressive: The progressive path after its gates.
        paths: Names of paths, `progressive` among them or not.
        sizes_at: Names of progressive stages whose sizes the other paths end at; none: the
            last that there is.
        default_epochs: `max_epoch` of the students' training config.
        epochs: Epochs of students in one step: one student each.
        is_there: Whether a student of a name has been derived.
        base: The recipe's training config for students.

    Raises:
        UserError: a name of `sizes_at` that no stage has, two students of one name, or a teacher
            that no path makes.
    """
    ends = _ends(plan, progressive, sizes_at)
    students: List[Student] = []
    rows: List[List[Student]] = []
    if PLANNED in paths:
        students += scheduled(progressive.students, default_epochs)
    for name in paths:
        if name == PLANNED:
            continue
        if PATHS[name].chain:
            longest = max(ends, key=len, default=[])
            check_steps(name, longest)
            chain = _chain(name, longest, plan, default_epochs)
            check_annealing(chain)  # which the path may ask for, whatever the stages say
            rows.append(scheduled(chain, default_epochs))
            continue
        for how_long in epochs:
            row: List[Student] = []
            for steps in ends:
                at = plan.stage(steps[-1].number).name
                # Named by what was asked for: a gate that ends the way renames nobody.
                path = name + how_long.suffix
                label = f"{path}_{at}" if sizes_at else path
                number = how_long.of(steps, default_epochs)
                row.append(_one_step(path, label, steps, plan, number))
            rows.append(row)
    for row in rows:
        students = with_row(students, row, plan.stages, default_epochs, base, is_there)
    check_there(students, is_there)
    seen: Dict[str, Student] = {}
    for student in (*map(Student.of, plan.stages), *students):
        other = seen.setdefault(student.name, student)
        if (other.path, other.number) != (student.path, student.number):
            raise UserError(
                f"{plan.path}: the path '{student.path}' makes a student '{student.name}', which "
                "is the name of a stage; rename the stage"
            )
    return students


def _ends(
    plan: CompressionPlan, progressive: Effective, sizes_at: Sequence[str]
) -> List[List[Student]]:
    """For each size the steps that lead to it; sizes below the end of a stop have none."""
    if not sizes_at:
        return [line_to(progressive.best)]
    known = [stage.name for stage in plan.stages]
    for name in sizes_at:
        check_name("--paths_at: unknown stage", name, known)
    ends = []
    for name in dict.fromkeys(sizes_at):
        number = known.index(name) + 1
        steps = [s for s in progressive.best if s.number <= number]
        if steps and steps[-1].number == number and not steps[-1].half:
            ends.append(line_to(steps))
    return ends


def scheduled(chain: Sequence[Student], default_epochs: int) -> List[Student]:
    """Tell students in a row that say `anneal: through` where in their schedule they are.

    Args:
        chain: Students that follow one another.
        default_epochs: `max_epoch` of the students' training config.
    """
    students: List[Student] = []
    for _, group in itertools.groupby(chain, key=lambda student: student.anneal == THROUGH):
        row = list(group)
        epochs = [student.last_epoch(default_epochs) for student in row]
        for i, student in enumerate(row):
            around = (sum(epochs[:i]), sum(epochs[i + 1 :]))
            through = student.anneal == THROUGH
            students.append(
                dataclasses.replace(student, epochs_around=around) if through else student
            )
    return students


def _one_step(
    path: str, name: str, steps: List[Student], plan: CompressionPlan, epochs: int
) -> Student:
    last, kind = steps[-1], path_named(path)
    assert kind is not None
    student = _changed(last, kind, path, name)
    if kind.kd is not None:
        # A last step that only fine-tunes says nothing of how one step distils.
        distils = [step for step in steps if step.kd.distils]
        if not distils:
            raise UserError(f"{plan.path}: no stage distils, which --paths {path} is to compare")
        source = _changed(distils[-1], kind, path, name)
        student = dataclasses.replace(student, kd=source.kd, train=source.train, **_labels(source))
    # The last of all steps inherits the chunks that one before it is trained for.
    chunks = [step.train for step in steps]
    student = dataclasses.replace(student, train=student.train.with_chunks_of(*chunks))
    if {PREVIOUS, FIRST} <= set(student.label_teachers or ()):
        raise UserError(
            f"{student.at('label_teachers')}: '{PREVIOUS}' and '{FIRST}' are one model on --paths "
            f"{path}, whose labels would count twice; name the stage before in the place of "
            f"'{PREVIOUS}', or leave the path out"
        )
    return dataclasses.replace(
        student,
        epochs=epochs,
        teacher=None,
        taught_by=PREVIOUS,  # that is the first teacher
        anneal="anew",
        stages_above=tuple(plan.stages[: last.number]),
    )


def _chain(
    path: str, steps: List[Student], plan: CompressionPlan, default_epochs: int
) -> List[Student]:
    students: List[Student] = []
    for step in steps:
        student = _changed(step, PATHS[path], path, f"{path}_{step.name}")
        if not step.kd.distils:  # fine-tunes what the step before has made
            student = dataclasses.replace(student, init=step.init)
        teacher = students[-1].name if students else None
        # This path has its own student of a stage that is a step of it.
        student = student.renamed({step.name: f"{path}_{step.name}" for step in steps})
        epochs = step.last_epoch(default_epochs)
        stages_above = tuple(plan.stages[: step.number])
        where = f"--paths {path}: {step.where}" if PATHS[path].anneal else step.where
        student = dataclasses.replace(student, teacher=teacher, epochs=epochs, where=where)
        students.append(dataclasses.replace(student, stages_above=stages_above))
    return students


def _labels(stage: Student) -> Dict[str, Any]:
    """Return a stage's options of labels."""
    names = ("labels", "label_set", "label_teachers", "combine", "select", "keep_source")
    return {name: getattr(stage, name) for name in names}


def _changed(stage: Student, path: Path, name: str, student: str) -> Student:
    """Give a stage the first weights and the distillation of a path."""
    stage = alone(stage)
    if path.kd is None:
        kd, labels = Distillation().changed(objective="none"), "transcript"
        stage = dataclasses.replace(
            stage,
            label_set="",
            label_teachers=None,
            combine=MEDIAN,
            select=None,
            keep_source=0.0,
        )
    else:
        changes = path.kd if stage.kd.distils else {}
        kd, labels = stage.kd.changed(**changes), stage.labels
    taught_by = path.teacher or stage.taught_by
    anneal = path.anneal or stage.anneal
    if path.init == "random":  # nothing is inherited that would have to be chosen
        conf = without_inherited(stage.method_conf)
        stage = dataclasses.replace(stage, blocks="spaced", units="weight", method_conf=conf)
        anneal = "anew"
    return dataclasses.replace(
        stage,
        name=student,
        path=name,
        init=path.init,
        taught_by=taught_by if kd.distils or labels == "teacher" else PREVIOUS,
        anneal=anneal,
        kd=kd,
        labels=labels,  # hard labels are the teacher's
        gate=None,
        until=None,
    )
