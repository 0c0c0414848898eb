"""What finished work was made from: other inputs under the same names are noticed."""

import os
import shutil
import time

import pytest
from shell_recipe import INTERRUPT

from tests.patience import PATIENCE

AVE = "valid.loss_transducer.ave.pth"


@pytest.fixture
def recipe(recipe_with_teacher):
    return recipe_with_teacher


def test_another_checkpoint_of_an_imported_teacher(recipe):
    recipe.write("../given/asr_theirs/config.yaml", "joint_network_conf: {}\n")
    theirs = recipe.dir.parent / "given/asr_theirs"
    for name in ("a.pth", "b.pth"):
        (theirs / name).write_bytes(b"\x80" + name.encode())
    given = {"teacher_exp": "../given/asr_theirs", "asr_exp": "", "stage": 5, "stop_stage": 5}
    link = recipe.dir / "exp/asr_imported_theirs" / AVE
    recipe.ok(**given, teacher_model="a.pth")
    assert os.readlink(link) == "a.pth"
    assert "teacher_model a.pth, now" in recipe.error(**given, teacher_model="b.pth")
    recipe.ok(**given, teacher_model="b.pth", force="true")
    assert os.readlink(link) == "b.pth"
    # The same name with other content.
    (theirs / "b.pth").write_bytes(b"\x80 trained further")
    assert "before its input was made anew" in recipe.error(**given, teacher_model="b.pth")


def test_a_checkpoint_that_is_not_there_trains_nothing(recipe):
    done = (recipe.dir / "exp/teacher/.done.train").read_text()
    error = recipe.error(stage=11, inference_asr_model="best.pth")
    assert "exp/teacher is trained, but has no best.pth; name one of its checkpoints" in error
    assert f"({AVE}), or" in error and "--stage 11 --stop_stage 11 --force true trains it" in error
    assert recipe.verbs() == []
    assert (recipe.dir / "exp/teacher/.done.train").read_text() == done


def test_another_checkpoint_is_another_teacher(recipe):
    one = {"stage": 16, "stop_stage": 16, "stop_compression_stage": 1}
    recipe.ok(**one)
    recipe.calls()
    for folder in ("teacher", "kd_big"):
        recipe.write(f"exp/{folder}/best.pth", "")
    error = recipe.error(**one, inference_asr_model="best.pth")
    assert f"exp/kd_big with other options (teacher_model {AVE}, now teacher_model best" in error
    # Only what was refused is advised to be made again.
    redo = "--stage 16 --stop_stage 16 --compression_stage 1 --stop_compression_stage 1 --force"
    assert f"{redo} true redoes it" in error


def test_another_cleaner_under_the_same_name(recipe):
    recipe.write("mine.py", "def f(text): return text")
    run = {"stage": 3, "stop_stage": 3, "cleaner": "mine:f", "force": "true"}
    recipe.ok(**run)
    recipe.calls()
    recipe.ok(**{**run, "force": "false"})
    assert recipe.verbs() == []
    recipe.write("mine.py", "def f(text): return text.upper()")
    recipe.ok(**{**run, "force": "false"})
    assert set(recipe.verbs()) == {"format_audio"}


def test_a_later_stage_is_redone_whole(recipe):
    run = {"stage": 16, "stop_stage": 18}
    recipe.ok(**run, model_license="cc0-1.0")
    error = recipe.error(**run, model_license="mit")
    assert "; --stage 18 --stop_stage 18 --force true redoes it" in error


def test_another_corpus_under_the_same_names(recipe):
    recipe.write("db.sh.new", 'CORPUS="${CORPUS:-}"\nOTHER=here\n')
    os.replace(recipe.dir / "db.sh.new", recipe.dir / "db.sh")  # it was a link
    script = (recipe.dir / "local/data.sh").read_text()
    recipe.write("local/data.sh", script + ": ${CORPUS:-}\n")
    data = {"stage": 1, "stop_stage": 1, "force": "true"}
    recipe.ok(env={"CORPUS": "/a/"}, **data)
    marker = (recipe.dir / "data/.done.data").read_text()
    assert '"CORPUS": "/a"' in marker and "OTHER" not in marker  # which data.sh does not read
    data["force"] = "false"
    assert "already done" in recipe.ok(env={"CORPUS": "/a"}, **data)
    assert "already done" in recipe.ok(**data)  # not named again
    assert "(CORPUS /a, now CORPUS /b)" in recipe.error(env={"CORPUS": "/b"}, **data)
    # A set asked for since is made with all others: from the same corpus only.
    shutil.rmtree(recipe.dir / "data/test_b")
    assert "(CORPUS /a, now CORPUS /b)" in recipe.error(env={"CORPUS": "/b"}, **data)
    error = recipe.error(env={"CORPUS": "/a"}, **data, local_data_opts="--c d")
    assert "(local_data_opts , now" in error
    assert "test_b is missing, and data/ was made of CORPUS=/a: name it" in recipe.error(**data)
    assert not (recipe.dir / "data/test_b").exists()
    recipe.ok(env={"CORPUS": "/a"}, **data)
    assert (recipe.dir / "data/test_b/wav.scp").exists()


def test_tokens_of_another_training_set_are_not_written_over(recipe):
    recipe.ok(train_set="test_a", test_sets="test_b", stop_stage=4)
    error = recipe.error(train_set="test_a", test_sets="test_b", stage=5)
    assert "token_list/char with other options (train_set train, now train_set test_a)" in error
    recipe.calls()
    recipe.ok(train_set="test_a", test_sets="test_b", stage=5, stop_stage=5, token_dir="data/mine")
    assert (recipe.dir / "data/mine/tokens.txt").exists()


def test_statistics_of_another_front_end(recipe):
    stats = {"stage": 10, "stop_stage": 10}
    assert "already done" in recipe.ok(**stats, asr_args="--max_epoch 3")
    error = recipe.error(**stats, asr_args="--max_epoch 3 --frontend_conf n_mels=40")
    assert "(frontend_conf.n_mels (not set), now frontend_conf.n_mels 40)" in error


def test_after_force_the_same_command_would_begin_again(recipe):
    process = recipe.start(
        env={"STUB_SLEEP": "espnet_kd.bin.decode:3000"}, stage=12, stop_stage=12, force="true"
    )
    while not recipe.calls(clear=False):
        time.sleep(0.05)
    process.send_signal(INTERRUPT)
    _, err = process.communicate(timeout=PATIENCE)
    assert "run the same command without --force true, which would start afresh, to go on" in err


@pytest.mark.parametrize(
    "options, message",
    [
        ({"audio_format": "mp3"}, "--audio_format must be flac or wav, not 'mp3'"),
        ({"fs": "16000Hz"}, "--fs must be a sampling rate, e.g. 16k or 16000, not '16000Hz'"),
        ({"feats_normalize": "none"}, "--feats_normalize must be global_mvn or utterance_mvn"),
        ({"bpemode": "word"}, "--bpemode must be unigram or bpe, not 'word'"),
    ],
)
def test_values_are_checked_before_anything_runs(recipe, options, message):
    assert message in recipe.error(stage=19, **options)
