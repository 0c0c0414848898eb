"""The first teacher: stages 11 (training), 12 (decoding) and 13 (scoring)."""

from espnet_kd.run.decoding import decode_model, score_model
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.training import train_model


def train(recipe: Recipe) -> None:
    """Train the teacher, unless it was imported."""
    settings = recipe.settings
    if settings.teacher_exp:
        recipe.log(f"Stage 11: nothing to train, the teacher is {settings.teacher_exp}")
        return
    words = [
        f"config:{settings.asr_config}",
        f"args:{settings.asr_args}",
        f"fs={settings.fs}",
        f"feats_normalize={settings.feats_normalize}",
    ]
    statistics = f"{settings.asr_stats_dir}/train"
    options = ["--config", settings.asr_config, "--frontend_conf", f"fs={settings.fs}"]
    options += ["--normalize", settings.feats_normalize]
    if settings.feats_normalize == "global_mvn":
        options += ["--normalize_conf", f"stats_file={statistics}/feats_stats.npz"]
    options += settings.asr_args.split()
    data = settings.train_dir
    train_model(recipe, settings.asr_exp, data, statistics, words, lambda: options, settings.force)


def decode(recipe: Recipe) -> None:
    """Decode the test sets."""
    decode_model(recipe, recipe.settings.asr_exp, recipe.settings.teacher_stage)


def score(recipe: Recipe) -> None:
    """Count the errors on the test sets."""
    score_model(recipe, recipe.settings.asr_exp, "12")
