"""The stage script from end to end, with a stub that leaves the files of each command line."""

import json
import os
import shutil
import sys

import pytest
from shell_recipe import KEPT, PLAN, STUB, Recipe, value

SETS = ["test_a", "test_b"]
DATA_VERBS = ["format_audio"] * 4 + ["filter_lengths"] * 2 + ["make_tokens"]
DECODE_VERBS = ["decode"] * 2 + ["score"] * 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recipe that has run through once: `(recipe, calls, what was printed)`."""
    recipe = Recipe(tmp_path_factory.mktemp("finished"))
    printed = recipe.ok(local_data_opts="--a 'b c'", seed=5, report_note="a note", train_watts=250)
    calls = recipe.calls()
    shutil.copytree(recipe.dir.parents[2], recipe.dir.parents[2] / "kept", symlinks=True)
    return recipe, calls, printed


@pytest.fixture
def recipe(finished, tmp_path):
    """The finished recipe, put back into its first state before each test."""
    recipe, _, _ = finished
    kept = recipe.dir.parents[2] / "kept/egs2/my"
    shutil.rmtree(recipe.dir.parent)
    shutil.copytree(kept, recipe.dir.parent, symlinks=True)
    recipe.calls()
    return recipe


SAME = {"local_data_opts": "--a 'b c'", "seed": 5}


def test_the_whole_run(finished):
    recipe, calls, printed = finished
    verbs = [call[0].rpartition(".")[2] for call in calls]
    assert verbs == (
        DATA_VERBS
        + ["check_text"]
        + ["train"] * 2  # statistics, two jobs
        + ["aggregate_stats_dirs", "check_stats", "train"]
        + DECODE_VERBS
        + (["derive_student", "train"] + DECODE_VERBS) * 3
        + ["measure_speed", "report"]
        + ["pack_model"] * 5  # the list of models, then each
    )
    assert (recipe.dir / "data/options").read_text() == "--a\nb c\n"
    assert "| teacher | 1 |" in printed and "end\n" not in printed
    assert "Stage 16 took 0:" in printed and "[progress] train: 1/2 epoch" in printed
    assert "not for the terminal" not in printed


def test_both_students_of_a_cascade_are_decoded_and_reported(recipe):
    conf = "{cascade: {lookahead: 10}}"
    recipe.write("conf/compression.yaml", f"stages: [{{target: 0.5, method_conf: {conf}}}]\n")
    folder, model = "exp/kd_stage1/lookahead", "valid.loss_transducer.ave.pth"
    for name in ("config.yaml", model):  # as a training leaves it
        recipe.write(f"{folder}/{name}", "frontend_conf: {hop_length: 160}\n")
    recipe.ok(**SAME, stage=16, stop_stage=17)
    calls = recipe.calls()
    decoded = [call for call in calls if call[0].endswith(".decode")]
    assert len(decoded) == 4
    for call in decoded:
        longer = value(call, "--asr_train_config") == f"{folder}/config.yaml"
        assert longer == ("--decoding_window" in call)
        if longer:  # 640 ms, and 10 frames of 40
            assert value(call, "--decoding_window") == "1040"
            assert value(call, "--asr_model_file") == f"{folder}/{model}"
    report = next(call for call in calls if call[0].endswith(".report"))
    speed = next(call for call in calls if call[0].endswith(".measure_speed"))
    named = f"stage1_lookahead={folder}"
    assert named in report and "stage1=exp/kd_stage1" in report
    assert named not in speed and "stage1=exp/kd_stage1" in speed
    os.unlink(recipe.dir / folder / model)
    error = recipe.error(**SAME, stage=16, stop_stage=16)
    assert f"exp/kd_stage1 is trained, but has no lookahead/{model}; --stage 16" in error


def test_a_strict_cascade_is_decoded_by_ours_alone(recipe):
    conf = "{cascade: {lookahead: 10, strict: true}}"
    plan = f"stages: [{{name: s, target: 0.5, method_conf: {conf}}}]\n"
    recipe.write("conf/compression.yaml", plan)
    error = recipe.error(**SAME, use_streaming="true", decoding="stock")
    assert (
        "--decoding stock: " in error
        and "'s_lookahead' goes on" in error
        and "or 'strict: false'" in error
    )
    error = recipe.error(**SAME, stop_stage=20, export_models="s_lookahead")
    assert "--export_models: 's_lookahead' comes out of the training of 's'" in error
    assert recipe.verbs() == []
    folder, model = "exp/kd_s/lookahead", "valid.loss_transducer.ave.pth"
    ours = "{cascade: {causal_blocks: 2, lookahead: 10}}"
    for name in ("config.yaml", model):  # as a training leaves it
        recipe.write(f"{folder}/{name}", f"encoder_conf: {ours}\n")
    recipe.ok(**SAME, stage=12, stop_stage=17, use_streaming="true", inference_tag="new")
    calls = recipe.calls()
    decoded = [call for call in calls if call[0].endswith(".decode")]
    upper = [c for c in decoded if value(c, "--asr_train_config") == f"{folder}/config.yaml"]
    # It makes its chunks of the run's itself, and ESPnet's own streaming is for the others.
    assert {value(call, "--decoding") for call in upper} == {"aligned"} and len(upper) == 2
    assert {value(call, "--decoding") for call in decoded} == {"aligned", "stock"}
    assert not [call for call in upper if "--decoding_window" in call]
    report = next(call for call in calls if call[0].endswith(".report"))
    assert f"s_lookahead={folder}" in report and "--stock_tag" in report
    manifest = json.loads((recipe.dir / "exp/kd_s/manifest.json").read_text())
    assert manifest["stock"] == "as trained"
    assert manifest["siblings"]["lookahead"]["stock"].startswith("none: its last blocks go on")


def test_a_predictor_of_ours_is_decoded_as_any_other_and_told_of(recipe):
    plan = "stages: [{student: {decoder: {type: averaged, context: 1}}}]\n"
    recipe.write("conf/compression.yaml", plan)
    error = recipe.error(**SAME)
    assert "student.decoder.context: 1 label is 'type: stateless'" in error
    assert recipe.verbs() == []
    recipe.write("conf/compression.yaml", plan.replace("context: 1", "context: 3"))
    recipe.ok(**SAME, stage=16, stop_stage=16)
    decoded = [call for call in recipe.calls() if call[0].endswith(".decode")]
    assert {value(call, "--asr_train_config") for call in decoded} == {"exp/kd_stage1/config.yaml"}
    manifest = json.loads((recipe.dir / "exp/kd_stage1/manifest.json").read_text())
    assert manifest["stage"]["sizes"] == {"decoder": {"type": "averaged", "context": 3}}


def test_training_and_decoding_are_called_as_espnet_calls_them(finished):
    recipe, calls, _ = finished
    statistics = [call for call in calls if "--collect_stats" in call]
    assert sorted(value(call, "--output_dir") for call in statistics) == [
        f"exp/asr_stats_raw_char/logdir/stats.{n}" for n in (1, 2)
    ]
    shapes = recipe.dir / "exp/asr_stats_raw_char/train"
    assert (shapes / "text_shape.char").read_text() == "".join(
        f"train-{i} 3,4\n" for i in (1, 2, 3)
    )
    assert (shapes / "speech_shape").read_text().count("\n") == 3

    trained = [c for c in calls if c[0].endswith(".train") and "--collect_stats" not in c]
    teacher, student = trained[:2]
    for call in trained:
        assert value(call, "--token_list") == "data/token_list/char/tokens.txt"
        assert (
            value(call, "--train_data_path_and_name_and_type")
            == "dump/raw/train/wav.scp,speech,sound"
        )
        assert value(call, "--valid_shape_file") == "exp/asr_stats_raw_char/valid/speech_shape"
        assert value(call, "--bpemodel") == "none"
        assert value(call, "--seed") == "5" and value(call, "--ngpu") == "0"
        assert call[-1] == "OMP=1"
    assert value(teacher, "--normalize") == "global_mvn"
    assert (
        value(teacher, "--normalize_conf")
        == "stats_file=exp/asr_stats_raw_char/train/feats_stats.npz"
    )
    assert value(teacher, "--config") == "conf/train_teacher.yaml"
    assert value(student, "--config") == "exp/kd_big/student.yaml"
    assert value(student, "--init_param") == "exp/kd_big/init.pth"
    assert "--normalize" not in student and "--frontend_conf" not in student

    decoded = [call for call in calls if call[0].endswith(".decode")]
    assert {value(c, "--output_dir") for c in decoded[:2]} == {
        f"exp/teacher/decode/{name}/logdir/output.1" for name in SETS
    }
    for call in decoded:
        assert "--streaming" not in call and call[-1] == "OMP=1"
    text = (recipe.dir / "exp/kd_small/decode/test_b/text").read_text()
    assert text == "".join(f"test_b-{i} A\n" for i in (1, 2, 3))


def test_each_student_is_the_teacher_of_the_next(finished):
    _, calls, _ = finished
    derived = [call for call in calls if call[0].endswith(".derive_student")]
    assert [value(call, "--teacher_exp") for call in derived] == [
        "exp/teacher", "exp/kd_big", "exp/kd_mid"
    ]  # fmt: skip
    assert {value(call, "--first_teacher_exp") for call in derived} == {"exp/teacher"}
    report = next(call for call in calls if call[0].endswith(".report"))
    assert [report[i + 1] for i, word in enumerate(report) if word == "--model"] == [
        "teacher=exp/teacher", "big=exp/kd_big", "mid=exp/kd_mid", "small=exp/kd_small"
    ]  # fmt: skip
    assert value(report, "--test_sets") == "test_a test_b" and value(report, "--note") == "a note"
    assert value(report, "--train_watts") == "250"


def test_finished_work_is_skipped_and_says_so(recipe):
    printed = recipe.ok(**SAME, report_note="a note")
    assert recipe.verbs() == ["report", "pack_model"]
    for name in "dump/raw/org/train", "dump/raw/train", "exp/teacher", "exp/kd_mid/decode/test_a":
        assert f"already done, skipped ({name})" in printed


@pytest.mark.parametrize(
    "options, stage, message",
    [
        ({"fs": "8k"}, 3, "was done in dump/raw/org/train with other options (fs 16k, now fs 8k)"),
        ({"max_wav_duration": 9}, 4, "(max_wav_duration 20, now max_wav_duration 9)"),
        ({"asr_args": "--optim adamw"}, 11, "(optim (not set), now optim adamw)"),
        ({"seed": 6}, 11, "(seed 5, now seed 6)"),
        ({"inference_args": "--beam_size 3"}, 12, "exp/teacher/decode/test_a with other"),
        ({"kd_args": "--kd_conf weight=2"}, 16, "exp/kd_big with other options (kd_conf.w"),
        (
            {"local_data_opts": "--c d"},
            1,
            "(local_data_opts --a 'b c', now local_data_opts --c d)",
        ),
    ],
)
def test_other_options_are_refused_and_nothing_is_overwritten(recipe, options, stage, message):
    error = recipe.error(stage=stage, stop_stage=stage, **{**SAME, **options})
    assert message in error and "--force true redoes it" in error
    assert recipe.verbs() == []


def test_an_edited_config_is_noticed(recipe):
    recipe.write("conf/train_teacher.yaml", f"patience: 9\noptim: sgd\n{KEPT}")
    assert "exp/teacher with other options (optim (not set), now" in recipe.error(stage=11, **SAME)
    # The statistics hang on its front end only.
    recipe.ok(stage=10, stop_stage=10, **SAME)
    recipe.write("conf/train_teacher.yaml", f"frontend: other\n{KEPT}")
    assert "(frontend (not set), now frontend other)" in recipe.error(stage=10, **SAME)


def test_force_redoes_the_stages_asked_for(recipe):
    old = recipe.dir / "exp/teacher/checkpoint.pth"
    old.write_text("old")
    recipe.ok(stage=11, stop_stage=12, force="true", seed=6)
    assert recipe.verbs() == ["train", "decode", "decode"]
    assert old.read_text() != "old"
    assert (recipe.dir / "exp/teacher/train.1.log").exists()
    # Scores follow by themselves; a student of the old teacher is not overwritten.
    recipe.ok(stage=13, stop_stage=13)
    assert recipe.verbs() == ["score", "score"]
    error = recipe.error(stage=16)
    assert "exp/kd_big was trained before its input was made anew (exp/teacher/valid" in error


def test_cheap_steps_follow_a_changed_input(recipe):
    recipe.write("dump/raw/test_a/text", "test_a-1 y\ntest_a-2 x\ntest_a-3 x\n")
    printed = recipe.ok(stage=12, stop_stage=13, **SAME)
    assert "made again, its input has changed (dump/raw/test_a: text)" in printed
    assert recipe.verbs() == ["decode", "decode", "score"]
    recipe.write("dump/raw/train/text", "train-1 y\ntrain-2 x\ntrain-3 x\n")
    error = recipe.error(stage=11, stop_stage=11, **SAME)
    assert "exp/teacher was trained before its input was made anew (dump/raw/train: text)" in error


def test_a_part_of_the_compression_is_run_again(recipe):
    shutil.rmtree(recipe.dir / "exp/kd_mid")
    recipe.ok(stage=16, stop_stage=16, compression_stage=2, stop_compression_stage=2, **SAME)
    calls = recipe.calls()
    assert [call[0].rpartition(".")[2] for call in calls] == [
        "derive_student", "train", *DECODE_VERBS
    ]  # fmt: skip
    assert value(calls[0], "--teacher_exp") == "exp/kd_big"


def test_the_digest_of_a_plan_stage_keeps_the_others(recipe):
    recipe.write("conf/compression.yaml", PLAN.replace("weight: 0.3", "weight: 0.4"))
    error = recipe.error(stage=16, stop_stage=16, **SAME)
    assert "exp/kd_small" in error and "with other options (plan_entry " in error


def test_a_renamed_plan_is_no_other_plan(recipe):
    recipe.write("conf/renamed.yaml", PLAN)
    recipe.ok(stage=16, stop_stage=16, compression_config="conf/renamed.yaml", **SAME)
    assert recipe.verbs() == []
    manifest = (recipe.dir / "exp/kd_small/manifest.json").read_text()
    assert '"path": "conf/renamed.yaml"' in manifest


@pytest.mark.parametrize(
    "missing, options, message",
    [
        ("data/dev", {"stage": 3}, "stage 3 needs data/dev/wav.scp, which stage 1 makes"),
        ("dump/raw/org", {"stage": 4}, "needs dump/raw/org/train/wav.scp, which stage 3 makes"),
        ("dump/raw/train", {"stage": 5}, "needs dump/raw/train/text, which stage 4 makes"),
        ("data/token_list", {"stage": 10}, "tokens.txt, which stage 5 makes"),
        ("exp/asr_stats_raw_char", {"stage": 11}, "feats_stats.npz, which stage 10 makes"),
        ("exp/teacher", {"stage": 12}, "exp/teacher/config.yaml, which stage 11 makes"),
        ("dump/raw/test_b", {"stage": 12}, "dump/raw/test_b/wav.scp, which stage 3 makes"),
        ("exp/teacher/decode", {"stage": 13}, "decode/test_a/text, which stage 12 makes"),
        ("exp/teacher", {"stage": 16}, "exp/teacher/config.yaml, which stage 11 makes"),
        (
            "exp/kd_mid",
            {"stage": 16, "compression_stage": 3},
            "exp/kd_mid/config.yaml, which stage 16 (--compression_stage 2) makes",
        ),
        ("exp/teacher/decode", {"stage": 17}, "score_wer/result.txt, which stage 13 makes"),
    ],
)
def test_a_stage_before_the_one_it_needs(recipe, missing, options, message):
    shutil.rmtree(recipe.dir / missing)
    assert message in recipe.error(**SAME, **options)
    assert recipe.verbs() == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({"asr_config": "conf/no.yaml"}, "--asr_config conf/no.yaml: no such file (stage 10"),
        ({"compression_config": "conf/no.yaml"}, "--compression_config conf/no.yaml: no such"),
        ({"compression_stage": 4}, "--compression_stage 4: conf/compression.yaml has 3 students"),
        ({"teacher_exp": "nowhere"}, "--teacher_exp nowhere: no such directory"),
        ({"stage": 5, "teacher_exp": "conf"}, "conf/config.yaml: no such file; --teacher_exp"),
        ({"stage": 6, "stop_stage": 9}, "no stage to run"),
        ({"num_nodes": 2}, "--num_nodes 2 needs a scheduler"),
        ({"python": "no_such_python"}, "no_such_python (not found) cannot import espnet_kd"),
        ({"test_sets": "test_a more"}, "stage 1 made no data/more"),
    ],
)
def test_bad_input(recipe, options, message):
    assert message in recipe.error(**{**SAME, **options})
    assert recipe.verbs() == []


def test_a_mistake_in_the_plan_shows_before_anything_runs(recipe):
    recipe.write("conf/compression.yaml", "bad")
    error = recipe.error(**SAME)
    assert error.startswith("asr_kd.sh: error: conf/compression.yaml: expected options by name")
    assert recipe.verbs() == []


def test_a_failing_tool_ends_the_run_with_stage_and_log(recipe):
    done = recipe.run(stage=1, local_data_opts="--fail", force="true")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "data.sh: error: no such corpus",
        "asr_kd.sh: error: stage 1 (data: local/data.sh, or --corpus, makes data/<set>) failed "
        "(exit code 3)",
    ]
    fail = {"STUB_FAIL": "espnet_kd.bin.train:exp/kd_mid"}
    shutil.rmtree(recipe.dir / "exp/kd_mid")
    done = recipe.run(fail, stage=16, **SAME)
    assert done.returncode == 1
    log = "exp/kd_mid/train.log"
    assert done.stderr.splitlines() == [
        f"run_local: failed (exit code 1), log: {log}: train: error: wanted to fail",
        f"asr_kd.sh: error: stage 16 (compression stage 2, mid) failed (exit code 1), log: {log}",
    ]


def test_a_teacher_trained_elsewhere(recipe):
    config = "token_type: bpe\njoint_network_conf: {}\n"
    recipe.write("../given/asr_theirs/config.yaml", config)
    (recipe.dir / "../given/asr_theirs/best.pth").write_bytes(b"\x80")
    options = {**SAME, "teacher_exp": "../given/asr_theirs/", "teacher_model": "best.pth"}
    options |= {"asr_exp": "", "kd_tag": ""}
    recipe.ok(stage=5, **options)
    calls = recipe.calls()
    exp = "exp/asr_imported_theirs"
    assert (recipe.dir / exp / "valid.loss_transducer.ave.pth").resolve().name == "best.pth"
    imported = next(call for call in calls if call[0].endswith(".import_teacher"))
    assert value(imported, "--token_dir") == "data/token_list/bpe_imported_theirs"
    verbs = [call[0].rpartition(".")[2] for call in calls]
    assert "make_tokens" not in verbs
    assert verbs.count("train") == 3  # students
    assert verbs.count("measure_lengths") == 2  # and no pass over the audio
    trained = [call for call in calls if call[0].endswith(".train")]
    assert {value(call, "--token_list") for call in trained} == {
        "data/token_list/bpe_imported_theirs/tokens.txt"
    }
    report = next(call for call in calls if call[0].endswith(".report"))
    assert value(report, "--model") == f"teacher={exp}"
    recipe.ok(stage=5, **options)
    assert recipe.verbs() == ["report", "pack_model"]


def test_bpe_speed_perturbation_one_job_streaming_and_overlapping_sets(tmp_path):
    recipe = Recipe(tmp_path)
    recipe.ok(
        stop_stage=12, skip_stages="13", token_type="bpe", nbpe=50, lang="en",
        speed_perturb_factors="0.9 1.0", nj=1, inference_nj=4, use_streaming="true",
        test_sets="dev test_a", asr_exp="", inference_tag="", fs="8k",
    )  # fmt: skip
    calls = recipe.calls()
    made = [value(call, "--out") for call in calls if "--out" in call]
    assert made == [
        "data/train_sp", "dump/raw/org/train_sp", "dump/raw/org/dev", "dump/raw/test_a",
        "dump/raw/train_sp", "dump/raw/dev", "data/en_token_list/bpe_unigram50",
        "exp/asr_stats_raw_en_bpe50_sp/coverage.txt",
    ]  # fmt: skip
    statistics, teacher = [call for call in calls if call[0].endswith(".train")]
    assert value(statistics, "--output_dir") == "exp/asr_stats_raw_en_bpe50_sp"
    assert value(teacher, "--bpemodel") == "data/en_token_list/bpe_unigram50/bpe.model"
    decoded = [call for call in calls if call[0].endswith(".decode")]
    assert len(decoded) == 8  # two jobs for each of two sets, in two ways
    name = "decode_asr_model_valid.loss_transducer.ave"
    ways = [("aligned", "aligned")] * 4 + [("stock", "streaming")] * 4
    for call, (way, end) in zip(decoded, ways):
        assert value(call, "--streaming") == "true" and value(call, "--decoding") == way
        folder = f"exp/asr_train_teacher_raw_en_bpe50_sp/{name}_{end}/"
        assert folder in value(call, "--output_dir")


def test_decodings_from_before_there_were_two_ways(tmp_path):
    """What ESPnet's streaming has decoded is taken for that, and never for another way."""
    recipe, stages = Recipe(tmp_path), {"use_streaming": "true", "stop_stage": 12}
    recipe.ok(**stages, decoding="stock", inference_tag="")
    ways = [value(call, "--decoding") for call in recipe.calls() if call[0].endswith(".decode")]
    assert set(ways) == {"stock"}
    recipe.ok(**stages, inference_tag="")
    ways = [value(call, "--decoding") for call in recipe.calls() if call[0].endswith(".decode")]
    assert set(ways) == {"aligned"}  # those of stock are there
    recipe.ok(**stages, decoding="stock")
    recipe.calls()
    line = recipe.error(**stages)
    assert "exp/teacher/decode/test_a" in line
    assert "decoding (not set), now decoding aligned" in line
    recipe.ok(**stages, inference_tag="new", stock_wer="false")
    assert len([call for call in recipe.calls() if call[0].endswith(".decode")]) == len(ways)


