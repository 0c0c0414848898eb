"""Training in pieces: stopped by the clock, carried away, gone on with elsewhere."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.recipe.shell_recipe import OPTIONS, PLAN, STUB, Recipe

UNFINISHED = 75
# Takes the place of LibriSpeech's: swallows `--data_scale mini`, names the sets of the stub.
RUN_SH = """#!/usr/bin/env bash
shift 2
exec ./asr_kd.sh --lang en "$@" {options}
"""


@pytest.fixture
def recipe(tmp_path):
    recipe = Recipe(tmp_path)
    python = f"{sys.executable} -S {STUB}"
    mine = {name: OPTIONS[name] for name in OPTIONS if name not in ("asr_exp", "kd_tag")}
    mine.update(test_sets="test_a", nj=1, inference_nj=1)
    words = [f"--{name} '{value}'" for name, value in {**mine, "python": python}.items()]
    recipe.write("run.sh", RUN_SH.format(options=" ".join(words)))
    recipe.write("conf/mini/compression.yaml", PLAN)
    for name in "mini/train_teacher", "mini/train_student", "small/decode":
        recipe.write(f"conf/{name}.yaml", "frontend: default\n")
    (tmp_path / "corpus").mkdir()
    return recipe


def start(repo, recipe, *options, sleep=""):
    command = [repo / "tools/train_mini_librispeech.sh", "--recipe", recipe.dir,
               "--corpus", recipe.dir.parents[2] / "corpus", *options]  # fmt: skip
    environment = {**os.environ, "STUB_CALLS": str(recipe.calls_file), "STUB_SLEEP": sleep}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(list(map(str, command)), env=environment, text=True, **pipes)


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def trained(calls):
    """The directories that trainings were started in."""
    trainings = (call for call in calls if call[0] == "espnet_kd.bin.train")
    return [c[c.index("--output_dir") + 1] for c in trainings if "--collect_stats" not in c]


def test_cut_carried_and_finished_elsewhere(repo, recipe, tmp_path):
    state = tmp_path / "state"
    piece = ["--state", state, "--train_args", "--use_amp true"]
    code, said = finish(start(repo, recipe, *piece, "--stop_stage", 16,
                              "--stop_compression_stage", 1))  # fmt: skip
    assert code == 0, said
    assert trained(recipe.calls()) == ["exp/asr_mini", "exp/kd_mini_big"]
    (recipe.dir / "exp/asr_mini/9epoch.pth").write_text("large")
    (recipe.dir / "exp/9epoch.pth").write_text("of nobody")
    code, said = finish(start(repo, recipe, *piece, "--stage", 17, "--minutes", 0.05,
                              sleep="espnet_kd.bin.report:60"))  # fmt: skip
    assert code == UNFINISHED and "unfinished" in said, said
    assert "warning: no step and no epoch was finished: more --minutes are needed" in said
    assert [p.name for p in state.iterdir()] == ["state.000"]
    recipe.calls()

    # Another machine has the repository, the corpus and the state.
    for name in "exp", "data", "dump":
        shutil.rmtree(recipe.dir / name)
    code, said = finish(start(repo, recipe, *piece))
    assert code == 0, said
    calls = recipe.calls()
    assert trained(calls) == ["exp/kd_mini_mid", "exp/kd_mini_small"]
    assert all("--use_amp" in call for call in calls if call[0] == "espnet_kd.bin.train")
    assert (recipe.dir / "exp/RESULTS.md").exists()
    # What a finished training no longer needs stayed behind.
    assert not (recipe.dir / "exp/asr_mini/9epoch.pth").exists()
    assert (recipe.dir / "exp/9epoch.pth").exists()


def test_a_signal_ends_the_training_and_saves(repo, recipe, tmp_path):
    process = start(repo, recipe, "--state", tmp_path / "state", sleep="espnet_kd.bin.train:60")
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not list(recipe.dir.glob("exp/*/logdir/stats.1.log")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == UNFINISHED and "interrupted in stage 10" in said, said
    assert (tmp_path / "state/state.000").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--minutes", "ten"], "--minutes must be a number, not 'ten'"),
        (["--corpus", "missing"], "--corpus 'missing': no such folder"),
        (["--no_such_option", "x"], "unknown option --no_such_option"),
    ],
)
def test_mistakes(repo, recipe, options, message):
    code, said = finish(start(repo, recipe, *options))
    assert code == 1 and message in said
