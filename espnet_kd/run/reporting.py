"""Stages 17 and 21: which models are scored, how fast and how late they are, and the report."""

import contextlib
import os
from pathlib import Path
from typing import Dict, List, Optional, Set

from espnet_kd.common.records import DELAY, FACTS, HISTORY, SPEED
from espnet_kd.deploy.runtime import other_search
from espnet_kd.device.description import FORMATS, GRAPHS, RECORD, TOKENS, read_description
from espnet_kd.errors import UserError
from espnet_kd.run.content import file_content
from espnet_kd.run.decoding import why_not_scored, window_tags
from espnet_kd.run.exporting import chunk_options
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.step_record import read_record
from espnet_kd.run.students import read_students

QUANTISED = "--quantize_asr_model"  # of ESPnet's inference


def report(recipe: Recipe, run_command: str) -> None:
    """Report on all models that are scored.

    Args:
        recipe: The stage.
        run_command: Command that has made the run, for the report.

    Raises:
        UserError: the first teacher is not scored, or its scores are not of it.
    """
    settings = recipe.settings
    for name in settings.scored_sets:
        result = f"{settings.asr_exp}/{settings.inference_tag}/{name}/score_wer/result.txt"
        recipe.need(result, "13")
    tag = settings.inference_tag
    stale = why_not_scored(recipe, settings.asr_exp, tag)
    if stale:
        raise UserError(f"{stale}: run stages 12 and 13 first")
    models: Dict[str, str] = {"teacher": settings.asr_exp}
    left_out: List[str] = []
    others: Set[str] = set()
    ours_alone: Set[str] = set()  # which ESPnet's own streaming does not decode
    also_on: List[str] = []
    for student in read_students(settings):
        for name, folder in ((student.name, student.folder), *(s[:2] for s in student.siblings)):
            stale = why_not_scored(recipe, folder, tag)
            if stale is None:
                models[name] = folder
                continue
            recipe.log(
                f"Stage {recipe.stage}: {folder} is not scored yet and left out "
                f"(stage 16, --compression_stage {student.number}; {stale})"
            )
            left_out.append(name)
        others.update(s.name for s in student.siblings)
        ours_alone.update(s.name for s in student.siblings if not s.planned.streams)
        if student.name in models:
            also_on += [f"{student.name}={path}" for path in student.plan.also_on]
    for folder in models.values():
        _compare_records(recipe, folder)
    # Those in longer chunks are late by design: their speed is not that of the others' chunks.
    alike = {name: folder for name, folder in models.items() if name not in others}
    exported = _exported(recipe, alike)
    _measure(recipe, "speed", SPEED.file, alike, exported)
    delay = _measure_delay(recipe, alike, exported)
    words = recipe.python("report", "--exp", settings.expdir)
    words += _options("--model", [f"{name}={folder}" for name, folder in models.items()])
    words += _options("--left_out", left_out)
    words += _options("--also_on", also_on)
    words += ["--train_watts", settings.train_watts] if settings.train_watts else []
    words += ["--note", settings.report_note] if settings.report_note else []
    words += _options("--exported", [f"{name}={folder}" for name, folder in exported.items()])
    words += ["--delay", f"{settings.expdir}/{DELAY.file}"] if delay else []
    speed = f"{settings.expdir}/{SPEED.file}"
    recipe.call(
        [
            *words,
            *("--inference_tag", settings.inference_tag),
            *_stock_scores(recipe, [f for name, f in models.items() if name not in ours_alone]),
            *_window_scores(recipe, models),
            *("--test_sets", " ".join(settings.scored_sets)),
            *("--plan", settings.compression_config),
            *("--inference_model", settings.inference_asr_model),
            *("--speed", speed),
            *("--command", run_command),
        ]
    )
    counts = [
        f"file:{folder}/{tag}/{name}/score_wer/counts.tsv"
        for folder in models.values()
        for name in settings.scored_sets
    ]
    counts += [f"file:{settings.expdir}/{DELAY.file}"] if delay else []
    recipe.done(settings.expdir, "report", [*counts, f"file:{speed}", "out:results.json"])
    _show_table(recipe)


def _stock_scores(recipe: Recipe, folders: List[str]) -> List[str]:
    """Return the options of the report by which it reads what ESPnet's own streaming gives."""
    settings = recipe.settings
    words = ["--decoding", settings.decoding] if settings.use_streaming else []
    if settings.stock_tag:
        whys = [why_not_scored(recipe, folder, settings.stock_tag) for folder in folders]
        stale = next(filter(None, whys), None)
        if stale is None:
            return [*words, "--stock_tag", settings.stock_tag]
        recipe.log(
            f"Stage {recipe.stage}: {stale}: the report is without the WERs of ESPnet's own "
            "streaming (stages 12, 13 and 16 make them; --stock_wer false leaves them out)"
        )
    return words


def _window_scores(recipe: Recipe, models: Dict[str, str]) -> List[str]:
    """Return the options of the report by which it reads the WERs in chunks of other lengths."""
    tags = window_tags(recipe.settings)
    for tag in tags.values():
        whys = [why_not_scored(recipe, folder, tag) for folder in models.values()]
        stale = next(filter(None, whys), None)
        if stale is not None:
            recipe.log(
                f"Stage {recipe.stage}: {stale}: the report is without the WERs in chunks of "
                "other lengths (stages 12, 13 and 16 make them; --decoding_windows '' leaves "
                "them out)"
            )
            return []
    return _options("--window", [f"{window}={tag}" for window, tag in tags.items()])