def test_a_test_set_that_is_also_trained_or_validated_on_is_scored_whole(tmp_path):
    recipe = Recipe(tmp_path)
    # Of `dev` the third utterance is too long to train on: only org/ has all three.
    recipe.ok(stop_stage=4)
    for name in "wav.scp", "text", "utt2spk":
        recipe.write(f"dump/raw/dev/{name}", "dev-1 x\ndev-2 x\n")
    recipe.calls()
    sets = ["org/dev", "test_a", "org/train"]
    one = {"stage": 5, "stop_compression_stage": 1, "inference_nj": 1}
    recipe.ok(test_sets="dev test_a train", **one)
    calls = recipe.calls()

    def called(verb):
        return [call for call in calls if call[0].endswith(f".{verb}")]

    for exp in "exp/teacher", "exp/kd_big":
        text = (recipe.dir / f"{exp}/decode/org/dev/text").read_text()
        assert text == "dev-1 A\ndev-2 A\ndev-3 A\n"
        assert (recipe.dir / f"{exp}/decode/org/dev/score_wer/result.txt").exists()
        assert not (recipe.dir / f"{exp}/decode/dev").exists()
        for name in sets:
            data = f"dump/raw/{name}/wav.scp,speech,sound"
            folder = f"{exp}/decode/{name}"
            assert data in {
                value(call, "--data_path_and_name_and_type")
                for call in called("decode")
                if value(call, "--output_dir").startswith(f"{folder}/logdir")
            }
            assert [
                value(call, "--ref") for call in called("score") if value(call, "--out") == folder
            ] == [f"dump/raw/{name}/text"]
    (report,) = called("report")
    assert value(report, "--test_sets") == " ".join(sets)
    # What trains and validates stays filtered.
    for call in called("train"):
        for option in "--train_data_path_and_name_and_type", "--valid_data_path_and_name_and_type":
            assert "/org/" not in value(call, option)
    recipe.ok(test_sets="dev test_a train", **one)
    assert recipe.verbs() == ["report", "pack_model"]


