"""A teacher cache between derivation and training, with a stub in python's place."""

import os
import shutil

import pytest
from shell_recipe import value

from espnet_kd.run.lock import Run, hold
from tests.patience import PATIENCE

CACHE = "exp/kd_big/teacher_cache"
STREAMS = {
    part: f"{CACHE}/{name}/teacher.scp,teacher,kaldi_ark"
    for part, name in {"train": "train", "valid": "dev"}.items()
}


@pytest.fixture
def recipe(recipe_with_teacher):
    return recipe_with_teacher


STAGE = {"stage": 16, "stop_stage": 16, "stop_compression_stage": 1, "use_teacher_cache": "true"}


def cached(calls):
    return [call for call in calls if call[0].endswith(".cache_teacher")]


def test_the_cache_is_made_between_derivation_and_training(recipe):
    printed = recipe.ok(**STAGE, cache_band=5, kd_args="--kd_conf weight=2")
    calls = recipe.calls()
    verbs = [call[0].rpartition(".")[2] for call in calls]
    # Two jobs, and one call that joins what they have made.
    assert verbs[:5] == ["derive_student"] + ["cache_teacher"] * 3 + ["train"]
    jobs, last = cached(calls)[:2], cached(calls)[2]
    assert sorted(value(call, "--job") for call in jobs) == ["1", "2"]
    assert all(value(call, "--nj") == "2" and call[-1] == "OMP=1" for call in jobs)
    assert "--job" not in last
    for call in cached(calls):
        assert value(call, "--teacher_exp") == "exp/teacher"
        assert value(call, "--out") == CACHE and value(call, "--band") == "5"
        assert value(call, "--student_config") == "exp/kd_big/student.yaml"
        assert "--student_args=--kd_conf weight=2" in call and "--ngpu" not in call
        sets = [call[i + 1] for i, word in enumerate(call) if word == "--data"]
        assert sets == ["dump/raw/train", "dump/raw/dev"]
    train = calls[4]
    assert value(train, "--kd_conf") == f"teacher_cache={CACHE}"
    for part in ("train", "valid"):
        option = f"--{part}_data_path_and_name_and_type"
        assert STREAMS[part] in [train[i + 1] for i, word in enumerate(train) if word == option]
    assert "[progress] (job 1) cache: job 1" in printed
    assert f"teacher cache {CACHE}: 6 utterances" in printed


def test_a_finished_training_needs_its_cache_no_more(recipe):
    recipe.ok(**STAGE)
    recipe.calls()
    shutil.rmtree(recipe.dir / CACHE)
    printed = recipe.ok(**STAGE)
    assert "already done, skipped (exp/kd_big)" in printed
    assert recipe.verbs() == []
    for options in ({"use_teacher_cache": "false"}, {"cache_band": 4}):
        error = recipe.error(**{**STAGE, **options})
        assert "exp/kd_big with other options (use_teacher_cache true (band 0)" in error
    recipe.calls()
    recipe.ok(**STAGE, force="true")
    assert len(cached(recipe.calls())) == 3


def test_a_training_that_is_made_longer_reads_a_cache_again(recipe):
    """Its last epochs would else hear the teacher itself, whose numbers are others."""
    recipe.ok(**STAGE)
    recipe.calls()
    for epochs in 3, 4:
        recipe.ok(**STAGE, kd_args=f"--max_epoch {epochs}")
        calls = recipe.calls()
        train = next(call for call in calls if call[0].endswith(".train"))
        assert value(train, "--kd_conf") == f"teacher_cache={CACHE}"
        assert not cached(calls)  # it is there
    shutil.rmtree(recipe.dir / CACHE)
    recipe.ok(**STAGE, kd_args="--max_epoch 5")
    calls = recipe.calls()
    train = next(call for call in calls if call[0].endswith(".train"))
    assert len(cached(calls)) == 3 and value(train, "--kd_conf") == f"teacher_cache={CACHE}"


def test_a_cache_is_kept_until_its_inputs_change(recipe):
    fail = {"STUB_FAIL": "espnet_kd.bin.train:exp/kd_big"}
    assert recipe.run(fail, **STAGE).returncode == 1
    assert len(cached(recipe.calls())) == 3
    kept = recipe.dir / CACHE / "train/parts"
    kept.mkdir(parents=True)
    assert recipe.run(fail, **STAGE).returncode == 1
    assert not cached(recipe.calls()) and kept.exists()
    assert "with other options (cache_band 0" in recipe.error(**STAGE, cache_band=3)
    recipe.write("dump/raw/dev/text", "dev-1 y\ndev-2 x\ndev-3 x\n")
    (recipe.dir / "exp/kd_big/.started.train").unlink()
    recipe.calls()
    printed = recipe.ok(**STAGE)
    assert f"{CACHE} is made again, its input has changed" in printed
    assert len(cached(recipe.calls())) == 3 and not kept.exists()


