"""Stage 10: lengths of all utterances, mean and variance of the features.

An imported teacher has brought its mean and variance, which its students keep: then lengths are
all that is needed, and no audio is read.
"""

import os
import shutil
from typing import Sequence

from espnet_kd.fileio import atomic_path
from espnet_kd.run.decoding import split_keys
from espnet_kd.run.recipe import Recipe, count_lines
from espnet_kd.run.settings import Settings
from espnet_kd.run.training import data_words

PARTS = ("train", "valid")


def collect_stats(recipe: Recipe) -> None:
    """Collect the statistics of the training and the validation set.

    Args:
        recipe: The stage.

    Raises:
        UserError: a file is missing, or they were collected otherwise before.
        JobError: a job has failed.
    """
    settings = recipe.settings
    out, train_dir, valid_dir = settings.asr_stats_dir, settings.train_dir, settings.valid_dir
    recipe.need(f"{train_dir}/wav.scp", "4")
    recipe.need(f"{valid_dir}/wav.scp", "4")
    recipe.need(settings.token_list, "5")
    lengths = ("speech_shape", f"text_shape.{settings.token_type}")
    made = [f"out:{part}/{name}" for part in PARTS for name in lengths]
    if settings.teacher_exp and not os.path.exists(statistics_file(settings)):
        _lengths_alone(recipe, made)
        return
    words = [
        f"train_set={settings.train_set}",
        f"fs={settings.fs}",
        f"file:{settings.token_list}",
        # Of the teacher's training, what lengths and features depend on.
        f"config:{settings.asr_config}",
        f"args:{settings.asr_args}",
        "keep:frontend",
        f"data:{train_dir}",
        f"data:{valid_dir}",
        "out:train/feats_stats.npz",
        *made,
    ]
    if not recipe.needed(out, "stats", words):
        return

    tables = [f"{folder}/wav.scp" for folder in (train_dir, valid_dir)]
    count = min(settings.nj, *map(count_lines, tables))
    logdir = f"{out}/logdir"
    shutil.rmtree(logdir, ignore_errors=True)
    for part, table in zip(PARTS, tables):
        split_keys(table, count, f"{logdir}/{part}")
    log = f"log: {logdir}/stats.*.log"
    recipe.log(f"Statistics of {train_dir} and {valid_dir} with {count} job(s), {log}")
    # The shape files only list the utterances of a job here.
    command = recipe.python(
        "train",
        *("--collect_stats", "true"),
        *data_words(settings, train_dir),
        *("--train_shape_file", f"{logdir}/train.JOB.scp"),
        *("--valid_shape_file", f"{logdir}/valid.JOB.scp"),
        # Nothing to add up: the only job writes where the sum would be.
        *("--output_dir", f"{logdir}/stats.JOB" if count > 1 else out),
        *("--config", settings.asr_config),
        *("--frontend_conf", f"fs={settings.fs}"),
        *settings.asr_args.split(),
    )
    recipe.submit(recipe.commands.train, f"{logdir}/stats.JOB.log", command, count)
    if count > 1:
        command = recipe.python("espnet2.bin.aggregate_stats_dirs")
        for number in range(1, count + 1):
            command += ["--input_dir", f"{logdir}/stats.{number}"]
        command += ["--output_dir", out]
        recipe.submit(recipe.commands.train, f"{logdir}/aggregate.log", command)
    recipe.log_path = ""
    _write_lengths(recipe)
    recipe.call(recipe.python("check_stats", "--stats_dir", out))
    recipe.done(out, "stats")


def statistics_file(settings: Settings) -> str:
    """Name the file of the mean and variance of the training set."""
    return f"{settings.asr_stats_dir}/train/feats_stats.npz"


def _lengths_alone(recipe: Recipe, made: Sequence[str]) -> None:
    settings, config = recipe.settings, f"{recipe.settings.asr_exp}/config.yaml"
    folders = (settings.train_dir, settings.valid_dir)
    recipe.need(config, "5")
    words = [f"train_set={settings.train_set}", f"file:{settings.token_list}", f"file:{config}"]
    words += [*(f"data:{folder}" for folder in folders), *made]
    if not recipe.needed(settings.asr_stats_dir, "lengths", words):
        return
    recipe.log("Lengths alone: the statistics of the features are the teacher's")
    for part, folder in zip(PARTS, folders):
        command = recipe.python(
            "measure_lengths",
            *("--data", folder, "--config", config),
            *("--token_type", settings.token_type, "--bpemodel", settings.bpemodel),
            *("--out", f"{settings.asr_stats_dir}/{part}"),
        )
        recipe.call(command)
    _write_lengths(recipe)
    recipe.done(settings.asr_stats_dir, "lengths")


def _write_lengths(recipe: Recipe) -> None:
    """Sort the lengths; the sampler counts elements, so it needs the width of the output, too."""
    settings = recipe.settings
    vocabulary = str(count_lines(settings.token_list)).encode()
    for part in PARTS:
        folder = f"{settings.asr_stats_dir}/{part}"
        for source, name, end in (
            ("speech_shape", "speech_shape", b""),
            ("text_shape", f"text_shape.{settings.token_type}", b"," + vocabulary),
        ):
            with open(f"{folder}/{source}", "rb") as f:
                lines = sorted(line.rstrip(b"\n") for line in f)
            with atomic_path(f"{folder}/{name}") as path, open(path, "wb") as out:
                out.writelines(line + end + b"\n" for line in lines)
