"""Stages 20 and 21 of the stage script: which models are exported and reported, and when again."""

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
    calls = recipe.calls()
    assert [value(call, "--format") for call in calls] == ["float32", "int8"]
    call = calls[1]
    assert value(call, "--exp") == "exp/kd_small" and value(call, "--left_context") == "48"
    assert value(call, "--out") == "exp/kd_small/exported"
    assert value(call, "--valid") == "dump/raw/dev" and value(call, "--utterances") == "500"
    assert call[call.index("--data") + 1 :][:2] == ["dump/raw/test_a", "dump/raw/test_b"]
    assert "exp/kd_small/exported/int8: 100.0 % of 3 transcripts equal" in printed
    assert "espnet_kd.bin.transcribe exp/kd_small/exported/int8 " in printed

    again = recipe.ok(**EXPORT, **BOTH, inference_args="--left_context 48 --beam_size 4")
    assert "Stage 20: already done, skipped" in again and not recipe.calls()
    recipe.ok(**EXPORT, export_formats="float32 int4", inference_args="--left_context 48")
    [call] = recipe.calls()
    assert value(call, "--format") == "int4"  # each format by itself


def test_formats_beyond_the_margin_are_told_when_all_are_made(recipe):
    wanted = {"export_formats": "float16 int8 int4", "export_models": "mid"}
    done = recipe.run({"STUB_BEYOND": "int8"}, **EXPORT, **wanted)
    calls = recipe.calls()
    assert [value(call, "--format") for call in calls] == ["float16", "int8", "int4"]
    assert "espnet_kd.bin.transcribe exp/kd_mid/exported/int4 " in done.stdout
    assert "(exit code 3), log: exp/kd_mid/exported/export.int8.log" in done.stderr
    recipe.ok(**EXPORT, **wanted)  # only that is made again
    assert [value(call, "--format") for call in recipe.calls()] == ["int8"]


def test_models_are_named_as_in_the_report(recipe):
    recipe.ok(**EXPORT, **BOTH, export_models="teacher big")
    calls = recipe.calls()
    folders = [value(call, "--exp") for call in calls]
    assert folders == ["exp/teacher"] * 2 + ["exp/kd_big"] * 2
    error = recipe.error(**EXPORT, export_formats="int9")
    assert "--export_formats 'int9' is not one of float32, float16, int8, int4" in error
    assert "--export_models: no model 'huge'" in recipe.error(
        **EXPORT, **BOTH, export_models="huge"
    )
    env = {"STUB_FAIL": "espnet_kd.bin.export:exp/kd_mid"}
    options = {**BOTH, "export_utterances": 7}
    error = recipe.run(env, **EXPORT, **options, export_models="mid").stderr
    assert "stage 20 (export of models for devices) failed" in error
    assert "log: exp/kd_mid/exported/export.float32.log" in error


STREAMING = {"use_streaming": "true", "stock_wer": "false", "inference_tag": "streamed"}
WINDOWS = {**STREAMING, "decoding_windows": "320 640", "inference_args": "--decoding_window 640"}


def named(call, option):
    return [call[k + 1].partition("=")[0] for k, word in enumerate(call) if word == option]


def test_the_report_has_a_row_a_student_and_format_and_other_chunks(recipe):
    """Measured again where an exported folder has changed; not of one that is not as it was."""
    recipe.ok(**EXPORT, **BOTH, inference_args="--left_context 48")  # other chunks
    recipe.calls()
    recipe.ok(**WINDOWS, stage=12, stop_stage=16)
    decoded = [call for call in recipe.calls() if call[0].endswith(".decode")]
    folders = {value(call, "--output_dir").split("/")[2] for call in decoded}
    assert folders == {"streamed", "streamed_320ms"}  # 640 is the run's own
    assert all("320" in c for c in decoded if "streamed_320ms" in value(c, "--output_dir"))
    run = {**WINDOWS, **BOTH, "stop_stage": 21, "skip_stages": "18 19", "export_models": "small"}
    printed = recipe.ok(**run, stage=17)
    assert "its chunks are not the run's: '--left_context 48' in place of '--dec" in printed
    calls = recipe.calls()
    verbs = [call[0].rpartition(".")[2] for call in calls]
    tail = ["measure_speed", "measure_delay", "report"]
    assert verbs == ["measure_speed", "report", "export", "export", *tail]
    report = calls[-1]
    both = ["small/float32", "small/int8"]
    assert named(report, "--exported") == both and value(report, "--delay") == "exp/delay.json"
    assert named(report, "--window") == ["320", "640"]
    assert report[report.index("--window") + 3] == "640=streamed"

    recipe.write("exp/kd_small/exported/int8/joiner.onnx", "exchanged")
    printed = recipe.ok(**{**run, "stage": 17, "stop_stage": 17})
    assert "exp/kd_small/exported/int8 is left out: exp/kd_small/exported/int8/joiner" in printed
    calls = recipe.calls()
    assert [call[0].rpartition(".")[2] for call in calls] == tail
    models = ["teacher", "big", "mid", "small", "small/float32"]
    assert named(calls[0], "--model") == named(calls[1], "--model") == models
    assert "need --use_streaming true and --decoding aligned" in recipe.error(
        stage=17, decoding_windows="320"
    )