def test_an_interrupted_cache_goes_on_with_the_same_options_only(recipe):
    fail = {"STUB_FAIL": "espnet_kd.bin.cache_teacher"}
    done = recipe.run(fail, **STAGE)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-2].endswith("cache_teacher: error: wanted to fail")
    assert lines[-1].endswith(f"failed (exit code 1), log: {CACHE}/cache.*.log")
    assert "holds an interrupted run with other options" in recipe.error(**STAGE, cache_band=3)
    (recipe.dir / CACHE / "train/parts").mkdir(parents=True)
    assert f"going on with the interrupted run in {CACHE}" in recipe.ok(**STAGE)
    assert (recipe.dir / CACHE / "train/parts").exists()


def test_a_student_that_does_not_distil_trains_without(recipe):
    recipe.ok({"STUB_OBJECTIVE": "none"}, **STAGE, nj=1)
    calls = recipe.calls()
    assert len(cached(calls)) == 1 and not (recipe.dir / CACHE).exists()
    train = next(call for call in calls if call[0].endswith(".train"))
    assert "--kd_conf" not in train and STREAMS["train"] not in train


def test_one_job_on_the_gpu(recipe):
    recipe.ok(**STAGE, ngpu=1)
    (call,) = cached(recipe.calls())
    assert value(call, "--ngpu") == "1" and "--job" not in call


def test_without_the_option_there_is_no_cache(recipe):
    recipe.ok(**{**STAGE, "use_teacher_cache": "false"})
    calls = recipe.calls()
    assert not cached(calls)
    assert not any("kaldi_ark" in word for call in calls for word in call)
    assert "--cache_band must be a whole number" in recipe.error(**STAGE, cache_band="-1")


def test_one_cache_of_the_first_teacher_serves_the_stages_that_it_teaches(recipe):
    plan = recipe.dir / "conf/compression.yaml"
    text = plan.read_text()
    plan.write_text(text.replace("target:", "teacher: first, target:"))
    # Another run that shares the teacher is waited for: it may be making the cache.
    (record,) = hold([recipe.dir / "exp/teacher"], Run.of(os.getpid(), "another", "run.sh"))

    process = recipe.start(**{**STAGE, "stop_compression_stage": 3})
    waits = "waiting up to 86400 s: exp/teacher is in use by another run"
    assert any(waits in line for line in process.stdout)  # reads until it says so
    record.unlink()
    said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    calls = recipe.calls()
    places = [value(call, "--out") for call in cached(calls) if "--job" not in call]
    assert places == ["exp/teacher/teacher_cache"]
    trained = [call for call in calls if call[0].endswith(".train")]
    assert {value(call, "--kd_conf") for call in trained} == {f"teacher_cache={places[0]}"}
    taught = [value(call, "--teacher_exp") for call in cached(calls)]
    assert set(taught) == {"exp/teacher"}
    derived = [call for call in calls if call[0].endswith(".derive_student")]
    assert [value(call, "--teacher_exp") for call in derived][1] == "exp/kd_big"
    assert "--taught_by_exp" not in derived[0]
    assert value(derived[1], "--taught_by_exp") == "exp/teacher"


def test_a_stage_that_no_cache_serves_is_told_with_its_line(recipe):
    plan = recipe.dir / "conf/compression.yaml"
    plan.write_text(plan.read_text().replace("target:", "temperature: 2, target:", 1))
    line = plan.read_text()[: plan.read_text().index("temperature")].count("\n") + 1
    told = (
        f"conf/compression.yaml:{line}: stages[0].temperature: with a teacher cache it must be 1"
    )
    assert told in recipe.error(**STAGE)


def test_a_path_of_two_teachers_shares_the_first_step_from_the_cache(recipe):
    """Its other students hear both teachers on-line, which no cache holds."""
    paths = {"paths": "progressive progressive_half", "stop_compression_stage": 9}
    recipe.ok(**{**STAGE, **paths})
    calls = recipe.calls()
    trained = {
        value(call, "--output_dir").removeprefix("exp/kd_"): "--kd_conf" in call
        for call in calls
        if call[0].endswith(".train")
    }
    planned = [name for name in trained if not name.startswith("progressive_half")]
    assert [trained[name] for name in planned] == [True] * len(planned)
    assert not any(trained[name] for name in trained if name not in planned)
    (derived,) = [
        call for call in calls
        if call[0].endswith(".derive_student")
        and value(call, "--student") == f"progressive_half_{planned[1]}"
    ]  # fmt: skip
    assert value(derived, "--teacher_exp") == f"exp/kd_{planned[0]}"
    assert value(derived, "--first_teacher_exp") == "exp/teacher"
    assert f"progressive_half_{planned[0]}" not in trained
