"""What is no number is refused where it enters, and a training that trains nothing fails."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from espnet_kd.espnet.model import DistilTransducer
from tests.espnet.tiny import tiny_config
from tests.recipe.toy import (
    TRAINING,
    call,
    inside,
    train_words,
    write_data,
    write_teacher,
    write_yaml,
)

NAN, INF = float("nan"), float("inf")
KD = {
    "objective": "collapsed",
    "teacher_config": "teacher/config.yaml",
    "teacher_model": "teacher/model.pth",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with inside(tmp_path_factory.mktemp("sound")) as folder:
        write_data()
        write_teacher(Path("teacher"))
    return folder


@pytest.fixture
def train(place, tmp_path, monkeypatch):
    """Return a function that trains with changes of the config: (exit code, last line, all)."""
    monkeypatch.chdir(place)

    def run(*more, **changes):
        config = {k: v for k, v in tiny_config().items() if k != "token_list"}
        write_yaml(str(tmp_path / "c.yaml"), {**config, **TRAINING, "max_epoch": 2, **changes})
        out = str(tmp_path / "out")
        code, err = call("train", train_words(out, *more, config=str(tmp_path / "c.yaml")))
        return code, (err.splitlines() or [""])[-1], err

    run.out = tmp_path / "out"
    return run


def saved(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


@pytest.fixture
def bad_audio(place, tmp_path):
    """Words that let one utterance of the training set have a sample that is no number."""
    audio, rate = soundfile.read(place / "audio/train-05.wav")
    audio[3000] = NAN
    soundfile.write(tmp_path / "bad.wav", audio, rate, subtype="FLOAT")
    table = (place / "dump/train/wav.scp").read_text()
    table = table.replace("audio/train-05.wav", str(tmp_path / "bad.wav"))
    (tmp_path / "wav.scp").write_text(table)
    return lambda words: [
        word.replace("dump/train/wav.scp", f"{tmp_path}/wav.scp") for word in words
    ]


@pytest.mark.parametrize("stats", [True, False], ids=["statistics", "training"])
def test_a_sample_that_is_no_number(place, tmp_path, monkeypatch, bad_audio, stats):
    monkeypatch.chdir(place)
    config = {k: v for k, v in tiny_config().items() if k != "token_list"}
    write_yaml(str(tmp_path / "c.yaml"), {**config, **TRAINING, "max_epoch": 1})
    more = ["--collect_stats", "true"] if stats else []
    words = train_words(str(tmp_path / "out"), *more, config=str(tmp_path / "c.yaml"))
    code, err = call("train", bad_audio(words))
    line = err.splitlines()[-1]
    assert code == 1, err
    assert line.startswith("train: error: utterance train-05: its audio holds NaN"), line
    assert not list((tmp_path / "out").glob("*.pth"))
    assert not (tmp_path / "out/train/feats_stats.npz").exists()


def test_fewer_batches_than_an_update_takes(train):
    code, line, _ = train(accum_grad=4)
    assert code == 1 and "--accum_grad 4: an epoch has 3 batches" in line
    assert saved(train.out) == []
    assert train(accum_grad=3)[0] == 0


def test_a_learning_rate_that_breaks_the_model(train):
    code, line, _ = train(optim="sgd", optim_conf={"lr": 1e30}, grad_clip=1e30)
    assert code == 1 and line.startswith(f"train: error: {train.out}: epoch "), line
    assert "lower the learning rate" in line
    for name in saved(train.out):  # nothing is left that could be taken for a model
        state = torch.load(train.out / name, weights_only=False)
        tensors = state.get("model", state).values()
        assert all(bool(torch.isfinite(t.double()).all()) for t in tensors)


@pytest.fixture
def lost(monkeypatch):
    """Return a function that makes losses NaN, by the number of the forward pass."""
    forward, calls = DistilTransducer.forward, []

    def broken(self, *args, **kwargs):
        loss, stats, weight = forward(self, *args, **kwargs)
        calls.append(self.training)
        if lost.which(sum(calls), self.training):
            loss = loss * NAN
            stats = {**stats, "loss": stats["loss"] * NAN}
        return loss, stats, weight

    def lost(which):
        lost.which = which
        monkeypatch.setattr(DistilTransducer, "forward", broken)

    return lost


def test_a_training_without_an_update(train, lost):
    lost(lambda n, training: training and n > 3)  # from the second epoch on
    code, line, _ = train(max_epoch=3)
    assert code == 1 and "epoch 2 made no update of the model" in line
    assert "the loss was NaN or infinite in 3 of 3 batches" in line
    assert "2epoch.pth" not in saved(train.out) and "1epoch.pth" in saved(train.out)
    assert not list(train.out.glob("*ave*"))


def test_updates_that_were_skipped_are_told(train, lost):
    lost(lambda n, training: training and n in (2, 4, 6))
    code, _, err = train()
    assert code == 0
    told = [line for line in err.splitlines() if line.startswith("[progress] train out: epoch ")]
    assert "epoch 1: 1 of 3 updates were skipped" in told[0]
    assert "epoch 2: 2 of 3 updates were skipped" in told[1]
    assert "NaN or infinite in 2 of 3 batches" in told[1]
    facts = json.loads((train.out / "facts.json").read_text())
    assert (facts["updates"], facts["skipped_updates"]) == (3, 3)
    steps = torch.load(train.out / "checkpoint.pth", weights_only=False)["optimizers"][0]["state"]
    assert {int(state["step"]) for state in steps.values()} == {3}


def test_a_validation_without_a_number(train, lost):
    lost(lambda n, training: not training)
    code, line, _ = train()
    assert code == 1 and "epoch 1 left a model that computes no numbers" in line
    assert saved(train.out) == []


def test_a_training_that_stops_early(train, monkeypatch):
    """With patience fewer epochs are what was asked for; without they are not."""
    from espnet2.train.reporter import Reporter

    monkeypatch.setattr(Reporter, "check_early_stopping", lambda self, *args: True)
    assert train(patience=1, max_epoch=3)[0] == 0
    facts = json.loads((train.out / "facts.json").read_text())
    assert (facts["epochs"], facts["max_epoch"]) == (1, 3)
    from espnet_kd.espnet import soundness

    options = type("Options", (), {"output_dir": "exp/m", "max_epoch": 3, "patience": None})
    options.no_forward_run = False
    history = [{"epoch": 1, "train": {}, "valid": {}}, {"epoch": 2, "train": {}}]
    with pytest.raises(Exception, match="exp/m: the training ended after epoch 1 of 3"):
        soundness.check_finished(history, options)


def spoil(state, value):
    state = {name: tensor.clone() for name, tensor in state.items()}
    state[
        "encoder.after_norm.weight"
        if "encoder.after_norm.weight" in state
        else next(n for n in state if n.startswith("encoder"))
    ].view(-1)[0] = value
    return state


@pytest.mark.parametrize("value", [NAN, -INF])
def test_first_weights_and_a_teacher_that_are_no_numbers(train, tmp_path, value):
    state = spoil(torch.load("teacher/model.pth", weights_only=True), value)
    torch.save(state, tmp_path / "bad.pth")
    code, line, _ = train("--init_param", tmp_path / "bad.pth")
    assert code == 1 and "the model to begin with: 'encoder." in line
    assert "holds NaN or infinity" in line
    kd = {**KD, "teacher_model": str(tmp_path / "bad.pth")}
    code, line, _ = train(kd_conf=kd)
    assert code == 1 and f"error: {tmp_path}/bad.pth: 'encoder." in line
    assert saved(train.out) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_first_weights_and_a_teacher_that_are_damaged(train, tmp_path, damage):
    data = Path("teacher/model.pth").read_bytes()
    flipped = data[:20_000] + bytes([data[20_000] ^ 4]) + data[20_001:]
    bad = {"cut": data[: len(data) // 2], "empty": b"", "flipped": flipped}[damage]
    (tmp_path / "bad.pth").write_bytes(bad)
    kd = {**KD, "teacher_model": str(tmp_path / "bad.pth")}
    for words, changes in ((["--init_param", tmp_path / "bad.pth"], {}), ([], {"kd_conf": kd})):
        code, line, _ = train(*words, **changes)
        assert code == 1 and f"error: {tmp_path}/bad.pth: not a readable checkpoint" in line, line


def test_statistics_that_are_no_numbers(train, tmp_path):
    sums = np.full(20, 3.0)
    np.savez(tmp_path / "s.npz", count=np.array(2.0), sum=sums * NAN, sum_square=3 * sums)
    mvn = {"normalize": "global_mvn", "normalize_conf": {"stats_file": str(tmp_path / "s.npz")}}
    code, line, _ = train(**mvn)
    assert code == 1 and "s.npz" in line and "NaN or infinity" in line, line
