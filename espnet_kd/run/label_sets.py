"""What a student is trained on: transcripts, or what teachers make of a set."""

import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from espnet_kd.common.records import STUDENT
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.label_selection import MOST_EMPTY, first_difference
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.run.decoding import decode_model, score_model
from espnet_kd.run.judgement import counts_of
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.settings import Settings
from espnet_kd.run.students import StudentInRun, lines_of_plan
from espnet_kd.run.training import is_trained
from espnet_kd.spec.pseudo_labels import CONFIDENCE, VOTE
from espnet_kd.spec.stage import FIRST, PREVIOUS

LEAST = 50  # utterances of a set that was chosen from


class TrainingSet(NamedTuple):
    """Data that a student is trained on.

    Attributes:
        folder: Data directory.
        shapes: Folder of its shape files.
    """

    folder: str
    shapes: str


class Labeller(NamedTuple):
    """A model that writes labels.

    Attributes:
        exp: Its experiment.
        maker: Number of the stage that makes it, in words.
    """

    exp: str
    maker: str


def check_label_sets(settings: Settings, students: List[StudentInRun]) -> None:
    """Refuse sets that no stage of the recipe makes.

    Raises:
        UserError: a `label_set` is not among --unlabelled_sets.
    """
    for student in students:
        name, known = student.plan.label_set, settings.unlabelled_sets
        if name and name not in known:
            with lines_of_plan(settings):
                raise UserError(
                    f"{student.plan.at('label_set')}: '{name}' is not among --unlabelled_sets "
                    f"({' '.join(known) or 'none'}), which stages 1 and 3 make"
                )


def training_set(recipe: Recipe, student: StudentInRun, force: bool) -> TrainingSet:
    """Return what a student is trained on, made if need be.

    Args:
        recipe: The stage.
        student: The student.
        force: Whether it is made in any case.

    Raises:
        UserError: a file is missing, a teacher has other tokens, or too few labels are left.
        JobError: a decoding has failed.
    """
    settings, plan = recipe.settings, student.plan
    transcripts = TrainingSet(settings.train_dir, f"{settings.asr_stats_dir}/train")
    taught = STUDENT.read(Path(student.folder)).get("labels") == "teacher"
    if not taught and not plan.label_set:
        _check_transcribed(f"{settings.train_dir}/text", plan.name)
        return transcripts
    name = plan.label_set or settings.train_set
    out = f"{student.folder}/hard_labels/{name}"
    made = TrainingSet(out, out)
    # A finished training stays with its labels, however its teachers are decoded since.
    if is_trained(recipe, student.folder) and os.path.exists(f"{out}/wav.scp") and not force:
        return made
    folder = settings.data(name)
    lengths = f"{transcripts.shapes}/speech_shape"
    if plan.label_set:
        lengths = f"{folder}/utt2num_samples"
    recipe.need(lengths, "3" if plan.label_set else "10")
    hypotheses = [f"{folder}/text"]
    options: List[str] = []
    if taught:
        with lines_of_plan(settings):
            teachers = _teachers(recipe, student)
        if plan.combine == VOTE:
            teachers = _best_first(recipe, teachers)
            options += ["--combine", VOTE]
        for teacher in teachers:
            decode_model(recipe, teacher.exp, teacher.maker, [name], force)
        results = [f"{teacher.exp}/{settings.inference_tag}/{name}" for teacher in teachers]
        hypotheses = [f"{result}/text" for result in results]
        if plan.select is not None:
            options += ["--select", plan.select.by, "--keep", str(plan.select.keep)]
            if plan.select.by == CONFIDENCE:
                options += [w for result in results for w in ("--score", f"{result}/score")]
    if plan.keep_source:
        _check_transcribed(f"{settings.train_dir}/text", plan.name)
        options += ["--source", settings.train_dir, "--source_shapes", transcripts.shapes]
        options += ["--keep_source", str(plan.keep_source)]
    chosen = bool(plan.label_set) or plan.select is not None
    words = [f"file:{path}" for path in (*hypotheses, lengths, settings.token_list)]
    words += [f"data:{folder}"]
    words += [f"text:labels={' '.join(options)}"] if options else []
    shape = f"text_shape.{settings.token_type}"
    words += [f"out:{table}" for table in ("wav.scp", "text", "speech_shape", shape)]
    if recipe.needed(out, "hard_labels", words, force):
        command = recipe.python(
            "hard_labels",
            *(word for path in hypotheses for word in ("--hyp", path)),
            *("--data", folder),
            *("--speech_shape", lengths),
            *("--config", f"{student.folder}/student.yaml"),
            *("--token_list", settings.token_list),
            *("--token_type", settings.token_type),
            *("--bpemodel", settings.bpemodel),
            *("--max_dropped_share", str(MOST_EMPTY) if chosen else settings.max_dropped_share),
            *(["--least", str(LEAST)] if chosen else []),
            *options,
            *("--out", out),
        )
        recipe.call(command)
        recipe.done(out, "hard_labels")
    return made


