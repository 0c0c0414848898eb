"""Damaged records of a training: it goes on from the last good epoch, or says what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_resume import assert_same, outcome
from toy import TRAINING, call, inside, train_words, write_data, write_yaml

from tests.espnet.tiny import tiny_config

EPOCHS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a training that was killed in its last epoch, and one that was not."""
    with inside(tmp_path_factory.mktemp("damaged")) as folder:
        write_data()
        config = {k: v for k, v in tiny_config().items() if k != "token_list"}
        write_yaml("train.yaml", {**config, **TRAINING, "max_epoch": EPOCHS})
        code, err = call("train", train_words("whole"))
        assert code == 0, err
        with pytest.MonkeyPatch.context() as patch:
            kill_in_the_last_epoch(patch)
            code, err = call("train", train_words("killed"))
        assert code == 130, err
    return folder


def kill_in_the_last_epoch(patch):
    from espnet_kd.espnet.model import DistilTransducer

    forward, calls = DistilTransducer.forward, []

    def count(self, *args, **kwargs):
        calls.append(self.training)
        if sum(calls) > 3 * (EPOCHS - 1) + 1:  # three updates an epoch
            raise KeyboardInterrupt
        return forward(self, *args, **kwargs)

    patch.setattr(DistilTransducer, "forward", count)


@pytest.fixture
def killed(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    shutil.copytree("killed", tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    for i in range(64):  # as much as may lie between two parts of the file and say nothing
        data[len(data) // 2 + i] ^= 8
    path.write_bytes(data)


def no_numbers(path):
    state = torch.load(path, weights_only=False)
    state["model"]["decoder.embed.weight"][1:] = float("nan")
    torch.save(state, path)


def of_another_kind(path):
    torch.save([1, 2, 3], path)


def remove(path):
    path.unlink()


DAMAGE = [cut, empty, flip, no_numbers, of_another_kind, remove]


@pytest.mark.parametrize("damage", [cut, flip, no_numbers, remove])
def test_a_damaged_checkpoint_costs_an_epoch(killed, damage):
    damage(killed / "checkpoint.pth")
    code, err = call("train", train_words(str(killed)))
    assert code == 0, err
    assert_same(killed, outcome(Path("whole")))
    assert not (killed / "checkpoint.previous.pth").exists()


@pytest.mark.parametrize("damage", DAMAGE)
def test_two_damaged_checkpoints_are_named(killed, damage):
    before = {path: path.stat().st_mtime_ns for path in killed.glob("*epoch.pth")}
    for name in ("checkpoint.pth", "checkpoint.previous.pth"):
        damage(killed / name)
    code, err = call("train", train_words(str(killed)))
    line = err.splitlines()[-1]
    assert code == 1 and line.startswith(f"train: error: {killed}/checkpoint."), line
    assert "remove" in line and "to train from the start" in line and "Traceback" not in err
    assert {path: path.stat().st_mtime_ns for path in killed.glob("*epoch.pth")} == before


@pytest.mark.parametrize("content", [None, b'[{"epoch": 1', b"[[[]]]"])
def test_damaged_records_are_made_anew(killed, content):
    for name in ("history.json", "facts.json"):
        if content is None:
            (killed / name).unlink()
        else:
            (killed / name).write_bytes(content)
    code, err = call("train", train_words(str(killed)))
    assert code == 0, err
    assert_same(killed, outcome(Path("whole")))


def test_a_damaged_model_of_an_epoch_is_named(killed):
    for path in killed.glob("[0-9]*epoch.pth"):
        flip(path)
    code, err = call("train", train_words(str(killed)))
    line = err.splitlines()[-1]
    assert code == 1 and "epoch.pth: not a readable checkpoint" in line, line


def test_records_of_a_finished_training(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    shutil.copytree("whole", tmp_path / "run", symlinks=True)
    (tmp_path / "run/facts.json").write_text("")
    (tmp_path / "run/history.json").write_text("")
    code, err = call("train", train_words(str(tmp_path / "run")))
    assert code == 0, err
    facts = json.loads((tmp_path / "run/facts.json").read_text())
    assert (facts["epochs"], facts["updates"]) == (EPOCHS, 3 * EPOCHS)
