"""Train one model: the teacher (stage 11) and every student (stage 16)."""

import glob
import os
import shlex
from typing import Callable, List, Sequence

from espnet_kd.errors import UserError
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.settings import Settings

# What a trainer would resume from, or take for its own.
RESUMED = (
    "checkpoint.pth",
    "checkpoint.previous.pth",
    "latest.pth",
    "[0-9]*epoch.pth",
    "*.ave.pth",
    "*.ave_*best.pth",
    "*.best.pth",
    "history.json",
    "facts.json",
)


def is_trained(recipe: Recipe, exp: str) -> bool:
    """Tell whether a model is trained, and there."""
    model = f"{exp}/{recipe.settings.inference_asr_model}"
    return os.path.isfile(f"{exp}/.done.train") and os.path.exists(model)


def train_model(
    recipe: Recipe,
    exp: str,
    train_dir: str,
    shapes: str,
    words: Sequence[str],
    options: Callable[[], List[str]],
    force: bool,
) -> None:
    """Train a model, or go on with its training, unless it is finished.

    Args:
        recipe: The stage.
        exp: Experiment of the model.
        train_dir: Data directory that is trained on.
        shapes: Folder of that directory's shape files.
        words: Words for what determines the result apart from the data (see `make_record`).
        options: Function that returns further options of the trainer; it is called before a
            training, and only then.
        force: Whether the model is trained anew in any case.

    Raises:
        UserError: a file is missing, or the model was trained otherwise before.
        JobError: the training has failed.
    """
    settings = recipe.settings
    model = settings.inference_asr_model
    recipe.need(f"{train_dir}/wav.scp", "4")
    recipe.need(f"{settings.valid_dir}/wav.scp", "4")
    recipe.need(settings.token_list, "5")
    statistics = f"{settings.asr_stats_dir}/train/feats_stats.npz"
    if not settings.teacher_exp:  # or they came with it
        recipe.need(statistics, "10")
    lengths = ("speech_shape", f"text_shape.{settings.token_type}")
    inputs = [
        f"seed={settings.seed}",
        f"file:{settings.token_list}",
        f"data:{train_dir}",
        f"data:{settings.valid_dir}",
        *([f"file:{statistics}"] if os.path.exists(statistics) else []),
        *(f"file:{shapes}/{name}" for name in lengths),
        *(f"file:{settings.asr_stats_dir}/valid/{name}" for name in lengths),
    ]
    if settings.token_type == "bpe":
        inputs.append(f"file:{settings.bpemodel}")
    left = [f"out:{model}", "out:config.yaml", "also:*.pth", "also:history.json"]
    left.append("also:facts.json")
    if not recipe.needed(exp, "train", ["kind:train", *words, *inputs, *left], force):
        return

    if force:
        for pattern in RESUMED:
            for path in glob.glob(f"{glob.escape(exp)}/{pattern}"):
                os.unlink(path)
    more = options()
    command = [*_trainer(recipe, exp, train_dir, shapes), *more]
    log = f"{exp}/train.log"
    recipe.log_path = log
    recipe.log(f"Training {exp}, log: {log}")
    _run(recipe, exp, command, log)
    if not os.path.exists(f"{exp}/{model}"):
        raise UserError(
            f"training ended, but left no {exp}/{model}; name a file of that folder with "
            f"--inference_asr_model (log: {log})"
        )
    recipe.log_path = ""
    recipe.done(exp, "train")


def data_words(settings: Settings, train_dir: str) -> List[str]:
    """Spell what the trainer reads: tokens, training set, validation set.

    Args:
        settings: Options of the run.
        train_dir: Data directory that is trained on.
    """
    words = ["--use_preprocessor", "true", "--bpemodel", settings.bpemodel]
    words += ["--token_type", settings.token_type, "--token_list", settings.token_list]
    for part, folder in (("train", train_dir), ("valid", settings.valid_dir)):
        option = f"--{part}_data_path_and_name_and_type"
        words += [option, f"{folder}/wav.scp,speech,sound", option, f"{folder}/text,text,text"]
    return words


def _trainer(recipe: Recipe, exp: str, train_dir: str, shapes: str) -> List[str]:
    settings = recipe.settings
    valid, kind = f"{settings.asr_stats_dir}/valid", settings.token_type
    command = recipe.python(
        "train",
        *data_words(settings, train_dir),
        *("--train_shape_file", f"{shapes}/speech_shape"),
        *("--train_shape_file", f"{shapes}/text_shape.{kind}"),
        *("--valid_shape_file", f"{valid}/speech_shape"),
        *("--valid_shape_file", f"{valid}/text_shape.{kind}"),
        *("--fold_length", str(settings.asr_speech_fold_length * 100)),
        *("--fold_length", str(settings.asr_text_fold_length)),
        *("--resume", "true"),
        *("--output_dir", exp),
    )
    return [*command, "--seed", settings.seed] if settings.seed else command


def _run(recipe: Recipe, exp: str, command: List[str], log: str) -> None:
    settings, cuda = recipe.settings, recipe.commands.cuda
    name = os.path.basename(exp)
    if settings.ngpu > 1 or settings.num_nodes > 1:
        launch = recipe.python(
            "espnet2.bin.launch",
            *("--cmd", f"{cuda} --name {shlex.quote(name)}"),
            *("--log", log),
            *("--ngpu", str(settings.ngpu)),
            *("--num_nodes", str(settings.num_nodes)),
            *("--init_file_prefix", f"{exp}/.dist_init_"),
            *("--multiprocessing_distributed", "true"),
            "--",
        )
        recipe.call([*launch, *command])
        return
    # One process needs no launcher, and its error stays one line.
    _rotate_log(log)
    threads = 1
    if settings.ngpu == 0:
        threads = settings.threads(recipe.commands)
        command = ["env", f"OMP_NUM_THREADS={threads}", *command]
    command += ["--ngpu", str(settings.ngpu), "--multiprocessing_distributed", "true"]
    recipe.submit(cuda, log, command, name=name, gpu=settings.ngpu, num_threads=threads)


def _rotate_log(log: str) -> None:
    """Keep the logs of earlier runs: train.log becomes train.1.log, and so on."""
    if not os.path.isfile(log):
        return
    base, number = log.removesuffix(".log"), 1
    while os.path.isfile(f"{base}.{number}.log"):
        number += 1
    for n in range(number, 1, -1):
        os.replace(f"{base}.{n - 1}.log", f"{base}.{n}.log")
    os.replace(log, f"{base}.1.log")
