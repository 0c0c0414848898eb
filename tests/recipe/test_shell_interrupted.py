"""A signal in the middle of a training: what ends with it, and how the run goes on."""

import contextlib
import os
import pty
import shutil
import signal
import time
from pathlib import Path

import pytest
from shell_recipe import INTERRUPT, TERMINATE, ends

from tests.patience import PATIENCE


@pytest.fixture
def recipe(recipe_with_teacher, monkeypatch):
    monkeypatch.setattr(recipe_with_teacher, "preloaded", False)
    return recipe_with_teacher


@pytest.mark.parametrize("number, code", [(TERMINATE, 143), (INTERRUPT, 130)])
def test_an_interrupted_training_is_resumed_with_the_same_options_only(recipe, number, code):
    shutil.rmtree(recipe.dir / "exp/teacher")
    options = {"stage": 11, "stop_stage": 11}
    process = recipe.start(env={"STUB_SLEEP": "espnet_kd.bin.train:3000"}, **options)
    while not recipe.calls(clear=False):
        time.sleep(0.05)
    children = _running(recipe.dir, "espnet_kd.bin.train")
    assert children
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "interrupted in stage 11 (training of the teacher); run the same command" in err
    assert all(ends(pid) for pid in children)

    assert "holds an interrupted run with other options" in recipe.error(**{**options, "seed": 7})
    assert "going on with the interrupted run in exp/teacher" in recipe.ok(**options)
    assert "already done" in recipe.ok(**options)


def test_control_c_on_a_terminal(recipe):
    shutil.rmtree(recipe.dir / "exp/teacher")
    pid, terminal = pty.fork()
    if pid == 0:  # the child: its controlling terminal is a new one
        env = {"STUB_SLEEP": "espnet_kd.bin.train:3000"}
        process = recipe.start(env=env, capture=False, stage=11, stop_stage=11)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os._exit(process.wait())
    while not recipe.calls(clear=False):
        time.sleep(0.05)
    os.write(terminal, b"\x03")
    printed = b""
    with contextlib.suppress(OSError):  # the terminal is gone
        while chunk := os.read(terminal, 4096):
            printed += chunk
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert b"interrupted in stage 11" in printed, printed
    assert all(ends(pid) for pid in _running(recipe.dir, "exp/teacher"))


def _running(folder, word):
    """Processes of a recipe with a word in their command; other tests run theirs beside it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # has ended by now
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if word in command and os.readlink(f"/proc/{pid}/cwd") == str(folder):
                found.append(int(pid))
    return found
