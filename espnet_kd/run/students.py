"""The students of a run: those of the plan, and those that its gates and --paths add."""

import argparse
import contextlib
import re
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

from espnet_kd.common.records import FACTS
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError, nearest
from espnet_kd.plan.baselines import path_named
from espnet_kd.plan.selection import check_cacheable, students_of
from espnet_kd.plan.student import PLANNED, Student
from espnet_kd.run.espnet_names import (
    TRAINING,
    declared,
    training_names,
    unknown_names,
    unknown_words,
    whole_names,
)
from espnet_kd.run.settings import Settings
from espnet_kd.run.training_options import (
    ESPNET_EPOCHS,
    ESPNET_KEPT,
    TrainingOptions,
    kept_by,
    not_kept,
    typed,
    words_of,
)
from espnet_kd.spec.contradictions import check_annealed_by
from espnet_kd.spec.method import PlannedSibling
from espnet_kd.spec.option_values import wrong_values
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import read_config


class Made(NamedTuple):
    """A model and who makes it.

    Attributes:
        exp: Experiment of the model.
        maker: Number of the stage that makes it, in words.
    """

    exp: str
    maker: str


class Sibling(NamedTuple):
    """Another model of a student's training.

    Attributes:
        name: Name in the report.
        folder: Experiment of the model.
        planned: What the plan says of it.
    """

    name: str
    folder: str
    planned: PlannedSibling


class StudentInRun:
    """A student and its place in the run.

    Attributes:
        number: Number of the student, counted over all paths from 1.
        plan: Student as the plan describes it.
        folder: Experiment of the student.
        teacher: Experiment of the model that it is derived from.
        teacher_maker: Number of the stage that makes that, in words.
        taught_by: Experiment of the model whose posteriors it learns, mostly the same.
        taught_by_maker: Number of the stage that makes that, in words.
    """

    def __init__(self, number: int, plan: Student, folder: str, above: Made, taught_by: Made):
        self.number, self.plan, self.folder = number, plan, folder
        self.teacher, self.teacher_maker = above
        self.taught_by, self.taught_by_maker = taught_by

    @property
    def name(self) -> str:
        """Its name."""
        return self.plan.name

    @property
    def hears_cache(self) -> bool:
        """Whether a teacher cache serves it if it serves the plan's own students."""
        path = path_named(self.plan.path)
        return path is None or path.cached

    @property
    def siblings(self) -> List[Sibling]:
        """Return the other models of its training."""
        return [
            Sibling(f"{self.name}_{kind}", f"{self.folder}/{kind}", planned)
            for kind, planned in self.plan.method_conf.siblings.items()
        ]

    def derived_from(self) -> List[str]:
        """Spell what of the plan its first weights and its training are made from."""
        planned = self.plan.path == PLANNED
        # The other paths may be listed in any order.
        place = str(self.number) if planned else self.plan.path
        return [
            f"compression_stage={place} {self.name}",
            f"plan_entry={self.plan.fingerprint()}",
            f"neutral:training={self.plan.training_digest()}",
        ]


@contextlib.contextmanager
def lines_of_plan(settings: Settings) -> Iterator[None]:
    """Name lines of the plan in errors of a block that name its places."""
    try:
        yield
    except UserError as e:
        if f"{settings.compression_config}: " not in str(e):
            raise
        with load_plan(settings.compression_config).lines_in_messages():
            raise


def read_students(settings: Settings) -> List[StudentInRun]:
    """Read the plan; what gates have measured by now counts.

    Raises:
        UserError: a mistake in the plan, or a student that no teacher cache can serve.
    """
    plans = students_of(_plan_options(settings))
    given = TrainingOptions()
    given.add_words(settings.kd_args)
    with lines_of_plan(settings):
        base = read_config(settings.student_config)
        until = {} if given.epochs is None else {"max_epoch": given.epochs}
        check_annealed_by(plans, base, typed({**given.options, **given.neutral, **until}))
    # Options of the command line overrule the plan's, and are checked with the cache.
    if (
        settings.use_teacher_cache
        and "--kd_conf" not in settings.kd_args.replace("=", " ").split()
    ):
        with lines_of_plan(settings):
            check_cacheable(plans, base, settings.cache_band)
    numbers = {plan.name: number for number, plan in enumerate(plans, 1)}

    def made(name: Optional[str]) -> Made:
        if name is None:
            return Made(settings.asr_exp, settings.teacher_stage)
        stage = f"16 (--compression_stage {numbers[name]})" if name in numbers else ""
        return Made(settings.student_folder(name), stage or settings.teacher_stage)

    students = []
    for number, plan in enumerate(plans, 1):
        folder = settings.student_folder(plan.name)
        both = made(plan.teacher), made(plan.taught_by_student)
        students.append(StudentInRun(number, plan, folder, *both))
    return students


def check_checkpoint(settings: Settings, students: List[StudentInRun]) -> None:
    """Refuse a checkpoint that some students will not have in the form that is decoded.

    Raises:
        UserError: --inference_asr_model is no average, and a method makes that form of averages.
    """
    name = settings.inference_asr_model
    if re.search(r"\.ave(_\d+best)?\.pth$", name):
        return
    for student in students:
        if student.plan.method_conf.decodes_averages:
            with lines_of_plan(settings):
                raise UserError(
                    f"--inference_asr_model {name}: {student.plan.at('method')}: '{student.name}' "
                    "is decoded in a form that only averages get when its training ends; name "
                    "one, such as valid.loss_transducer.ave.pth"
                )


