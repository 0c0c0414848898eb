"""refit: an output layer that makes up for what the cut has taken."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_kd.espnet.measure import Sample
from espnet_kd.espnet.stock import build
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.lattice import node_stats
from espnet_kd.lattice.visits import occupancy
from espnet_kd.methods.refit import SELDOM
from tests.methods.toy_students import assert_derived_alike, derive, weights, write_place
from tests.recipe.toy import inside

HALF = {"student": {"joint_network": {"joint_space_size": 8}}, "objective": "none"}
BEFORE = ("joint_network.lin_enc", "joint_network.lin_dec")
REFIT = {**HALF, "method_conf": {"refit": True}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher half of whose joint units are the others' copies, of either sign."""
    with inside(tmp_path_factory.mktemp("refit")) as folder:
        write_place()
        state = weights("teacher/model.pth")
        torch.manual_seed(2)
        sign = torch.tensor([1.0, -1.0] * 4)
        for name in [name for name in state if name.startswith(BEFORE)]:
            first = 3 * torch.nn.functional.normalize(torch.randn(state[name][:8].shape), dim=-1)
            first = first if first.dim() == 2 else 0.1 * first
            state[name] = torch.cat([first, sign.view(-1, *[1] * (first.dim() - 1)) * first])
        out = torch.randn(state["joint_network.lin_out.weight"].shape)
        state["joint_network.lin_out.weight"] = out * torch.tensor([2.0] * 8 + [0.5] * 8)
        torch.save(state, "teacher/model.pth")
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def apart(folder, data):
    """How far logits are from the teacher's where its paths go, at most."""
    teacher = load_transducer("teacher/config.yaml", "teacher/model.pth").eval()
    student = build(yaml.safe_load((folder / "student.yaml").read_text())).eval()
    student.load_state_dict(weights(folder / "init.pth"))
    found = []
    for joints, lattice in Sample(teacher, Path("teacher/config.yaml"), data, 99).lattices(
        teacher, student
    ):
        logits = [
            (j.enc[:, :, None] + j.dec[:, None]).tanh() @ j.weight.T + j.bias for j in joints
        ]
        difference = (logits[0] - logits[1]).abs().amax(-1)  # (B, T, U + 1)
        visits = occupancy(node_stats(joints[0], *lattice)[..., :2], *lattice[1:])
        found.append(float(difference[visits > SELDOM].max()))
    return max(found)


def test_nothing_is_lost_where_the_kept_units_span_the_others(here, tmp_path):
    for name, stage in ("plain", HALF), ("fit", REFIT):
        code, err = derive(tmp_path / name, stage, "--data", "dump/train")
        assert code == 0, err
    plain, fit = (weights(tmp_path / name / "init.pth") for name in ("plain", "fit"))
    changed = [name for name in plain if not torch.equal(plain[name], fit[name])]
    assert sorted(changed) == ["joint_network.lin_out.bias", "joint_network.lin_out.weight"]
    facts = json.loads((tmp_path / "fit/student.json").read_text())
    assert facts["refit_error"]["after"] < 1e-5 < 0.1 < facts["refit_error"]["before"]
    losses = facts["before_training"]
    assert losses["loss"] == pytest.approx(losses["teacher_loss"], rel=1e-5)
    for data in Path("dump/train"), Path("dump/dev"):  # the latter was not shown
        with torch.no_grad():
            assert apart(tmp_path / "plain", data) > 0.1 and apart(tmp_path / "fit", data) < 1e-5


def test_members_are_parts_of_the_fitted_student(here, tmp_path):
    members = [{"student": {"joint_network": {"joint_space_size": 4}}}]
    stage = {**HALF, "method_conf": {"refit": True, "nested": {"members": members}}}
    code, err = derive(tmp_path / "nested", stage, "--data", "dump/train")
    assert code == 0, err
    facts = json.loads((tmp_path / "nested/student.json").read_text())
    assert facts["refit_error"]["after"] < 1e-5
    losses = facts["before_training"]
    assert losses["loss"] == pytest.approx(losses["teacher_loss"], rel=1e-5)


def test_neutral_it_is_not_there(here, tmp_path):
    stages = {"neutral": {**HALF, "method_conf": {"refit": False}}, "today": HALF}
    assert_derived_alike(tmp_path, stages)


@pytest.mark.parametrize(
    "stage, more, told",
    [
        (REFIT, [], "method_conf.refit: is measured on utterances: name a data directory with"),
        ({**REFIT, "init": "random"}, ["--data", "dump/train"], "needs inherited weights, not"),
        (
            {**REFIT, "method_conf": {"refit": True, "tied": True}},
            ["--data", "dump/train"],
            "method_conf.refit: does not go with 'tied'; leave one of them out",
        ),
        (
            {"method": "retrain", "method_conf": {"refit": True}},
            ["--data", "dump/train"],
            "method_conf.refit: method 'retrain' cuts nothing that could be made up for; leave",
        ),
    ],
)
def test_mistakes(here, tmp_path, stage, more, told):
    code, err = derive(tmp_path / "out", stage, *more)
    assert code == 1 and told in err and err.count("\n") == 1
