"""Stage 20: models for devices, each compared with itself in PyTorch."""

from typing import Dict, List, Tuple

from espnet_kd.cli import values_of
from espnet_kd.errors import check_choice
from espnet_kd.fileio import read_table
from espnet_kd.plan.student import PLANNED
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.students import read_students


def export_models(recipe: Recipe) -> None:
    """Export the models that are asked for.

    Args:
        recipe: The stage.

    Raises:
        UserError: a model is not known or not there.
        JobError: an export has failed, or is beyond the margin.
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
    checkpoint, out = settings.inference_asr_model, f"{exp}/exported"
    recipe.need(f"{exp}/config.yaml", maker)
    recipe.need(f"{exp}/{checkpoint}", maker)
    sets = [*settings.scored_sets, settings.valid_set]
    for name in sets:
        recipe.need(f"{settings.data(name)}/wav.scp", settings.maker_of_set(name))
    formats = " ".join(settings.export_formats)
    chunks = _chunk_options(settings.inference_args)
    words = [f"text:--export_formats={formats}", f"text:--inference_args={' '.join(chunks)}"]
    words += [f"table:{settings.inference_config}"] if settings.inference_config else []
    words += [f"file:{exp}/config.yaml", f"file:{exp}/{checkpoint}"]
    words += [f"data:{settings.data(name)}" for name in sets]
    words += [f"out:{form}/*" for form in settings.export_formats]
    if recipe.needed(out, "export", words):
        command = recipe.python("export", "--exp", exp, "--checkpoint", checkpoint)
        command += ["--format", *settings.export_formats, "--out", out, *chunks]
        if settings.inference_config:
            command += ["--inference_config", settings.inference_config]
        command += ["--data", *(settings.data(name) for name in settings.scored_sets)]
        command += ["--valid", settings.valid_dir]
        log = f"{out}/export.log"
        recipe.log(f"Exporting {exp} ({formats}), log: {log}")
        recipe.submit(recipe.commands.decode, log, command)
        with open(log, encoding="utf-8", errors="replace") as f:
            lines = [line.rstrip("\n") for line in f if line.startswith(f"{out}/")]
        recipe.log_path = ""
        for line in lines:
            recipe.log(line)
        recipe.done(out, "export")
    sounds = read_table(f"{settings.data(settings.scored_sets[0])}/wav.scp")
    recipe.log(
        f"Transcribe a file: {settings.python} -m espnet_kd.bin.transcribe "
        f"{out}/{settings.export_formats[-1]} {next(iter(sounds.values()))}"
    )


def _chunk_options(words: str) -> List[str]:
    """Return what of the options of decoding says how long chunks are."""
    values = values_of(words.split(), "--decoding_window", "--left_context")
    return [word for key, value in values.items() for word in (f"--{key}", value)]
