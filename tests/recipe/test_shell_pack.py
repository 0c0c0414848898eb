"""Stages 18 and 19 of the stage script: which models are packed and uploaded, and when again."""

import os
import shutil

import pytest
from shell_recipe import Recipe, value

NAMES = ["teacher", "big", "mid", "small"]
DIRS = ["exp/teacher", "exp/kd_big", "exp/kd_mid", "exp/kd_small"]
PACK = {"stage": 18, "stop_stage": 18}
UPLOAD = {"stage": 19, "hf_repo": "me/digits"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    recipe = Recipe(tmp_path_factory.mktemp("packed"))
    recipe.ok(lang="en", model_license="cc-by-4.0", use_streaming="true")
    calls = [call for call in recipe.calls() if call[0].endswith(".pack_model")]
    shutil.copytree(recipe.dir.parents[2], recipe.dir.parents[2] / "kept", symlinks=True)
    return recipe, calls


@pytest.fixture
def recipe(packed):
    """The finished recipe, put back into its first state before each test."""
    recipe, _ = packed
    kept = recipe.dir.parents[2] / "kept/egs2/my"
    shutil.rmtree(recipe.dir.parent)
    shutil.copytree(kept, recipe.dir.parent, symlinks=True)
    recipe.calls()
    return recipe


SAME = {"lang": "en", "model_license": "cc-by-4.0", "use_streaming": "true"}


def archive(folder):
    return f"{folder}/packed/{folder.removeprefix('exp/')}.zip"


def test_every_model_of_the_report_is_packed(packed):
    recipe, (listing, *calls) = packed
    assert listing[1:3] == ["--results", "exp/results.json"] and "--list" in listing
    assert [value(call, "--model") for call in calls] == NAMES
    assert [value(call, "--out") for call in calls] == [archive(folder) for folder in DIRS]
    for call in [listing, *calls]:
        assert value(call, "--inference_tag") == "decode"
    for call in calls:
        assert value(call, "--language") == "en" and value(call, "--license") == "cc-by-4.0"
        assert value(call, "--inference_config") == "conf/decode.yaml"
        assert "--inference_args= --streaming true" in call  # ESPnet's options, no others


def scored_anew(recipe):
    """Count other words wrong of one set that one model has decoded."""
    shutil.rmtree(recipe.dir / "exp/kd_mid/decode/test_b/score_wer")
    one = {"stage": 16, "stop_stage": 16, "compression_stage": 2, "stop_compression_stage": 2}
    recipe.ok({"STUB_WER": "kd_mid=7"}, **SAME, **one)
    recipe.calls()


def test_packed_models_are_skipped_and_those_scored_anew_packed_again(recipe):
    printed = recipe.ok(**SAME, **PACK)
    assert recipe.verbs() == ["pack_model"]  # the list
    assert printed.count("Stage 18: already done, skipped (exp/") == len(NAMES)
    recipe.ok(**SAME, **PACK, pack_models="small")
    assert recipe.verbs() == ["pack_model"]
    scored_anew(recipe)
    assert "stage 17" in recipe.error(**SAME, **PACK)
    recipe.ok(**SAME, stage=17, stop_stage=17)
    recipe.calls()
    assert "exp/kd_mid/packed is made again" in recipe.ok(**SAME, **PACK)
    assert [value(call, "--model") for call in recipe.calls()[1:]] == ["mid"]


def test_a_card_with_old_scores_is_refused(recipe):
    scored_anew(recipe)
    error = recipe.error(**SAME, **PACK)
    assert "exp was made (report) before its input changed (exp/kd_mid/decode/test_b/" in error
    assert "run stage 17 first" in error


def test_the_clock_decides_nothing(recipe):
    """After a jump of the clock everything is as old, or as new, as it likes."""
    for n, path in enumerate(sorted((recipe.dir / "exp").rglob("*"))):
        os.utime(path, (1e9 + n * (-1) ** n,) * 2)
    recipe.ok(**SAME)
    assert set(recipe.verbs()) == {"report", "pack_model"}


def test_other_options_are_refused_unless_forced(recipe):
    changed = {**SAME, "model_license": "mit"}
    error = recipe.error(**changed, **PACK)
    assert (
        "(model_license cc-by-4.0, now model_license mit); --stage 18 --stop_stage 18 --force true"
        in error.replace("=", " ")
    )
    recipe.calls()
    recipe.ok(**changed, **PACK, force="true", pack_models="small")
    (call,) = recipe.calls()[1:]
    assert value(call, "--model") == "small" and value(call, "--license") == "mit"


def test_models_are_chosen_by_name(recipe):
    error = recipe.error(**SAME, **PACK, pack_models="small big_half")
    assert "'big_half'" in error and error.endswith("it has teacher big mid small")


def test_upload(recipe):
    assert "nothing to do (--hf_repo is empty)" in recipe.ok(**SAME, stage=19)
    assert recipe.verbs() == []
    recipe.ok(**SAME, **UPLOAD, hf_dry_run="true", pack_models="small")
    (call,) = recipe.calls()[1:]
    assert call[1:6] == ["--archive", archive(DIRS[-1]), "--repo", "me/digits_small", "--dry_run"]
    recipe.ok(**SAME, **UPLOAD)  # a dry run counts for nothing
    calls = recipe.calls()[1:]
    assert [value(call, "--repo") for call in calls] == [f"me/digits_{name}" for name in NAMES]
    assert not any("--dry_run" in call for call in calls)
    assert recipe.ok(**SAME, **UPLOAD).count("Stage 19: already done, skipped") == len(NAMES)


def test_upload_needs_what_is_packed_and_a_name(recipe):
    os.unlink(recipe.dir / archive(DIRS[1]))
    error = recipe.error(**SAME, **UPLOAD)
    assert error.endswith(f"needs {archive(DIRS[1])}, which stage 18 makes: run stage 18 first")
    assert "--hf_repo must be user/name, not 'me'" in recipe.error(**SAME, stage=19, hf_repo="me")


def test_who_looks_for_espnets_numbers_is_told(recipe):
    error = recipe.error(**SAME, stage=14, stop_stage=15)
    assert "no stage to run" in error and "pack and upload are stages 18 and 19" in error


def test_scores_of_an_earlier_training_are_neither_reported_nor_packed(recipe):
    trained = recipe.dir / "exp/kd_mid/valid.loss_transducer.ave.pth"
    trained.write_text("trained again")
    error = recipe.error(**SAME, **PACK)
    assert f"before its input changed ({trained.relative_to(recipe.dir)})" in error
    assert "decode and score it (stages 12 and 13, or 16), then run stage 17" in error
    recipe.calls()
    printed = recipe.ok(**SAME, stage=17, stop_stage=17)
    assert "exp/kd_mid is not scored yet and left out" in printed
    *_, call = recipe.calls()
    models = [call[n + 1] for n, word in enumerate(call) if word == "--model"]
    assert models == ["teacher=exp/teacher", "big=exp/kd_big", "small=exp/kd_small"]
    assert value(call, "--left_out") == "mid"
    (recipe.dir / "exp/teacher/config.yaml").write_text("other: sizes")
    error = recipe.error(**SAME, stage=17, stop_stage=17)
    assert "input changed (exp/teacher/config.yaml): run stages 12 and 13 first" in error
