"""Training in pieces: stopped by the clock, carried away, gone on with elsewhere."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests.patience import PATIENCE
from tests.recipe.shell_recipe import KEPT, OPTIONS, PLAN, STUB, Recipe

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
    for name in "mini/train_teacher", "mini/train_student":
        recipe.write(f"conf/{name}.yaml", f"optim: adam\n{KEPT}")
    recipe.write("conf/small/decode.yaml", "beam_size: 2\n")
    (tmp_path / "corpus").mkdir()
    return recipe


@pytest.fixture
def pretended(tmp_path):
    """A recipe that says what it was called with and what it has found, and leaves $NOW."""
    recipe = SimpleNamespace(dir=tmp_path / "egs2/my/asr_kd", calls_file=tmp_path / "calls")
    recipe.dir.mkdir(parents=True)
    (recipe.dir / "run.sh").write_text(
        '#!/bin/sh\necho "called with $*"\nmkdir -p data exp\n'
        'echo "found $(cat exp/mark 2>/dev/null)"\necho "${NOW}" >exp/mark\n'
    )
    (recipe.dir / "run.sh").chmod(0o755)
    (tmp_path / "corpus").mkdir()
    return recipe


def start(repo, recipe, *options, sleep="", **more):
    command = [repo / "tools/train_mini_librispeech.sh", "--recipe", recipe.dir,
               "--corpus", recipe.dir.parents[2] / "corpus", *options]  # fmt: skip
    environment = {**os.environ, "STUB_CALLS": str(recipe.calls_file), "STUB_SLEEP": sleep, **more}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(list(map(str, command)), env=environment, text=True, **pipes)


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
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
    average = next((recipe.dir / "exp/asr_mini").glob("*.ave.pth"))
    average.rename(average.with_name("7epoch.pth"))  # as ESPnet averages one epoch
    average.symlink_to("7epoch.pth")
    (recipe.dir / "exp/9epoch.pth").write_text("of nobody")
    code, said = finish(start(repo, recipe, *piece, "--stage", 17, "--minutes", 0.05,
                              sleep="espnet_kd.bin.measure_speed:60"))  # fmt: skip
    assert code == UNFINISHED and "unfinished" in said, said
    assert "warning: no step and no epoch was finished: more --minutes are needed" in said
    assert sorted(os.listdir(state / "state")) == ["000", "checksums"]
    recipe.calls()

    # Another machine has the repository, the corpus and the state.
    for name in "exp", "data", "dump":
        shutil.rmtree(recipe.dir / name)
    code, said = finish(start(repo, recipe, *piece))
    assert code == 0, said
    calls = recipe.calls()
    students = ("mid", "small", "one_shot", "scratch")
    assert trained(calls) == [f"exp/kd_mini_{name}" for name in students]
    assert all("--use_amp" in call for call in calls if call[0] == "espnet_kd.bin.train")
    assert (recipe.dir / "exp/RESULTS.md").exists()
    # What a finished training no longer needs stayed behind.
    assert not (recipe.dir / "exp/asr_mini/9epoch.pth").exists()
    assert average.is_symlink() and average.exists()
    assert (recipe.dir / "exp/9epoch.pth").exists()


def test_a_signal_ends_the_training_and_saves(repo, recipe, tmp_path):
    process = start(repo, recipe, "--state", tmp_path / "state", sleep="espnet_kd.bin.train:60")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not list(recipe.dir.glob("exp/*/logdir/stats.1.log")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code == UNFINISHED and "interrupted in stage 10" in said, said
    assert (tmp_path / "state/state/000").exists()


# In the place of rm and mv: the KILL_AT-th call that is about the state kills the caller.
KILLER = """#!/bin/bash
case "$*" in *"${STATE}"*)
    echo >>"${COUNT}"
    [ "$(wc -l <"${COUNT}")" -ne "${KILL_AT}" ] || { kill -9 "${PPID}"; exit 1; } ;;
esac
PATH=${PATH#*:} exec "${0##*/}" "$@"
"""


def test_a_kill_while_the_state_is_written_leaves_one_that_is_whole(repo, pretended, tmp_path):
    state = tmp_path / "state"
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("rm", "mv"):
        (folder / name).write_text(KILLER)
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    before = "0"
    assert finish(start(repo, pretended, "--state", state, NOW="0"))[0] == 0
    for n in itertools.count(1):
        kill = {"PATH": path, "STATE": str(state), "COUNT": str(tmp_path / f"count{n}")}
        code, said = finish(start(repo, pretended, "--state", state, NOW=f"{n}", KILL_AT=f"{n}",
                                  **kill))  # fmt: skip
        if code != -signal.SIGKILL:
            break
        shutil.rmtree(pretended.dir / "exp")
        code, said = finish(start(repo, pretended, "--state", state, NOW=f"{n} again"))
        assert code == 0, said
        assert f"found {before}\n" in said or f"found {n}\n" in said
        assert os.listdir(state) == ["state"]
        before = f"{n} again"
    assert code == 0 and n > 4, said  # killed at each moment, and then not


def test_parts_that_lie_in_the_folder_itself(repo, pretended, tmp_path):
    state = tmp_path / "state"
    assert finish(start(repo, pretended, "--state", state, NOW="old"))[0] == 0
    (state / "state/000").rename(state / "state.000")
    shutil.rmtree(state / "state")
    shutil.rmtree(pretended.dir / "exp")
    assert "found old\n" in finish(start(repo, pretended, "--state", state, NOW="new"))[1]
    assert os.listdir(state) == ["state"]


@pytest.mark.parametrize("keep, why", [(0, "000: No such file or dir"), (512, "000: FAILED")])
def test_a_damaged_state_is_one_line(keep, why, repo, pretended, tmp_path):
    state = tmp_path / "state"
    assert finish(start(repo, pretended, "--state", state))[0] == 0
    part = state / "state/000"
    os.truncate(part, keep) if keep else part.unlink()
    shutil.rmtree(pretended.dir / "exp")
    process = start(repo, pretended, "--state", state)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and err.count("\n") == 1
    assert "state/state/* cannot be unpacked (" in err
    assert why in err and "); copy them again, or name another folder to begin afresh" in err
    assert sorted(os.listdir(pretended.dir)) == ["corpus", "data", "run.sh"]


@pytest.mark.parametrize("folder", ["", "dev-clean-10", "LibriSpeech/dev-clean-10"])
def test_the_set_to_validate_on(folder, repo, pretended, tmp_path):
    (tmp_path / "corpus" / folder).mkdir(parents=True, exist_ok=True)
    name = "dev_clean_10" if folder else "dev_clean_2"
    said = finish(start(repo, pretended))[1]
    assert f"--valid_set {name} --test_sets {name} " in said


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
