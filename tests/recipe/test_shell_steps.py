"""Finished work is used again, done again, or refused: what users change, what is damaged."""

import pytest
from shell_recipe import KEPT, value

AVE = "valid.loss_transducer.ave.pth"
STUDENT = {"stage": 16, "stop_stage": 16, "stop_compression_stage": 1}
STATS = "exp/asr_stats_raw_char"


@pytest.fixture
def recipe(recipe_with_teacher):
    return recipe_with_teacher


def test_more_epochs_for_a_finished_teacher(recipe):
    recipe.ok(**STUDENT)
    recipe.calls()
    longer = {"asr_args": "--max_epoch 50"}
    printed = recipe.ok(stage=11, stop_stage=13, **longer)
    assert "exp/teacher goes on to epoch 50 (trained to 40)" in printed
    assert recipe.verbs() == ["train"] + ["decode"] * 2 + ["score"] * 2
    assert "already done, skipped (exp/teacher)" in recipe.ok(stage=11, stop_stage=11, **longer)
    error = recipe.error(**STUDENT)
    assert f"exp/kd_big was trained before its input was made anew (exp/teacher/{AVE})" in error
    error = recipe.error(stage=11, asr_args="--max_epoch 45")
    assert "trained with max_epoch 50, now 45: a training does not become shorter" in error


def test_more_epochs_for_a_finished_student(recipe):
    recipe.ok(**STUDENT)
    recipe.calls()
    printed = recipe.ok(**STUDENT, kd_args="--max_epoch 3")
    assert "exp/kd_big goes on to epoch 3 (trained to 2)" in printed
    verbs = recipe.verbs()
    assert verbs == ["train", "decode", "decode", "score", "score"]
    assert "with max_epoch 3, now 2" in recipe.error(**STUDENT)


def test_smaller_batches_after_out_of_memory(recipe):
    fail = {"STUB_FAIL": "espnet_kd.bin.train:exp/kd_big"}
    assert recipe.run(fail, **STUDENT).returncode == 1
    recipe.calls()
    # In the config, which is brought up to date, or on the command line.
    recipe.write("conf/train_student.yaml", f"# smaller\nbatch_size: 4\npatience: 9\n{KEPT}")
    recipe.write("exp/kd_big/epoch1", "finished")
    printed = recipe.ok(**STUDENT, kd_args="--accum_grad 2")
    assert "batch_size (not set), now batch_size 4: does not change what is learnt" in printed
    assert "accum_grad (not set), now accum_grad 2: does not change what is learnt" in printed
    assert "going on with the interrupted run in exp/kd_big" in printed
    derived, trained = recipe.calls()[:2]
    assert value(derived, "--overruled") == "accum_grad"
    assert value(derived, "--training_only") == "true" and value(trained, "--accum_grad") == "2"
    assert (recipe.dir / "exp/kd_big/epoch1").exists()
    # A finished student does not become stale by it.
    recipe.write("conf/train_student.yaml", f"patience: 9\nbatch_size: 2\n{KEPT}")
    assert "already done, skipped (exp/kd_big)" in recipe.ok(**STUDENT, kd_args="--num_workers 9")
    assert recipe.verbs() == ["derive_student"]
    recipe.write("conf/train_student.yaml", f"patience: 9\nbatch_size: 2\noptim: sgd\n{KEPT}")
    assert "with other options (optim (not set), now optim sgd)" in recipe.error(**STUDENT)


@pytest.mark.parametrize(
    "file, stage, message",
    [
        (f"exp/teacher/{AVE}", 12, "not what stage 11 made"),
        ("exp/teacher/config.yaml", 12, "not what stage 11 made"),
        (f"exp/teacher/{AVE}", 16, "not what stage 11 made"),
        (f"{STATS}/train/feats_stats.npz", 11, "not what stage 10 made"),
        (f"{STATS}/train/speech_shape", 11, "not what stage 10 made"),
        (f"{STATS}/valid/text_shape.char", 11, "not what stage 10 made"),
        ("data/token_list/char/tokens.txt", 10, "not what stage 5 made"),
        ("exp/teacher/decode/test_a/text", 13, "not what stage 12 made"),
        ("exp/teacher/decode/test_a/score_wer/counts.tsv", 17, "(score): run stages 12 and 13"),
    ],
)
def test_who_would_use_a_damaged_file_is_told_and_the_stage_that_makes_it_mends_it(
    recipe, file, stage, message
):
    path = recipe.dir / file
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 3] + b"?", whole + b"?"):
        path.write_bytes(damaged)
        error = recipe.error(stage=stage, stop_stage=stage)
        assert file in error and message in error
        assert recipe.verbs() == []
    if "exp/teacher/" not in file:
        maker = message.split()[3]
        assert f"{file} is not what was made then" in recipe.ok(stage=maker, stop_stage=maker)
        assert path.read_bytes() == whole
        assert "already done" in recipe.ok(stage=stage, stop_stage=stage)


