"""A student of a method, derived and trained in seconds: the common part of tests of methods."""

import shutil
from pathlib import Path

import torch
import yaml

from espnet_kd.espnet.model import DistilTransducer
from espnet_kd.espnet.stock import attach, build
from espnet_kd.spec.distillation import read_kd_conf
from tests.recipe.toy import (
    TRAINING,
    call,
    train_words,
    write_data,
    write_teacher,
    write_yaml,
)

WORDS = "--plan plan.yaml --stage 1 --teacher_exp teacher --teacher_model model.pth"
WORDS += " --train_config train.yaml"
MODEL = "valid.loss_transducer.ave.pth"
EPOCHS = 3


def write_place():
    """Data, a teacher and a training config."""
    write_data()
    write_teacher(Path("teacher"))
    write_yaml("train.yaml", {**TRAINING, "max_epoch": EPOCHS})


def derive(out, stage, *more):
    write_yaml("plan.yaml", {"stages": [{"name": "s", **stage}]})
    return call("derive_student", [*WORDS.split(), *more, "--out", str(out)])


def train(out, *more):
    words = train_words(
        out, "--init_param", "student/init.pth", *more, config="student/student.yaml"
    )
    return call("train", words)


def weights(path):
    return torch.load(path, weights_only=True)


def assert_derived_alike(folder, stages):
    """Every stage derives, file by file, what the last of them does."""
    for name, stage in stages.items():
        code, err = derive(folder / name, {**stage, "objective": "none"})
        assert code == 0, err
    want = weights(folder / name / "init.pth")
    config = (folder / name / "student.yaml").read_text()
    for name in stages:
        state = weights(folder / name / "init.pth")
        assert list(state) == list(want)
        assert all(torch.equal(state[key], want[key]) for key in want), name
        assert (folder / name / "student.yaml").read_text() == config


def write_trained(stage):
    """Write data and a teacher, derive a student and train it in `run`."""
    write_place()
    code, err = derive("student", stage)
    assert code == 0, err
    Path("run").mkdir()
    shutil.copy("student/student.json", "run")  # where the recipe has it
    code, err = train("run")
    assert code == 0, err


def as_trained(folder, checkpoint):
    """The form that is trained, in evaluation mode, with weights of a checkpoint; its config."""
    config = yaml.safe_load((folder / "student.yaml").read_text())
    model = build(config)
    attached = attach(model, config["method_conf"])
    model.load_state_dict(weights(checkpoint))
    student = DistilTransducer.wrap(model, read_kd_conf({"objective": "none"}).complete())
    student.terms += attached.terms
    student.own_share = attached.own_share
    return student.eval(), config
