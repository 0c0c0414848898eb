"""A student's training with options of scale: bfloat16, gradient accumulation."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toy import TRAINING, call, inside, train_words, write_data, write_teacher, write_yaml

from tests.espnet.tiny import tiny_config

KD = {
    "objective": "collapsed",
    "weight": 0.5,
    "teacher_config": "teacher/config.yaml",
    "teacher_model": "teacher/model.pth",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with inside(tmp_path_factory.mktemp("scale")) as folder:
        write_data()
        write_teacher(Path("teacher"))
    return folder


@pytest.fixture
def train(place, monkeypatch):
    """Return a function that trains with a config's changes and returns the model."""
    monkeypatch.chdir(place)

    def run(out, changes, *more):
        write_yaml(f"{out}.yaml", {**tiny_config(), **TRAINING, "kd_conf": KD, **changes})
        code, err = call("train", train_words(out, *more, config=f"{out}.yaml"))
        if code:
            return err
        return torch.load(f"{out}/checkpoint.pth", map_location="cpu", weights_only=False)

    return run


def test_a_training_in_bfloat16_runs_and_goes_on(train):
    changes = {"use_amp": True, "amp_dtype": "bfloat16", "max_epoch": 2}
    changes["kd_conf"] = {**KD, "teacher_dtype": "bfloat16"}
    whole = train("whole", changes)
    train("parts", changes, "--max_epoch", "1")
    parts = train("parts", changes)
    assert whole["scaler"] is None  # the loss was not scaled
    for name, tensor in whole["model"].items():
        assert tensor.dtype != torch.bfloat16 and torch.equal(parts["model"][name], tensor), name
    exact = train("exact", {"max_epoch": 2})
    assert set(exact["model"]) == set(whole["model"])
    histories = [json.loads(Path(f"{n}/history.json").read_text()) for n in ("whole", "exact")]
    last = [history[-1] for history in histories]
    for part in ("train", "valid"):
        low, high = (epoch[part] for epoch in last)
        assert set(low) == set(high)
        assert low["loss"] != high["loss"]
        assert low["loss"] == pytest.approx(high["loss"], rel=0.02)
        assert 0 < high["agreement"] <= 1
    for history in histories:
        assert all(epoch["valid"]["wer"] > 0 for epoch in history)
        assert len({epoch["valid"]["wer_teacher"] for epoch in history}) == 1


def test_weights_and_biases_gets_the_same_figures(train, monkeypatch):
    logged, said = [], SimpleNamespace(update=lambda *_, **__: None)
    wandb = SimpleNamespace(login=print, init=lambda **_: None, config=said, log=logged.append)
    wandb.run, wandb.errors = None, SimpleNamespace(UsageError=RuntimeError)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("espnet2.tasks.abs_task.wandb", wandb)
    train("wandb", {"max_epoch": 1, "use_wandb": True, "wandb_model_log_interval": -1})
    (epoch,) = json.loads(Path("wandb/history.json").read_text())
    (shown,) = (figures for figures in logged if "epoch" in figures)
    for part in ("train", "valid"):
        own = {"seconds", "cpu_seconds", "updates"}  # of the file alone
        for key in set(epoch[part]) - own:
            assert shown[f"{part}/{part}_{key}_epoch"] == pytest.approx(epoch[part][key]), key
    assert {"agreement", "loss_kd", "kd_weight", "tokens_per_second"} <= set(epoch["train"])
    assert {"agreement", "wer", "wer_teacher"} <= set(epoch["valid"])


def test_bfloat16_is_no_use_without_mixed_precision(train):
    assert "no effect without --use_amp true" in train("off", {"amp_dtype": "bfloat16"})


def test_accumulated_gradients_are_those_of_the_large_batch(train, monkeypatch):
    # Without what differs between a batch and its parts: batch statistics, random numbers.
    monkeypatch.setattr(torch.nn.BatchNorm1d, "forward", lambda self, x: x)
    encoder = {**tiny_config()["encoder_conf"], "main_conf": {}}
    plain = {"encoder_conf": encoder, "max_epoch": 1, "optim": "sgd", "optim_conf": {"lr": 0.01}}
    plain.update(scheduler=None, scheduler_conf={})
    start = train("start", {**plain, "optim_conf": {"lr": 0.0}})["model"]
    large = train("large", {**plain, "batch_size": 12})["model"]
    small = train("small", {**plain, "batch_size": 4, "accum_grad": 3})["model"]
    moved = 0.0
    for name, before in start.items():
        if before.is_floating_point():
            one, other = (state[name] - before for state in (large, small))
            assert (one - other).norm() <= 1e-3 * one.norm() + 1e-7, name
            moved += float(one.norm())
    assert moved > 0