def _teachers(recipe: Recipe, student: StudentInRun) -> List[Labeller]:
    """List who labels a student's set.

    Raises:
        UserError: a model is not there, or has other tokens.
    """
    mine = Labeller(student.taught_by, student.taught_by_maker)
    if student.plan.label_teachers is None:
        return [mine]
    settings = recipe.settings
    teachers: List[Labeller] = []
    for name in student.plan.label_teachers:
        teacher = Labeller(settings.student_folder(name), "16")
        if name == PREVIOUS:
            teacher = Labeller(student.teacher, student.teacher_maker)
        elif name == FIRST:
            teacher = Labeller(settings.asr_exp, settings.teacher_stage)
        elif "/" in name:
            teacher = Labeller(os.path.normpath(name), "")
            _check_there(teacher.exp, settings, student.plan.at("label_teachers"))
        else:
            recipe.need(f"{teacher.exp}/{settings.inference_asr_model}", teacher.maker)
        if teacher.exp in (other.exp for other in teachers):
            raise UserError(
                f"{student.plan.at('label_teachers')}: '{name}' is {teacher.exp}, which is named "
                "already: its labels would count twice"
            )
        teachers.append(teacher)
    known: Optional[Tuple[str, List[str]]] = None
    for teacher in teachers:
        tokens = read_yaml(f"{teacher.exp}/config.yaml", "a teacher is needed").get("token_list")
        listed = [str(token) for token in tokens] if isinstance(tokens, list) else []
        known = known or (teacher.exp, listed)
        difference = first_difference(known[1], listed)
        if difference:
            raise UserError(
                f"{student.plan.at('label_teachers')}: {teacher.exp} has other tokens than "
                f"{known[0]}: {difference}"
            )
    return teachers


def _best_first(recipe: Recipe, teachers: List[Labeller]) -> List[Labeller]:
    """Sort teachers by their WER on the validation set, equal ones as they are named."""
    valid, rates = recipe.settings.valid_set, {}
    for teacher in teachers:
        decode_model(recipe, teacher.exp, teacher.maker, [valid])
        score_model(recipe, teacher.exp, teacher.maker, [valid])
        scores = Path(teacher.exp, recipe.settings.inference_tag, valid)
        rates[teacher] = counts_of(scores).error_rate
    best = sorted(teachers, key=lambda teacher: rates[teacher])
    named = ", ".join(f"{teacher.exp} ({rates[teacher]:.2f} %)" for teacher in best)
    recipe.log(f"Teachers that vote on words, by their WER on {valid}: {named}")
    return best


def _check_there(exp: str, settings: Settings, where: str) -> None:
    for name in ("config.yaml", settings.inference_asr_model):
        if not os.path.exists(f"{exp}/{name}"):
            raise UserError(
                f"{where}: {exp} has no {name}; name the folder of a trained transducer of ESPnet"
            )


def _check_transcribed(path: str, name: str) -> None:
    """Refuse to train on transcripts that are not there.

    Raises:
        UserError: some are empty, since stages 1 to 4 ran for a plan of hard labels alone.
    """
    lacking = sum(not text.strip() for text in read_table(path).values())
    if lacking:
        raise UserError(
            f"{path}: {lacking} utterances without a transcript, which '{name}' is to train on; "
            "say 'labels: teacher' in its stage, or run stages 1 to 10 again, which leave them out"
        )
