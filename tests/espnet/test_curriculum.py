"""A teacher that teaches as it was after earlier epochs."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from espnet_kd.common.records import FACTS
from espnet_kd.errors import UserError
from espnet_kd.espnet.curriculum import TeacherEpochs
from espnet_kd.espnet.teacher import FrozenTeacher, load_transducer
from espnet_kd.methods.callbacks import Run
from espnet_kd.spec.distillation import Distillation, read_kd_conf
from tests.espnet.tiny import write_experiment

SHARES = [0.2, 0.4, 0.7]


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    """A teacher of ten epochs, of which it has kept those that are asked for."""
    exp = tmp_path_factory.mktemp("curriculum") / "asr_teacher"
    state = torch.load(write_experiment(exp) / "model.pth")
    for epoch in (2, 4, 7):
        scaled = {k: t * (1 + epoch) for k, t in state.items()}
        torch.save(scaled, exp / f"{epoch}epoch.pth")
    FACTS.write(exp, {"epochs": 10})
    return exp


def run_of(exp, shares=SHARES, max_epoch=8):
    config, model = (str(exp / name) for name in ("config.yaml", "model.pth"))
    options = Distillation(
        objective="full", teacher_config=config, teacher_model=model, curriculum=shares
    )
    teacher = FrozenTeacher(load_transducer(config, model))
    watch = SimpleNamespace(teacher="counted")
    student = SimpleNamespace(options=options, teacher=teacher, dev_wer=watch)
    return Run(student, SimpleNamespace(max_epoch=max_epoch), [TeacherEpochs()], main=True)


def test_each_part_of_the_training_has_its_teacher(exp):
    run = run_of(exp)
    run.tell("on_start")
    name, tensor = next(iter(run.model.teacher.model.state_dict(keep_vars=True).items()))
    first = tensor.detach().clone()
    seen, random = [], torch.get_rng_state()
    for epoch in (1, 2, 3, 4, 5, 6, 7, 8, 3):  # an interrupted training begins anywhere
        run.tell("on_begin", epoch)
        assert run.model.dev_wer.teacher is None  # to be counted anew
        now = run.model.teacher.model.state_dict()[name]
        seen.append(round(float((now / first).nanmean())))
    assert seen == [3, 3, 5, 5, 8, 8, 1, 1, 5]
    assert torch.equal(torch.get_rng_state(), random)  # all else of a training stays
    assert not tensor.requires_grad and not run.model.teacher.model.training


def test_epochs_of_a_student_teach_as_they_decode(exp, tmp_path):
    shutil.copytree(exp, tmp_path / "kd_bits")
    name = "joint_network.lin_out.weight"
    with open(tmp_path / "kd_bits/config.yaml", "a") as f:
        f.write(f"\nmethod_conf: {{method: quantise, bits: {{{name}: 2}}, block: 0}}\n")
    run = run_of(tmp_path / "kd_bits")
    for epoch, rounded in ((1, True), (8, False)):  # at last the plan's, which is exported already
        run.tell("on_begin", epoch)
        weight = run.model.teacher.model.state_dict()[name]
        assert all(len(row.unique()) <= 3 for row in weight) == rounded  # codes -1, 0 and 1


def test_without_the_option_nothing_happens(exp):
    run = run_of(exp, shares=None)
    weights = [t.clone() for t in run.model.teacher.model.parameters()]
    run.tell("on_start")
    run.tell("on_begin", 1)
    assert all(map(torch.equal, weights, run.model.teacher.model.parameters()))


@pytest.mark.parametrize(
    "shares, max_epoch, told",
    [
        ([0.1, 0.4], 8, "1epoch.pth: no such file, which kd_conf.curriculum .* keep_nbest_models"),
        (SHARES, 3, "4 teachers in turn, but the training has 3 epochs"),
    ],
)
def test_what_is_missing_is_told_first(exp, shares, max_epoch, told):
    with pytest.raises(UserError, match=told):
        run_of(exp, shares, max_epoch).tell("on_start")


def test_an_imported_teacher_has_no_epochs(tmp_path):
    run = run_of(write_experiment(tmp_path / "asr_theirs"))
    with pytest.raises(UserError, match="facts.json names no epochs of the teacher"):
        run.tell("on_start")


@pytest.mark.parametrize("value", [[], [0.5, 0.2], [0.5, 1], [0.3, 0.3], 0.5, ["a"]])
def test_shares_rise(value):
    with pytest.raises(UserError, match="curriculum: expected rising shares between 0 and 1"):
        read_kd_conf({"objective": "full", "curriculum": value})
    assert read_kd_conf({"curriculum": [0.5]}).curriculum == [0.5]
