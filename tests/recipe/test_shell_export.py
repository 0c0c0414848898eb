"""Stage 20 of the stage script: which models are exported, and when again."""

import pytest
from shell_recipe import Recipe, value

EXPORT = {"stage": 20, "stop_stage": 20}
BOTH = {"export_formats": "float32 int8"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    recipe = Recipe(tmp_path_factory.mktemp("exported"))
    recipe.ok(stop_stage=16)
    recipe.calls()
    return recipe


def test_the_last_student_is_exported_once(recipe):
    assert "Stage 20: nothing to do (--export_formats is empty)" in recipe.ok(**EXPORT)
    assert not recipe.calls()
    printed = recipe.ok(**EXPORT, **BOTH, inference_args="--left_context 48 --beam_size 1")
    [call] = recipe.calls()
    assert value(call, "--exp") == "exp/kd_small" and value(call, "--left_context") == "48"
    at = call.index("--format")
    assert call[at + 1 : at + 5] == ["float32", "int8", "--out", "exp/kd_small/exported"]
    assert value(call, "--valid") == "dump/raw/dev"
    assert call[call.index("--data") + 1 :][:2] == ["dump/raw/test_a", "dump/raw/test_b"]
    assert "exp/kd_small/exported/int8: 100.0 % of 3 transcripts equal" in printed
    assert "espnet_kd.bin.transcribe exp/kd_small/exported/int8 " in printed

    again = recipe.ok(**EXPORT, **BOTH, inference_args="--left_context 48 --beam_size 4")
    assert "Stage 20: already done, skipped" in again and not recipe.calls()
    recipe.ok(**EXPORT, export_formats="int4", inference_args="--left_context 48")
    assert recipe.verbs() == ["export"]  # other formats are other input


def test_models_are_named_as_in_the_report(recipe):
    recipe.ok(**EXPORT, **BOTH, export_models="teacher big")
    calls = recipe.calls()
    assert [value(call, "--exp") for call in calls] == ["exp/teacher", "exp/kd_big"]
    error = recipe.error(**EXPORT, export_formats="int9")
    assert "--export_formats 'int9' is not one of float32, float16, int8, int4" in error
    assert "--export_models: no model 'huge'" in recipe.error(
        **EXPORT, **BOTH, export_models="huge"
    )
    env = {"STUB_FAIL": "espnet_kd.bin.export:exp/kd_mid"}
    error = recipe.run(env, **EXPORT, **BOTH, export_models="mid").stderr
    assert "stage 20 (export of models for devices) failed" in error
    assert "log: exp/kd_mid/exported/export.log" in error