def test_a_gate_keeps_the_filtered_set_beside_the_whole_one(recipe_with_teacher):
    recipe = recipe_with_teacher
    plan = "gate: {margin: 1.0}\nstages:\n- {name: big, target: 0.7, epochs: 2}\n"
    recipe.write("conf/compression.yaml", plan)
    recipe.ok(stage=12, stop_stage=17, test_sets="dev", inference_nj=1)
    calls = recipe.calls()
    assert (recipe.dir / "exp/kd_big/gate.json").exists()
    references = {
        value(call, "--out"): value(call, "--ref") for call in calls if call[0].endswith(".score")
    }
    assert references == {
        f"{exp}/decode/{name}": f"dump/raw/{name}/text"
        for exp in ("exp/teacher", "exp/kd_big")
        for name in ("dev", "org/dev")
    }


def test_a_copy_inside_an_espnet_checkout(tmp_path):
    recipe = Recipe(tmp_path / "house")
    recipe.dir = shutil.copytree(recipe.dir, tmp_path / "espnet/egs2/corpus/asr_kd")
    assert not any(path.is_symlink() for path in recipe.dir.rglob("*"))
    recipe.write("../../../tools/activate_python.sh", "echo activated >&2\n")
    env = {"VIRTUAL_ENV": "", "CONDA_PREFIX": ""}
    assert "activated" in recipe.ok(env, stop_stage=3)


