"""What TensorBoard and Weights & Biases have kept of a training, read back with their own code."""

import json
import struct
from pathlib import Path

import pytest
from toy import TRAINING, call, inside, train_words, write_data, write_teacher, write_yaml

from tests.espnet.tiny import tiny_config

KD = {"objective": "collapsed", "weight": 0.5}
KD.update(teacher_config="teacher/config.yaml", teacher_model="teacher/model.pth")
OWN = {"seconds", "cpu_seconds", "updates"}  # of history.json alone


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Return a function that trains two epochs and returns history.json's list."""
    with inside(tmp_path):
        write_data()
        write_teacher(Path("teacher"))
    monkeypatch.chdir(tmp_path)

    def train(changes):
        config = {**tiny_config(), **TRAINING, "kd_conf": KD, "max_epoch": 2, **changes}
        write_yaml("out.yaml", config)
        code, error = call("train", train_words("out", config="out.yaml"))
        assert code == 0, error
        return json.loads(Path("out/history.json").read_text())

    return train


def equal(history, shown):
    """Compare, part by part, epoch by epoch, figure by figure; count the figures."""
    figures = 0
    for number, epoch in enumerate(history, 1):
        for part in ("train", "valid"):
            for key in set(epoch[part]) - OWN:
                value = shown(part, key, number)
                assert value == pytest.approx(epoch[part][key], rel=1e-6), (part, key, number)
                figures += 1
    return figures


def test_tensorboard_has_the_figures_of_the_history(history):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard comes with the extra `plot`",
    )
    epochs = history({"use_tensorboard": True})
    scalars = {}
    for part in ("train", "valid"):
        events = reader.EventAccumulator(f"out/tensorboard/{part}")
        events.Reload()
        for tag in events.Tags()["scalars"]:
            scalars[part, tag] = {event.step: event.value for event in events.Scalars(tag)}
    ends = sorted(scalars["valid", "loss"])  # of the epochs, in updates
    assert equal(epochs, lambda part, key, epoch: scalars[part, key][ends[epoch - 1]]) > 20


def test_weights_and_biases_has_the_figures_of_the_history(history, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is installed by who wants it")
    monkeypatch.setattr("espnet2.tasks.abs_task.wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_SILENT", "true")
    epochs = history({"use_wandb": True, "wandb_project": "toy", "wandb_model_log_interval": -1})
    (file,) = Path().glob("**/offline-run-*/*.wandb")
    rows = {row["epoch"]: row for row in kept_by_wandb(file) if "epoch" in row}
    shown = lambda part, key, epoch: rows[epoch][f"{part}/{part}_{key}_epoch"]  # noqa: E731
    assert equal(epochs, shown) > 20


def kept_by_wandb(file):
    """Yield what was logged, call by call, from the file of an offline run."""
    from wandb.proto import wandb_internal_pb2

    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def records(data, block=32768):
    """Yield the records of a log in LevelDB's format, behind wandb's seven bytes."""
    place, parts = 7, []
    while place + 7 <= len(data):
        if block - place % block < 7:  # too little for another head
            place += block - place % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        parts.append(data[place + 7 : place + 7 + size])
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []
