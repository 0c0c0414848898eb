"""Decode sets with one model, and count its errors.

Test sets are decoded in several ways where the report is to have them: ours first, which gates,
hard labels and comparisons take; ESPnet's own; and ours in chunks of other lengths.

Up to `inference_nj` jobs run at a time, over all sets: a process needs many seconds before it
decodes its first utterance.
"""

import glob
import os
import shlex
from typing import Dict, List, NamedTuple, Optional, Sequence

from espnet_kd.cli import sampling_rate, values_of
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.frames import samples_of_frame
from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_path
from espnet_kd.run.jobs import job_words
from espnet_kd.run.recipe import Recipe, count_lines
from espnet_kd.run.settings import Settings
from espnet_kd.scoring.conditions import LABELS
from espnet_kd.spec.method import PlannedSibling

LOCAL_SCORE = "local/score.sh"  # what else a corpus wants to know of each model
OF_RUN = PlannedSibling(ahead=0)  # a model that is decoded as the run is
ESPNET_WINDOW = "640"  # milliseconds: ESPnet's default
JOINED = ("token", "token_int", "score", "text")  # what jobs leave, each for its utterances


class Decoding(NamedTuple):
    """One way to decode.

    Attributes:
        tag: Name of the directory of what it gives.
        decoding: `aligned` or `stock`.
        args: Options of decoding, with those of the run.
        name: End of the line that says that it is done.
    """

    tag: str
    decoding: str
    args: str
    name: str = ""


def ways_of(settings: Settings, sibling: PlannedSibling = OF_RUN) -> List[Decoding]:
    """List the ways in which test sets are decoded, the run's own first.

    Args:
        settings: Options of the run.
        sibling: What the plan says of a model beside a student.
    """
    args = settings.inference_args
    ways = [Decoding(settings.inference_tag, settings.decoding, args)]
    if settings.stock_tag and sibling.streams:
        ways.append(Decoding(settings.stock_tag, "stock", args, " as ESPnet does"))
    for window, tag in window_tags(settings).items():
        if tag != settings.inference_tag:
            words = f"{args} --decoding_window {window}".strip()
            ways.append(Decoding(tag, settings.decoding, words, f" in chunks of {window} ms"))
    return ways


def window_tags(settings: Settings) -> Dict[str, str]:
    """Name the directories of decodings in chunks of several lengths, by milliseconds.

    One of the length that the run decodes with is the run's.
    """
    if not settings.decoding_windows:
        return {}
    mine, tag = _window(settings, settings.inference_args), settings.inference_tag
    return {w: tag if w == mine else f"{tag}_{w}ms" for w in settings.decoding_windows}


def _window(settings: Settings, args: str) -> str:
    """Return the milliseconds of a chunk that is decoded with these options."""
    values = values_of(args.split(), "--decoding_window")
    path = settings.inference_config
    config = read_yaml(path, "--inference_config names it") if path else {}
    return values.get("decoding_window") or str(config.get("decoding_window", ESPNET_WINDOW))


def _longer(settings: Settings, how: Decoding, exp: str, frames: int) -> Decoding:
    """Return a way to decode in longer chunks.

    Args:
        settings: Options of the run.
        how: The way.
        exp: Experiment of the model.
        frames: Encoder frames by which chunks are longer.
    """
    path = f"{exp}/config.yaml"
    samples = samples_of_frame(read_yaml(path, "training leaves it"), path)
    more = frames * samples * 1000 / sampling_rate(settings.fs)
    window = round(float(_window(settings, how.args)) + more)
    return how._replace(args=f"{how.args} --decoding_window {window}".strip())


def decode_model(
    recipe: Recipe,
    exp: str,
    maker: str,
    sets: Optional[Sequence[str]] = None,
    force: Optional[bool] = None,
    sibling: PlannedSibling = OF_RUN,
) -> None:
    """Decode sets that are not decoded yet.

    Args:
        recipe: The stage.
        exp: Experiment of the model.
        maker: Number of the stage that trains the model.
        sets: Names below `data_feats`; None: all test sets.
        force: Whether it is done in any case; None: as the run is asked to.
        sibling: See `ways_of`.

    Raises:
        UserError: a file is missing, or it was decoded otherwise before.
        JobError: a job has failed.
    """
    settings = recipe.settings
    recipe.need(f"{exp}/config.yaml", maker)
    recipe.need(f"{exp}/{settings.inference_asr_model}", maker)
    for name in settings.scored_sets if sets is None else sets:
        recipe.need(f"{settings.data(name)}/wav.scp", settings.maker_of_set(name))
    for how in ways_of(settings, sibling)[: None if sets is None else 1]:
        how = _longer(settings, how, exp, sibling.ahead) if sibling.ahead else how
        _decode(recipe, exp, how, settings.scored_sets if sets is None else sets, force)


def _decode(
    recipe: Recipe, exp: str, how: Decoding, sets: Sequence[str], force: Optional[bool]
) -> None:
    """Decode sets in one way; see `decode_model`."""
    settings, tag = recipe.settings, how.tag
    words = [f"config:{settings.inference_config}"] if settings.inference_config else []
    words += [
        f"args:{how.args}",
        f"inference_asr_model={settings.inference_asr_model}",
        f"use_streaming={str(settings.use_streaming).lower()}",
        f"file:{exp}/config.yaml",
        f"file:{exp}/{settings.inference_asr_model}",
    ]
    if settings.use_streaming and how.decoding != "stock":
        words.append(f"decoding={how.decoding}")  # whole utterances give the same either way
    waiting = []
    for name in sets:
        data = settings.data(name)
        # What an earlier run left would be counted with this one: it is removed first.
        step = ["kind:fresh", *words, f"data:{data}", "out:text"]
        if recipe.needed(f"{exp}/{tag}/{name}", "decode", step, force):
            waiting.append(name)
    if not waiting:
        return

    at_once = min(len(waiting), settings.inference_nj)
    share = settings.inference_nj // at_once
    folders = [f"{exp}/{tag}/{name}" for name in waiting]
    recipe.log_path = " ".join(f"{folder}/logdir/asr_inference.*.log" for folder in folders)
    recipe.log(f"Decoding {' '.join(waiting)} with {exp}{how.name}, log: {recipe.log_path}")
    while waiting:
        now, waiting = waiting[:at_once], waiting[at_once:]
        for name in now:
            _start(recipe, exp, how, name, share)
        recipe.jobs.wait()
        for name in now:
            folder = f"{exp}/{tag}/{name}"
            join_hypotheses(folder, f"{settings.data(name)}/wav.scp")
            recipe.done(folder, "decode")
    recipe.log_path = ""


def score_model(
    recipe: Recipe,
    exp: str,
    decoder: str,
    sets: Optional[Sequence[str]] = None,
    force: Optional[bool] = None,
    sibling: PlannedSibling = OF_RUN,
) -> None:
    """Count the errors of one model on sets that are decoded.

    Args:
        recipe: The stage.
        exp: Experiment of the model.
        decoder: Number of the stage that decodes with the model.
        sets: See `decode_model`.
        force: See `decode_model`.
        sibling: See `ways_of`.
    """
    settings = recipe.settings
    tags = [how.tag for how in ways_of(settings, sibling)[: None if sets is None else 1]]
    chosen = settings.scored_sets if sets is None else sets
    for tag, name in ((tag, name) for tag in tags for name in chosen):
        folder, data = f"{exp}/{tag}/{name}", settings.data(name)
        recipe.need(f"{data}/text", settings.maker_of_set(name))
        recipe.need(f"{folder}/text", decoder)
        words = [f"file:{folder}/text", f"table:{data}/text"]
        labels = [f"{data}/{label}" for label in LABELS]
        words += [f"table:{path}" for path in labels if os.path.isfile(path)]
        words += ["out:score_wer/result.txt", "out:score_*/counts.tsv", "also:score_*/*"]
        if recipe.needed(folder, "score", words, force):
            files = ["--ref", f"{data}/text", "--hyp", f"{folder}/text", "--out", folder]
            recipe.call(recipe.python("score", *files))
            recipe.done(folder, "score")
    if sets is None and os.access(LOCAL_SCORE, os.X_OK):  # as in ESPnet
        recipe.call([LOCAL_SCORE, *shlex.split(settings.local_score_opts), exp])


