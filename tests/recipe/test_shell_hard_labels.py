"""Students trained on what their teacher makes of the training set, with a stub for python."""

import shutil

import pytest
from shell_recipe import value

LABELS = "exp/kd_big/hard_labels/train"
TEACHER = {"STUB_LABELS": "teacher"}
STAGE = {"stage": 16, "stop_stage": 16, "stop_compression_stage": 1}


@pytest.fixture
def recipe(recipe_with_teacher):
    return recipe_with_teacher


def verbs_of(calls):
    return [call[0].rpartition(".")[2] for call in calls]


def values(call, option):
    return [call[i + 1] for i, word in enumerate(call) if word == option]


def test_the_training_set_is_decoded_and_its_labels_are_trained_on(recipe):
    recipe.ok(TEACHER, **STAGE)
    calls = recipe.calls()
    first = ["derive_student", "decode", "decode", "hard_labels", "train"]
    assert verbs_of(calls) == first + ["decode"] * 2 + ["score"] * 2
    jobs, labels, train = calls[1:3], calls[3], calls[4]
    assert sorted(value(call, "--output_dir") for call in jobs) == [
        f"exp/teacher/decode/train/logdir/output.{n}" for n in (1, 2)
    ]
    for call in jobs:
        data = "dump/raw/train/wav.scp,speech,sound"
        assert value(call, "--data_path_and_name_and_type") == data
        assert value(call, "--asr_train_config") == "exp/teacher/config.yaml"
    for option, expected in {
        "--hyp": "exp/teacher/decode/train/text",
        "--data": "dump/raw/train",
        "--speech_shape": "exp/asr_stats_raw_char/train/speech_shape",
        "--config": "exp/kd_big/student.yaml",
        "--token_list": "data/token_list/char/tokens.txt",
        "--token_type": "char",
        "--bpemodel": "none",
        "--out": LABELS,
    }.items():
        assert value(labels, option) == expected
    assert values(train, "--train_data_path_and_name_and_type") == [
        f"{LABELS}/wav.scp,speech,sound", f"{LABELS}/text,text,text"
    ]  # fmt: skip
    assert values(train, "--train_shape_file") == [
        f"{LABELS}/speech_shape", f"{LABELS}/text_shape.char"
    ]  # fmt: skip
    # What is validated on stays as people wrote it.
    assert "dump/raw/dev/text,text,text" in values(train, "--valid_data_path_and_name_and_type")
    assert "exp/asr_stats_raw_char/valid/speech_shape" in values(train, "--valid_shape_file")


def test_each_student_learns_from_its_own_teacher(recipe):
    recipe.ok(TEACHER, **{**STAGE, "stop_compression_stage": 2})
    made = [call for call in recipe.calls() if call[0].endswith(".hard_labels")]
    assert [value(call, "--hyp") for call in made] == [
        "exp/teacher/decode/train/text", "exp/kd_big/decode/train/text"
    ]  # fmt: skip
    assert value(made[1], "--out") == "exp/kd_mid/hard_labels/train"


def test_finished_work_stays_whatever_the_teacher_is_decoded_with_since(recipe):
    recipe.ok(TEACHER, **STAGE)
    recipe.calls()
    assert "already done, skipped (exp/kd_big)" in recipe.ok(TEACHER, **STAGE)
    assert recipe.verbs() == []
    shutil.rmtree(recipe.dir / "exp/teacher/decode/train")
    recipe.ok(TEACHER, **STAGE, **{"inference_tag": "other"})
    assert recipe.verbs() == ["decode"] * 2 + ["score"] * 2
    shutil.rmtree(recipe.dir / LABELS)
    assert "already done, skipped (exp/kd_big)" in recipe.ok(TEACHER, **STAGE)
    assert recipe.verbs() == ["decode", "decode", "hard_labels"]
    recipe.ok(TEACHER, **STAGE, force="true")
    assert recipe.verbs()[:5] == ["derive_student", "decode", "decode", "hard_labels", "train"]


def test_a_run_that_failed_goes_on_where_it_stopped(recipe):
    for module, verbs in (
        ("decode", ["derive_student", "decode"]),
        ("hard_labels", ["decode", "hard_labels"]),
        ("train", ["hard_labels", "train"]),
    ):
        done = recipe.run({**TEACHER, "STUB_FAIL": f"espnet_kd.bin.{module}"}, **STAGE)
        assert done.returncode == 1
        assert f"{module}: error: wanted to fail" in done.stderr
        # Of two jobs the second may not have begun when the first fails.
        assert list(dict.fromkeys(recipe.verbs())) == verbs
    recipe.ok(TEACHER, **STAGE)
    assert recipe.verbs()[0] == "train"


def test_labels_follow_hypotheses_and_a_training_on_the_old_ones_is_not_gone_on_with(recipe):
    fail = {**TEACHER, "STUB_FAIL": "espnet_kd.bin.train:exp/kd_big"}
    recipe.run(fail, **STAGE)
    shutil.rmtree(recipe.dir / "exp/teacher/decode/train")
    done = recipe.run({**TEACHER, "STUB_WORD": "B"}, **STAGE)
    assert f"{LABELS} is made again, its input has changed" in done.stdout
    assert "exp/kd_big holds an interrupted run with other options or input" in done.stderr


