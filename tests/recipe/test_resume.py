"""A student's training that was interrupted goes on, and ends as if it had not been."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mini_run import environment
from toy import TRAINING, call, inside, train_words, write_data, write_teacher, write_yaml

import espnet_kd.espnet.model
from tests.patience import PATIENCE

EPOCHS = TRAINING["max_epoch"]
LATE = 3  # the epoch that is interrupted
WORDS = {"config": "derived/student.yaml"}
PLAN = {"stages": [{"target": 0.6, "objective": "full", "weight": 0.5, "epochs": EPOCHS}]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a teacher and a derived student."""
    with inside(tmp_path_factory.mktemp("resume")) as folder:
        write_data()
        write_teacher(Path("teacher"))
        write_yaml("plan.yaml", PLAN)
        write_yaml("train.yaml", TRAINING)
        command = "--plan plan.yaml --stage 1 --teacher_exp teacher --teacher_model model.pth "
        command += "--train_config train.yaml --out derived"
        code, err = call("derive_student", command.split())
        assert code == 0, err
    return folder


def words(out):
    return train_words(out, "--init_param", "derived/init.pth", **WORDS)


@pytest.fixture
def train(place, monkeypatch):
    """Return a function that trains into a folder and returns (exit code, stderr)."""
    monkeypatch.chdir(place)
    return lambda out, *more: call("train", [*words(out), *more])


@pytest.fixture(scope="module")
def whole(place):
    """What a training leaves that nobody interrupts."""
    with inside(place):
        code, err = call("train", words("whole"))
        assert code == 0, err
        return outcome(Path("whole"))


def outcome(folder):
    """Everything that counts of a finished training: figures, weights, files."""
    history = json.loads((folder / "history.json").read_text())
    for epoch in history:
        for part in ("train", "valid"):
            epoch[part] = {k: v for k, v in epoch[part].items() if "second" not in k}
    facts = json.loads((folder / "facts.json").read_text())
    states = {
        path.name: torch.load(path, map_location="cpu", weights_only=True)
        for path in folder.glob("*.pth")
        if path.name != "checkpoint.pth"
    }
    # The reporter of 202511 is not made of tensors alone.
    checkpoint = torch.load(folder / "checkpoint.pth", map_location="cpu", weights_only=False)
    states["checkpoint.pth"] = checkpoint["model"]
    steps = [int(s["step"]) for s in checkpoint["optimizers"][0]["state"].values()]
    return {
        "history": history,
        "facts": (facts["epochs"], facts["updates"]),
        "links": {p.name: os.readlink(p) for p in folder.iterdir() if p.is_symlink()},
        "steps": set(steps),
        "states": states,
    }


def assert_same(folder, whole):
    found = outcome(folder)
    for key in ("history", "facts", "links", "steps"):
        assert found[key] == whole[key], key
    assert set(found["states"]) == set(whole["states"])
    for name, state in whole["states"].items():
        for key, tensor in state.items():
            assert torch.equal(found["states"][name][key], tensor), (name, key)
    assert not list(folder.glob(".*.tmp")) and not list(folder.glob("*.tmp"))


def interrupt():
    """What Ctrl-C does to a training in this process."""
    raise KeyboardInterrupt


def in_the_middle_of_an_epoch(monkeypatch):
    forward = espnet_kd.espnet.model.DistilTransducer.forward
    calls = []

    def count(self, *args, **kwargs):
        calls.append(self.training)
        if sum(calls) == 3 * (LATE - 1) + 2:  # three updates an epoch
            interrupt()
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(espnet_kd.espnet.model.DistilTransducer, "forward", count)