def test_the_checkouts_own_environment_is_found(tmp_path):
    recipe = Recipe(tmp_path)
    stub = f'exec {sys.executable} -S {STUB} "$@"\n'
    recipe.write("../../../.venv/bin/python3", f'#!/bin/sh\necho used >>"${{STUB_CALLS}}"\n{stub}')
    recipe.write("../../../active/python3", f"#!/bin/sh\n{stub}")
    fake = tmp_path / "active/python3"
    for path in (tmp_path / ".venv/bin/python3", fake):
        path.chmod(0o755)
    env = {"VIRTUAL_ENV": "", "CONDA_PREFIX": ""}
    recipe.ok(env, python="python3", stop_stage=1)
    assert set(recipe.calls_file.read_text().splitlines()) == {"used"}
    recipe.calls_file.write_text("")
    env = {"VIRTUAL_ENV": str(fake.parent), "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    recipe.ok(env, python="python3", stop_stage=1)
    assert recipe.calls_file.read_text() == ""


SCHEDULER = """#!/usr/bin/env bash
echo "$(basename $0) $*" >>scheduled
while [[ "$1" == -* ]]; do shift 2; done
if [[ "$1" == JOB=* ]]; then shift; set -- "${@//JOB/1}"; fi
log=$1; shift
mkdir -p "$(dirname "${log}")"
"$@" >"${log}" 2>&1
"""


@pytest.mark.parametrize("backend, script", [("slurm", "slurm.pl"), ("sge", "queue.pl")])
def test_a_scheduler(recipe, tmp_path, backend, script):
    shutil.rmtree(recipe.dir / "exp/teacher")
    options = {**SAME, "stage": 11, "stop_stage": 12, "inference_nj": 1, "train_threads": 3}
    env = {"cmd_backend": backend, "KALDI_ROOT": "", "ESPNET_ROOT": str(tmp_path / "nothing")}
    error = recipe.error(env, **options)
    assert f"cmd.sh: error: cmd_backend={backend} needs Kaldi's {script}: set KALDI_ROOT" in error

    path = tmp_path / "espnet/egs2/TEMPLATE/asr1/utils" / script
    path.parent.mkdir(parents=True)
    path.write_text(SCHEDULER)
    path.chmod(0o755)
    recipe.ok({**env, "ESPNET_ROOT": str(tmp_path / "espnet")}, **options)
    scheduled = (recipe.dir / "scheduled").read_text().splitlines()
    head = f"{script} --name teacher --gpu 0 --num-threads 3 exp/teacher/train.log env OMP_NUM"
    assert scheduled[0].startswith(head)
    assert scheduled[1].startswith(f"{script} --gpu 0 JOB=1:1 exp/teacher/decode/test_a/logdir/")


def test_an_unknown_backend(recipe):
    error = recipe.error({"cmd_backend": "cray"}, **SAME)
    assert error == "cmd.sh: error: cmd_backend is local, slurm, sge, pbs or ssh, not 'cray'"
