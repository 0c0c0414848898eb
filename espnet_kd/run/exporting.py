"""Stage 20: models for devices, each compared with itself in PyTorch."""

import os
from typing import Dict, List, Tuple

from espnet_kd.cli import values_of
from espnet_kd.errors import check_choice
from espnet_kd.fileio import read_table
from espnet_kd.plan.student import PLANNED
from espnet_kd.run.jobs import JobError
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.students import read_students


def export_models(recipe: Recipe) -> None:
    """Export the models that are asked for.

    Args:
        recipe: The stage.

    Raises:
        UserError: a model is not known or not there.
        JobError: an export has failed, or is beyond the margin (when all formats are made).
    """
    for folder, maker in _chosen(recipe):
        _export(recipe, folder, maker)


def _chosen(recipe: Recipe) -> List[Tuple[str, str]]:
    """List experiments and the stages that make them."""
    settings = recipe.settings
    models: Dict[str, Tuple[str, str]] = {"teacher": (settings.asr_exp, settings.teacher_stage)}
    last = "teacher"
    for student in read_students(settings):
        maker = f"16 (--compression_stage {student.number})"
        models[student.name] = (student.folder, maker)
        if student.plan.path == PLANNED:
            last = student.name
    names = settings.export_models or (last,)
    for name in names:
        check_choice("--export_models", name, models)
    return [models[name] for name in names]


def _export(recipe: Recipe, exp: str, maker: str) -> None:
    settings = recipe.settings
    # As the export prints it, whose lines are looked for.
    checkpoint, out = settings.inference_asr_model, os.path.normpath(f"{exp}/exported")
    recipe.need(f"{exp}/config.yaml", maker)
    recipe.need(f"{exp}/{checkpoint}", maker)
    sets = [*settings.scored_sets, settings.valid_set]
    for name in sets:
        recipe.need(f"{settings.data(name)}/wav.scp", settings.maker_of_set(name))
    chunks = chunk_options(settings.inference_args)
    limit = settings.export_utterances
    words = [f"text:--inference_args={' '.join(chunks)}", f"text:--export_utterances={limit}"]
    words += [f"table:{settings.inference_config}"] if settings.inference_config else []
    words += [f"file:{exp}/config.yaml", f"file:{exp}/{checkpoint}"]
    words += [f"data:{settings.data(name)}" for name in sets]
    command = recipe.python("export", "--exp", exp, "--checkpoint", checkpoint, "--out", out)
    command += [*chunks, "--utterances", str(limit)]
    if settings.inference_config:
        command += ["--inference_config", settings.inference_config]
    command += ["--data", *(settings.data(name) for name in settings.scored_sets)]
    command += ["--valid", settings.valid_dir]
    failed: Dict[str, JobError] = {}  # the log of each format that is beyond the margin
    for form in settings.export_formats:
        if not recipe.needed(out, f"export_{form}", [*words, f"out:{form}/*"]):
            continue
        log = f"{out}/export.{form}.log"
        recipe.log(f"Exporting {exp} ({form}), log: {log}")
        try:
            recipe.submit(recipe.commands.decode, log, [*command, "--format", form])
            recipe.done(out, f"export_{form}")
        except JobError as e:
            if not _lines(log, f"{out}/{form}: beyond the margin: "):
                raise
            failed[log] = e
        for line in _lines(log, f"{out}/"):
            recipe.log(line)
    recipe.log_path = " ".join(failed)
    within = [f for f in settings.export_formats if f"{out}/export.{f}.log" not in failed]
    if within:
        sounds = read_table(f"{settings.data(settings.scored_sets[0])}/wav.scp")
        recipe.log(
            f"Transcribe a file: {settings.python} -m espnet_kd.bin.transcribe "
            f"{out}/{within[-1]} {next(iter(sounds.values()))}"
        )
    for error in failed.values():
        raise error


def _lines(log: str, start: str) -> List[str]:
    """Return the lines of a log that begin with some text; none where there is no log."""
    if not os.path.isfile(log):
        return []
    with open(log, encoding="utf-8", errors="replace") as f:
        return [line.rstrip("\n") for line in f if line.startswith(start)]


def chunk_options(words: str) -> List[str]:
    """Return what of the options of decoding says how long chunks are, for the export."""
    values = values_of(words.split(), "--decoding_window", "--left_context")
    return [word for key, value in values.items() for word in (f"--{key}", value)]