def why_not_scored(recipe: Recipe, exp: str, tag: str) -> Optional[str]:
    """Say why the scores of all test sets are not of the model and the sets as they are now.

    Args:
        recipe: The stage.
        exp: Experiment of the model.
        tag: Name of the directory of the decodings.
    """
    folders = [f"{exp}/{tag}/{name}" for name in recipe.settings.scored_sets]
    return recipe.not_current([(f, step) for f in folders for step in ("decode", "score")])


def _start(recipe: Recipe, exp: str, how: Decoding, name: str, share: int) -> None:
    settings, commands = recipe.settings, recipe.commands
    data, logdir = settings.data(name), f"{exp}/{how.tag}/{name}/logdir"
    count = min(share, count_lines(f"{data}/wav.scp"))
    split_keys(f"{data}/wav.scp", count, f"{logdir}/keys")
    gpus = int(settings.gpu_inference)
    words = recipe.python(
        "decode",
        *("--ngpu", str(gpus)),
        *("--data_path_and_name_and_type", f"{data}/wav.scp,speech,sound"),
        *("--key_file", f"{logdir}/keys.JOB.scp"),
        *("--asr_train_config", f"{exp}/config.yaml"),
        *("--asr_model_file", f"{exp}/{settings.inference_asr_model}"),
        *("--output_dir", f"{logdir}/output.JOB"),
        *("--decoding", how.decoding),
    )
    if settings.inference_config:
        words += ["--config", settings.inference_config]
    if settings.use_streaming:  # `--streaming false` would be read as true
        words += ["--streaming", "true"]
    words += how.args.split()
    command = commands.cuda if settings.gpu_inference else commands.decode
    log = f"{logdir}/asr_inference.JOB.log"
    recipe.start(job_words(command, log, words, count, gpu=gpus))


def split_keys(table: str, count: int, prefix: str) -> None:
    """Cut the lines of a table into runs of (nearly) equal length, one for each job.

    Args:
        table: The table.
        count: Number of jobs.
        prefix: Beginning of the names; job 1 gets `<prefix>.1.scp`.
    """
    with open(table, "rb") as f:
        lines = f.readlines()
    os.makedirs(os.path.dirname(prefix), exist_ok=True)
    runs: List[List[bytes]] = [[] for _ in range(count)]
    for i, line in enumerate(lines):
        runs[i * count // len(lines)].append(line)
    for number, run in enumerate(runs, 1):
        with open(f"{prefix}.{number}.scp", "wb") as out:
            out.writelines(run)


def join_hypotheses(folder: str, keys: str) -> None:
    """Join what the jobs of a decoding have left, sorted by utterance.

    Args:
        folder: Folder of the decoding.
        keys: Table of the utterances that were to be decoded.

    Raises:
        UserError: there are fewer hypotheses, or more.
    """
    for name in JOINED:
        parts = glob.glob(f"{glob.escape(folder)}/logdir/output.*/1best_recog/{name}")
        if not parts:
            continue
        lines: List[bytes] = []
        for part in parts:
            with open(part, "rb") as f:
                lines += [line.rstrip(b"\n") + b"\n" for line in f]
        with atomic_path(f"{folder}/{name}") as path, open(path, "wb") as out:
            out.writelines(sorted(lines))
    hypotheses = count_lines(f"{folder}/text") if os.path.exists(f"{folder}/text") else 0
    utterances = count_lines(keys)
    if hypotheses != utterances:
        raise UserError(
            f"decoding left {hypotheses} hypotheses in {folder}/text, but {keys} lists "
            f"{utterances} utterances (log: {folder}/logdir)"
        )
