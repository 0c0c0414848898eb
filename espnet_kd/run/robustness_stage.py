"""Stage 22: what conditions cost compressed models more than the first teacher."""

import hashlib
from typing import Dict, List, Tuple

from espnet_kd.data.perturbation import sound_files
from espnet_kd.errors import UserError
from espnet_kd.run.decoding import decode_model, score_model, why_not_scored
from espnet_kd.run.lock import PATIENCE, held
from espnet_kd.run.recipe import Recipe
from espnet_kd.run.students import read_students
from espnet_kd.spec.conditions_file import load_robustness

FOLDER = "robustness"  # below dump/raw, and below a model's decodings


def measure_robustness(recipe: Recipe) -> None:
    """Make the test sets under all conditions, decode them with all models, and report.

    Args:
        recipe: The stage.

    Raises:
        UserError: the first teacher or all students are not scored, or a condition cannot be made.
        JobError: a job has failed.
    """
    settings = recipe.settings
    models = _scored_models(recipe)
    # Runs with an --expdir of their own share the sounds, and may share the teacher.
    with held(f"{settings.data_feats}/{FOLDER}", PATIENCE, recipe.log):
        sets = _make_sets(recipe)
        for exp, maker in models.values():
            decode_model(recipe, exp, maker, sets)
            score_model(recipe, exp, recipe.stage, sets)
    command = recipe.python("robustness", "--exp", settings.expdir)
    counts = []
    for model, (exp, _) in models.items():
        command += ["--model", f"{model}={exp}"]
        for name in (*sets, *settings.scored_sets):
            counts.append(f"file:{exp}/{settings.inference_tag}/{name}/score_wer/counts.tsv")
    command += ["--inference_tag", settings.inference_tag]
    recipe.call([*command, "--test_sets", " ".join(settings.scored_sets)])
    recipe.done(settings.expdir, "robustness", [*counts, "out:robustness.json"])


def _make_sets(recipe: Recipe) -> List[str]:
    """Make the test sets under all conditions; return their places below the data directories."""
    settings, sets = recipe.settings, []
    conditions = settings.robustness
    for name in settings.scored_sets:
        data, out = settings.data(name), settings.data(f"{FOLDER}/{name}")
        recipe.need(f"{data}/wav.scp", settings.maker_of_set(name))
        words = [f"table:{conditions}", f"tables:{data}", *_sounds(conditions)]
        words += [f"out:{table}" for table in ("wav.scp", "text", "utt2spk", "utt2condition")]
        if recipe.needed(out, "perturb", words):
            command = recipe.python("perturb", "--data", data, "--conditions", conditions)
            recipe.call([*command, "--out", out, "--nj", str(settings.nj)])
            recipe.done(out, "perturb")
        sets.append(f"{FOLDER}/{name}")
    return sets


def _scored_models(recipe: Recipe) -> Dict[str, Tuple[str, str]]:
    """Return experiment and maker of each model that can be compared, the first teacher first.

    Raises:
        UserError: the first teacher is not scored, or no student is.
    """
    settings, tag = recipe.settings, recipe.settings.inference_tag
    stale = why_not_scored(recipe, settings.asr_exp, tag)
    if stale:
        raise UserError(
            f"{stale}: every model is compared with the first teacher; run stages 12 and 13 first"
        )
    models = {"teacher": (settings.asr_exp, settings.teacher_stage)}
    for student in read_students(settings):
        stale = why_not_scored(recipe, student.folder, tag)
        maker = f"16 (--compression_stage {student.number})"
        if stale is None:
            models[student.name] = (student.folder, maker)
            continue
        recipe.log(
            f"Stage {recipe.stage}: {student.folder} is not scored yet and left out "
            f"(stage {maker}; {stale})"
        )
    if len(models) < 2:
        raise UserError(
            f"{settings.compression_config}: none of its students is scored yet, and there is "
            "nothing to compare the teacher with; run stage 16 first"
        )
    return models


def _sounds(conditions: str) -> List[str]:
    """Spell which sounds lie in the folders that noise and rooms are taken from."""
    words = []
    for condition in load_robustness(conditions).conditions:
        for key, folder in condition.folders.items():
            files = [f"{path} {path.stat().st_size}" for path in sound_files(folder, key)]
            digest = hashlib.sha256("\n".join(files).encode()).hexdigest()
            words.append(f"text:sounds of {folder}={digest}")
    return words