def _exported(recipe: Recipe, models: Dict[str, str]) -> Dict[str, str]:
    """List the exported folders of models, by `<model>/<format>`, that are as they were made."""
    settings = recipe.settings
    folders = {
        f"{name}/{form}": f"{folder}/exported/{form}"
        for name, folder in models.items()
        for form in FORMATS
        if os.path.isfile(f"{folder}/exported/{form}/{RECORD.file}")
    }
    if not folders:
        return {}
    why = None if settings.use_streaming else "they hear chunks, and --use_streaming is false"
    words = settings.inference_args.split()
    words += ["--config", settings.inference_config] if settings.inference_config else []
    search = other_search(words)
    why = why or (search and f"they have ESPnet's default search alone, not {search}")
    if why:
        recipe.log(f"Stage {recipe.stage}: the exported models are left out: {why}")
        return {}
    for name, folder in list(folders.items()):
        out, form = os.path.split(folder)
        stale = recipe.not_current([(out, f"export_{form}")])
        stale = stale or _other_chunks(out, form, settings.inference_args)
        if stale:
            beyond = _beyond(folder)
            why = f"{stale} (stage 20 exports it again)"
            why = f"it was beyond the margin when exported: {beyond}" if beyond else why
            recipe.log(f"Stage {recipe.stage}: {folder} is left out: {why}")
            del folders[name]
    return folders


def _other_chunks(out: str, form: str, inference_args: str) -> Optional[str]:
    """Say that a format was exported with other chunks than are decoded with; None: it was not."""
    record, wanted = read_record(out, f"export_{form}"), " ".join(chunk_options(inference_args))
    chunks = record.inputs.get("--inference_args") if record is not None else None
    if chunks is None or chunks[1] == wanted:
        return None
    return f"its chunks are not the run's: '{chunks[1]}' in place of '{wanted}'"


def _beyond(folder: str) -> str:
    """Return why an exported folder is beyond the margin; empty: it is not, or is damaged."""
    with contextlib.suppress(UserError):
        return read_description(Path(folder)).beyond
    return ""


def _compare_records(recipe: Recipe, folder: str) -> None:
    """Say which of a training's records, read for cost and curves, it has not left like this."""
    record = read_record(folder, "train")
    left = {} if record is None or record.problem else record.others
    for name in (FACTS.file, HISTORY.file):
        path = f"{folder}/{name}"
        content = file_content(path)
        if name in left and content != left[name]:
            what = "is missing" if content is None else "has changed"
            recipe.log(
                f"Stage {recipe.stage}: warning: {path} {what} since the training that left it: "
                "what the report says of its cost, or of its epochs, is not what was recorded"
            )


def _measure_delay(recipe: Recipe, models: Dict[str, str], exported: Dict[str, str]) -> bool:
    """Write exp/delay.json if there are exported models to compare with; tell whether."""
    settings = recipe.settings
    if not exported or settings.decoding == "stock":
        return False
    if QUANTISED in settings.inference_args.split():
        recipe.log(f"Stage {recipe.stage}: no delays: {QUANTISED} does not go with batches")
        return False
    _measure(recipe, "delay", DELAY.file, models, exported)
    return True


def _measure(
    recipe: Recipe, step: str, file: str, models: Dict[str, str], exported: Dict[str, str]
) -> None:
    """Measure all models together, again whenever a model, the decoding or a test set differs.

    Always on the CPU: so that all runs have the same measure.

    Args:
        recipe: The stage.
        step: Name of the step, `speed` or `delay`.
        file: What it leaves in exp/.
        models: Experiment of each model by its name.
        exported: Exported folders by name.
    """
    settings = recipe.settings
    named = [f"{name}={folder}" for name, folder in {**models, **exported}.items()]
    data = [settings.data(name) for name in settings.scored_sets]
    args = settings.inference_args
    if settings.use_streaming:
        args += f" --streaming true --decoding {settings.decoding}"
    words = [f"text:--models={' '.join(named)}"]
    for folder in models.values():
        words += [f"file:{folder}/config.yaml", f"file:{folder}/{settings.inference_asr_model}"]
    for folder in exported.values():
        names = (*GRAPHS, TOKENS, RECORD.file)
        words += [f"file:{folder}/{name}" for name in names]
    words += [f"data:{folder}" for folder in data]
    if settings.inference_config:
        words.append(f"table:{settings.inference_config}")
    words += [f"text:--inference_args={args}", f"out:{file}"]
    if not recipe.needed(settings.expdir, step, words):
        return
    log = f"{settings.expdir}/{step}.log"
    what = {"speed": "fast", "delay": "late"}[step]
    recipe.log(f"Measuring how {what} {len(named)} models are, log: {log}")
    command = recipe.python(f"measure_{step}", *_options("--model", named))
    command += ["--inference_model", settings.inference_asr_model, *_options("--data", data)]
    if settings.inference_config:
        command += ["--inference_config", settings.inference_config]
    command += [f"--inference_args={args}", "--out", f"{settings.expdir}/{file}"]
    recipe.submit(recipe.commands.decode, log, command)
    recipe.log_path = ""
    recipe.done(settings.expdir, step)


def _options(name: str, values: List[str]) -> List[str]:
    return [word for value in values for word in (name, value)]


def _show_table(recipe: Recipe) -> None:
    """Print the first table of RESULTS.md."""
    path = f"{recipe.settings.expdir}/RESULTS.md"
    recipe.log(f"The table of {path}:")
    table = False
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.startswith("|"):
                table = True
                print(line, end="")
            elif table:
                break