def while_writing(name, nth):
    """Half a file is written, the `nth` time that `name` is to be saved."""

    def patch(monkeypatch):
        save = torch.save
        seen = []

        def half(obj, f, *args, **kwargs):
            save(obj, f, *args, **kwargs)
            seen.append(name in str(f))
            if seen[-1] and sum(seen) == nth:
                os.truncate(f, os.path.getsize(f) // 2)
                interrupt()

        monkeypatch.setattr(torch, "save", half)

    return patch


@pytest.mark.parametrize(
    "damage",
    [
        in_the_middle_of_an_epoch,
        while_writing("checkpoint.pth", LATE),
        # The checkpoint of this epoch is complete, its model is not.
        while_writing(f"{LATE}epoch.pth", 1),
        while_writing(f"{EPOCHS}epoch.pth", 1),
        while_writing("ave_2best.pth", 1),
    ],
    ids=["epoch", "checkpoint", "model", "last_model", "average"],
)
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    damage, train, whole, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        damage(patch)
        code, err = train(str(tmp_path / "run"))
    assert code == 130
    assert err.splitlines()[-1] == "train: interrupted; run the same command to go on"
    assert "Traceback" not in err
    assert not (tmp_path / "run/valid.loss_transducer.ave.pth").exists()
    code, err = train(str(tmp_path / "run"))
    assert code == 0, err
    assert_same(tmp_path / "run", whole)


def test_a_killed_training_goes_on(place, train, whole, tmp_path):
    """SIGKILL, as when memory runs out or the machine is lost: nothing can be tidied up."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "espnet_kd.bin.train", *words(str(out))]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE
    while not (out / f"{LATE - 1}epoch.pth").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / f"{EPOCHS}epoch.pth").exists()
    (out / ".checkpoint.pth.1.tmp").touch()  # what a kill may leave is tidied up
    code, err = train(str(out))
    assert code == 0, err
    assert_same(out, whole)


def test_a_training_that_is_made_longer_ends_as_if_it_had_been_from_the_start(
    train, whole, tmp_path
):
    for epochs in (LATE, EPOCHS):
        code, err = train(str(tmp_path / "run"), "--max_epoch", str(epochs))
        assert code == 0, err
    assert_same(tmp_path / "run", whole)


def test_a_finished_training_is_not_trained_again(train, whole, place, tmp_path):
    before = {p.name: p.stat().st_mtime_ns for p in Path("whole").glob("*epoch.pth")}
    code, err = train("whole")
    assert code == 0, err
    assert {p.name: p.stat().st_mtime_ns for p in Path("whole").glob("*epoch.pth")} == before
    assert_same(Path("whole"), whole)


def test_two_processes_of_which_one_is_killed_go_on(place, monkeypatch):
    monkeypatch.chdir(place)
    middle = 3 * (LATE - 1) + 2  # three updates an epoch
    trainings = [("two", None), ("killed", middle), ("killed", None)]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("two_processes.py")]
        + [json.dumps([words(out), killed_at]) for out, killed_at in trainings],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    codes = re.findall(r"^exit codes: (\S+) (\S+)$", done.stdout, re.MULTILINE)
    assert codes[0] == codes[2] == ("0", "0"), done.stdout + done.stderr
    assert codes[1][0] != "0" and codes[1][1] == str(-signal.SIGKILL)
    assert_same(Path("killed"), outcome(Path("two")))
    assert_speeds_count_everything(Path("killed"))


def test_speeds_are_in_the_history(place, whole, monkeypatch):
    monkeypatch.chdir(place)
    assert_speeds_count_everything(Path("whole"))


def assert_speeds_count_everything(folder):
    """What all processes have read of an epoch together is the whole training set."""
    shapes = Path("stats/train/speech_shape").read_text().splitlines()
    texts = Path("stats/train/text_shape").read_text().splitlines()
    audio = sum(int(line.split()[1]) for line in shapes) / 16000
    tokens = sum(int(line.split()[1].split(",")[0]) for line in texts)
    for epoch in json.loads((folder / "history.json").read_text()):
        train = epoch["train"]
        assert train["audio_seconds_per_second"] * train["seconds"] == pytest.approx(audio)
        assert train["tokens_per_second"] * train["seconds"] == pytest.approx(tokens)
        assert not {key for key in epoch["valid"] if key.endswith("_per_second")}