def test_a_cache_is_made_of_the_labels(recipe):
    recipe.ok(TEACHER, **STAGE, use_teacher_cache="true", nj=1)
    calls = recipe.calls()
    (cached,) = [call for call in calls if call[0].endswith(".cache_teacher")]
    assert values(cached, "--data") == [LABELS, "dump/raw/dev"]
    train = next(call for call in calls if call[0].endswith(".train"))
    stream = "exp/kd_big/teacher_cache/train/teacher.scp,teacher,kaldi_ark"
    assert stream in values(train, "--train_data_path_and_name_and_type")


def test_transcripts_are_trained_on_by_default(recipe):
    recipe.ok(**STAGE)
    calls = recipe.calls()
    assert "hard_labels" not in verbs_of(calls)
    train = next(call for call in calls if call[0].endswith(".train"))
    assert values(train, "--train_shape_file")[0] == "exp/asr_stats_raw_char/train/speech_shape"
    assert "dump/raw/train/text,text,text" in values(train, "--train_data_path_and_name_and_type")


def test_a_student_of_transcripts_is_not_trained_on_none(recipe):
    path = recipe.dir / "dump/raw/train/text"
    path.write_text(path.read_text().replace(" x", "", 1))
    done = recipe.run(**STAGE)
    assert done.returncode == 1
    message = "dump/raw/train/text: 1 utterances without a transcript, which 'big' is to train on"
    assert message in done.stderr and "train" not in recipe.verbs()


ADAPT = """stages:
- name: big
  method: retrain
  objective: none
  labels: teacher
  label_set: target
  label_teachers: [first, exp/other]
  select: {by: agreement, keep: 0.7}
  keep_source: 0.5
"""


def test_several_teachers_label_a_set_without_transcripts(recipe):
    for name in "wav.scp", "text", "utt2spk", "utt2num_samples":
        recipe.write(f"dump/raw/target/{name}", "".join(f"t{i} x\n" for i in range(3)))
    recipe.write("conf/compression.yaml", ADAPT)
    told = "conf/compression.yaml:6: stages[0].label_set: 'target' is not among --unlabelled_sets"
    assert told in recipe.error(**STAGE)
    options = {**STAGE, "unlabelled_sets": "target"}
    done = recipe.run(TEACHER, **options)
    told = "conf/compression.yaml:7: stages[0].label_teachers: exp/other has no config.yaml; name"
    assert told in done.stderr
    recipe.write("conf/compression.yaml", ADAPT.replace("exp/other", "previous"))
    twice = recipe.run(TEACHER, **options, force="true").stderr
    assert ":7: stages[0].label_teachers: 'previous' and 'first' are one model" in twice
    recipe.write("conf/compression.yaml", ADAPT)
    shutil.rmtree(recipe.dir / "exp/kd_big")
    shutil.copytree(recipe.dir / "exp/teacher", recipe.dir / "exp/other")
    recipe.calls()
    recipe.ok(TEACHER, **options)
    calls = recipe.calls()
    (labels,) = [call for call in calls if call[0].endswith(".hard_labels")]
    hyps = [f"exp/{name}/decode/target/text" for name in ("teacher", "other")]
    assert values(labels, "--hyp") == hyps
    assert value(labels, "--speech_shape") == "dump/raw/target/utt2num_samples"
    assert value(labels, "--select") == "agreement" and value(labels, "--least") == "50"
    assert (
        value(labels, "--source") == "dump/raw/train" and value(labels, "--keep_source") == "0.5"
    )
    train = next(call for call in calls if call[0].endswith(".train"))
    folder = "exp/kd_big/hard_labels/target"
    assert f"{folder}/text,text,text" in values(train, "--train_data_path_and_name_and_type")


def test_teachers_that_vote_are_named_best_first(recipe):
    voters = "[first, exp/other, exp/third]\n  combine: vote"
    recipe.write("conf/compression.yaml", ADAPT.replace("[first, exp/other]", voters))
    for name in "wav.scp", "text", "utt2spk", "utt2num_samples":
        recipe.write(f"dump/raw/target/{name}", "".join(f"t{i} x\n" for i in range(3)))
    for name in ("other", "third"):
        shutil.copytree(recipe.dir / "exp/teacher", recipe.dir / "exp" / name)
    rates = {"STUB_WER": "teacher=5 other=3 third=5"}
    done = recipe.ok({**TEACHER, **rates}, **STAGE, unlabelled_sets="target")
    (labels,) = [call for call in recipe.calls() if call[0].endswith(".hard_labels")]
    hyps = [f"exp/{name}/decode/target/text" for name in ("other", "teacher", "third")]
    assert values(labels, "--hyp") == hyps and value(labels, "--combine") == "vote"
    told = "exp/other (3.00 %), exp/teacher (5.00 %), exp/third (5.00 %)"
    assert told in done