def test_first_weights_that_are_damaged_are_derived_again(recipe):
    fail = {"STUB_FAIL": "espnet_kd.bin.train:exp/kd_big"}
    assert recipe.run(fail, **STUDENT).returncode == 1
    recipe.calls()
    recipe.write("exp/kd_big/init.pth", "damaged")
    assert "exp/kd_big/init.pth is not what was made then" in recipe.ok(**STUDENT)
    assert recipe.verbs()[:2] == ["derive_student", "train"]
    recipe.write(f"exp/kd_big/{AVE}", "damaged")
    error = recipe.error(**STUDENT)
    assert f"exp/kd_big/{AVE} is not the file that the training left" in error
    assert "--stop_compression_stage 1 --force true trains it again" in error


def test_records_of_a_training_that_are_not_as_it_left_them(recipe):
    warning = "warning: exp/teacher/facts.json"
    assert "warning: exp/" not in recipe.ok(stage=17, stop_stage=17)
    kept = (recipe.dir / "exp/teacher/facts.json").read_text()
    recipe.write("exp/teacher/facts.json", '{"epochs": 77}')
    assert f"{warning} has changed since the training" in recipe.ok(stage=17, stop_stage=17)
    (recipe.dir / "exp/teacher/facts.json").unlink()
    assert f"{warning} is missing since the training" in recipe.ok(stage=17, stop_stage=17)
    recipe.write("exp/teacher/facts.json", kept)


def test_audio_that_is_exchanged_in_place(recipe):
    sound = (recipe.dir / "x").resolve()
    sound.write_text("another")
    try:
        error = recipe.run(stage=17).stderr
        assert "exp/teacher/decode/test_a was made (decode) before its input changed" in error
        assert "(dump/raw/test_a): run stages 12 and 13 first" in error
        done = recipe.run(stage=3)
        changed = "is made again, its input has changed (data/train: audio)"
        assert f"dump/raw/org/train {changed}" in done.stdout
        refused = "exp/teacher was trained before its input was made anew (dump/raw/train: audio)"
        assert refused in done.stderr
    finally:
        sound.write_text("")


def test_a_renamed_folder_of_experiments(recipe):
    recipe.ok(**STUDENT)
    recipe.calls()
    (recipe.dir / "exp").rename(recipe.dir / "exp2")
    run = {**STUDENT, "stage": 10, "expdir": "exp2", "asr_exp": "exp2/teacher"}
    printed = recipe.ok(**run, kd_tag="kd")
    assert "already done, skipped (exp2/kd_big)" in printed
    assert recipe.verbs() == []


def test_a_run_that_an_earlier_version_began(recipe):
    old = "fs=16k\ninput:dump/raw/train=123\nfinished=2026-11-26T12:00:00\n"
    for folder, step in (STATS, "stats"), ("exp/teacher", "train"):
        recipe.write(f"{folder}/.done.{step}", old)
    printed = recipe.ok(stage=10, stop_stage=10)
    assert f"{STATS} is made again, its record was left by an earlier version" in printed
    error = recipe.error(stage=11)
    assert "exp/teacher cannot be used: its record was left by an earlier version" in error
    assert error.endswith("which --teacher_exp spares a trained teacher")
    error = recipe.run(stage=16).stderr
    assert "needs exp/teacher/config.yaml, but its record was left by an earlier version" in error
    # What such a run has trained may be imported.
    recipe.write("exp/teacher/config.yaml", "joint_network_conf: {}\n")
    (recipe.dir / "exp/teacher" / AVE).write_bytes(b"\x80 weights")
    given = {"teacher_exp": "exp/teacher", "asr_exp": "exp/imported", "stage": 5, "stop_stage": 5}
    recipe.ok(**given)
    assert recipe.verbs()[-1] == "import_teacher"
