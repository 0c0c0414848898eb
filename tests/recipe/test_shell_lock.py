"""Two runs of the recipe at once."""

import contextlib
import json
import os
import signal
import subprocess
import time

import pytest
from shell_recipe import INTERRUPT, TERMINATE, ends

from espnet_kd.run.lock import _processes_of
from tests.patience import PATIENCE

TRAIN = {"stage": 16, "stop_stage": 16, "stop_compression_stage": 1}
SLOW = {"STUB_SLEEP": "espnet_kd.bin.train:300"}


@pytest.fixture
def recipe(recipe_with_teacher, monkeypatch):
    monkeypatch.setattr(recipe_with_teacher, "preloaded", False)
    return recipe_with_teacher


def records(recipe):
    return sorted(str(p.relative_to(recipe.dir)) for p in recipe.dir.rglob(".run.json*"))


def started(recipe, verb, **options):
    """A run in which a command line works: the run, and the number of that process."""
    process = recipe.start(**options)
    while verb not in [call[0].rpartition(".")[2] for call in recipe.calls(clear=False)]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    recipe.calls()
    token = json.loads(next(recipe.dir.rglob(".run.json")).read_text())["token"]
    command = f"espnet_kd.bin.{verb} "
    (pid,) = (pid for pid, words in _processes_of(token) if words.startswith(command))
    return process, pid


def test_a_second_run_in_the_same_exp_is_refused(recipe):
    first, _ = started(recipe, "train", env=SLOW, **TRAIN)
    error = recipe.error(stage=17)
    assert "lock: error: exp is in use by another run (pid " in error
    assert f"pid {first.pid} on {os.uname().nodename}, " in error
    assert ": ./asr_kd.sh --train_set train " in error
    assert recipe.verbs() == []
    assert records(recipe) == ["exp/.run.json"]
    # Help needs no folder, and another exp/ is free.
    help_ = subprocess.run(["./asr_kd.sh", "--help"], cwd=recipe.dir, capture_output=True)
    assert help_.returncode == 0
    recipe.ok(stage=19, expdir="exp/other")
    assert not (recipe.dir / "exp/other").exists()  # nothing was put there
    first.send_signal(INTERRUPT)
    first.communicate(timeout=PATIENCE)
    assert records(recipe) == []
    recipe.ok(**TRAIN)


def test_a_killed_run_blocks_while_its_children_live(recipe):
    first, child = started(recipe, "train", env=SLOW, **TRAIN)
    first.kill()
    first.wait()
    first.stdout.close()
    first.stderr.close()
    error = recipe.error(**TRAIN)
    assert f"exp is still in use: a run was killed (pid {first.pid} on " in error
    assert "(espnet_kd.bin.compress --program asr_kd.sh " in error
    assert "goes on; wait, or end what is left" in error
    pids = [int(pid) for pid in error.rpartition("kill ")[2].split()]
    assert child in pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # ends with the run by itself
            os.kill(pid, signal.SIGTERM)
    assert all(ends(pid, PATIENCE) for pid in pids)
    assert "going on with the interrupted run in exp/kd_big" in recipe.ok(**TRAIN)
    assert records(recipe) == []


def test_for_a_killed_run_nothing_more_is_begun(recipe):
    first, _ = started(recipe, "train", env={"STUB_SLEEP": "espnet_kd.bin.train:2"}, **TRAIN)
    token = json.loads((recipe.dir / "exp/.run.json").read_text())["token"]
    first.kill()
    first.communicate()  # ends with the last that writes there
    deadline = time.monotonic() + PATIENCE
    while _processes_of(token) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _processes_of(token) and recipe.verbs() == []
    assert (recipe.dir / "exp/kd_big/.done.train").exists()  # what had begun was ended well
    recipe.ok(**TRAIN)
    assert recipe.verbs() == ["decode"] * 2 + ["score"] * 2


@pytest.mark.parametrize("end", [TERMINATE, signal.SIGHUP, "a stage that fails", "a missing file"])
def test_however_a_run_ends_it_leaves_no_record(recipe, end):
    if end == "a stage that fails":
        assert recipe.run(env={"STUB_FAIL": "espnet_kd.bin.train"}, **TRAIN).returncode == 1
    elif end == "a missing file":
        recipe.error(stage=11, asr_stats_dir="none", asr_exp="exp/new")
        assert not (recipe.dir / "none").exists() and not (recipe.dir / "exp/new").exists()
    else:
        before = signal.signal(end, signal.SIG_DFL)  # under nohup the run would inherit "ignored"
        run, _ = started(recipe, "train", env=SLOW, **TRAIN)
        signal.signal(end, before)
        run.send_signal(end)
        run.communicate(timeout=PATIENCE)
    assert records(recipe) == []


def test_runs_that_share_the_data_make_it_one_after_the_other(recipe):
    slow = {"STUB_SLEEP": "espnet_kd.bin.format_audio:1"}
    options = {"stage": 3, "stop_stage": 5, "force": "true"}
    first, _ = started(recipe, "format_audio", env=slow, **options)
    second = recipe.ok(stage=3, stop_stage=5, expdir="other")
    out, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, err
    assert f"waiting up to 60 s: data is in use by another run (pid {first.pid} " in second
    assert second.count("already done, skipped (dump") == 6
    assert recipe.verbs().count("format_audio") == 3  # of the first run, which had begun one
    assert records(recipe) == []