def check_decoding(settings: Settings, students: List[StudentInRun]) -> None:
    """Refuse ESPnet's own streaming as the run's decoding where a model cannot be decoded so.

    Raises:
        UserError: a student's training leaves such a model.
    """
    if settings.decoding != "stock" or not settings.use_streaming:
        return
    for student in students:
        for sibling in student.siblings:
            if not sibling.planned.streams:
                with lines_of_plan(settings):
                    raise UserError(
                        f"--decoding stock: {student.plan.at('method_conf')}: '{sibling.name}' "
                        "goes on from another student's chunks, which ESPnet's own streaming "
                        "cannot; take --decoding aligned, or 'strict: false'"
                    )


def check_training(settings: Settings, students: List[StudentInRun]) -> None:
    """Refuse options of the plan's trainings that ESPnet has not, and values that it refuses.

    Raises:
        UserError: a stage's `train` has such a name, optimizer, scheduler or value, or keeps no
            checkpoint of the name that is decoded with.
    """
    known = training_names()
    raw = whole_names(words_of(settings.kd_args), known)
    kept, base = kept_by(raw), read_config(settings.student_config)
    with lines_of_plan(settings):
        for plan in (student.plan for student in students):
            train, where = plan.train.options, plan.at("train")
            for key in unknown_names(train, known):
                raise UserError(
                    f"{where}.{key}: unknown training option{nearest(key, known or ())}"
                )
            options = {key: train[key] for key in train if key not in dict(raw)}
            for key, value, classes in unknown_words(options):
                raise UserError(f"{where}.{key}: '{value}' is unknown{nearest(value, classes)}")
            for key, problem in wrong_values(options, declared(TRAINING)):
                raise UserError(f"{where}.{key}: {problem}")
            missing = not_kept({**base.options, **train, **kept}, settings.inference_asr_model)
            if missing is not None:
                key, reason = missing
                places = {"--kd_args: --": kept, f"{where}.": train}
                by = (place for place, part in places.items() if key in part)
                of_config = f"{settings.student_config or '--kd_args'}: "
                raise UserError(f"{next(by, of_config)}{key}: {reason}")


def check_curriculum(settings: Settings, students: List[StudentInRun]) -> None:
    """Refuse a curriculum of epochs that the first teacher will not have kept.

    Raises:
        UserError: its training keeps fewer epochs than it has, or a student has fewer epochs than
            teachers.
    """
    base = read_config(settings.student_config)
    for plan in (student.plan for student in students):
        shares = plan.kd_conf(base).curriculum
        if not shares or not plan.kd_conf(base).distils:
            continue
        with lines_of_plan(settings):
            epochs = plan.last_epoch(base.max_epoch or ESPNET_EPOCHS)
            if epochs <= len(shares):
                raise UserError(
                    f"{plan.at('curriculum')}: '{plan.name}' has {len(shares) + 1} teachers in "
                    f"turn, but {epochs} epochs; name fewer, or train longer"
                )
        if plan.taught_by_student is None and not settings.teacher_exp:
            _check_epochs_kept(settings, plan)


def _check_epochs_kept(settings: Settings, plan: Student) -> None:
    """Refuse a first teacher that keeps fewer epochs than it has, if it is yet to be trained."""
    if Path(settings.asr_exp, FACTS.file).is_file():
        return  # that it has kept them is seen when the student's training begins
    given = TrainingOptions()
    given.add_words(settings.asr_args)
    config = read_yaml(settings.asr_config, "the teacher's training config is needed")
    options = {**config, **typed(given.options)}
    epochs = int(given.epochs or config.get("max_epoch") or ESPNET_EPOCHS)
    kept = options.get("keep_nbest_models") or ESPNET_KEPT
    try:
        most = max(map(int, kept if isinstance(kept, list) else [kept]))
    except (TypeError, ValueError):  # which the training tells
        return
    if most < epochs:
        raise UserError(
            f"'{plan.name}' is taught by epochs of the first teacher (curriculum), whose training "
            f"keeps {kept} of {epochs}: keep all beside those whose mean it is "
            f'(--asr_args "--keep_nbest_models 3 {epochs}"; docs/plan.md, curriculum)'
        )


def student_at(students: List[StudentInRun], number: int, settings: Settings) -> StudentInRun:
    """Return the student of a number.

    Raises:
        UserError: there is none.
    """
    if number > len(students):
        raise UserError(
            f"--compression_stage {number}: {settings.compression_config} has "
            f"{len(students)} students"
        )
    return students[number - 1]


def plan_words(settings: Settings) -> List[str]:
    """Spell the options by which a command line reads the same students."""
    words: List[str] = []
    for name, value in vars(_plan_options(settings)).items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else value]
    return words


def _plan_options(settings: Settings) -> argparse.Namespace:
    return argparse.Namespace(
        plan=settings.compression_config,
        paths=settings.paths,
        paths_at=settings.paths_at,
        paths_epochs=settings.paths_epochs,
        ablate=settings.ablate,
        students=f"{settings.expdir}/{settings.kd_tag}",
        train_config=settings.student_config,
    )
