"""gates: the target is met, what is decoded is what was trained, the next stage cuts just that."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.train.trainer import Trainer

from espnet_kd.errors import UserError
from espnet_kd.espnet.moments import read_moments
from espnet_kd.espnet.stock import build, logits_of, read_model, sizes_of
from espnet_kd.methods import method_named
from espnet_kd.methods.gates import SAVED, Schedule
from espnet_kd.spec.plan import parse_plan
from espnet_kd.students.hard_concrete import Gates, closed, in_order, live_sizes, unit_scores
from tests.espnet.tiny import tiny_config
from tests.methods.toy_students import EPOCHS, MODEL, derive, train, weights, write_place
from tests.recipe.toy import call, inside, write_yaml

SIZES = {"encoder": {"num_blocks": 2}}
TARGET = 0.4
NEXT = {"target": TARGET, "allocate": "learned", "objective": "none"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a teacher, and a student with gates, trained."""
    with inside(tmp_path_factory.mktemp("gates")) as folder:
        write_place()
        code, err = derive("student", {"student": SIZES, "method_conf": {"gates": TARGET}})
        assert code == 0, err
        code, err = train("run")
        assert code == 0, err
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def derive_next(out, stage, exp="run"):
    write_yaml("next.yaml", {"stages": [{"name": "s", **stage}]})
    words = ["--plan", "next.yaml", "--stage", "1", "--teacher_exp", exp]
    words += ["--teacher_model", MODEL, "--first_teacher_exp", "teacher"]
    words += ["--first_teacher_model", "model.pth", "--train_config", "train.yaml"]
    return call("derive_student", [*words, "--out", str(out)])


@pytest.mark.parametrize("decoder", ["rnn", "stateless", "averaged"])
def test_units_are_sorted_without_a_change(decoder):
    conf = {"embed_size": 16} if decoder != "rnn" else tiny_config()["decoder_conf"]
    config = tiny_config(decoder=decoder, decoder_conf=conf)
    torch.manual_seed(2)
    net = build(config)
    sizes, before = sizes_of(net, config), logits_of(net, None)
    state = in_order(net.state_dict(), sizes)
    net.load_state_dict(state)
    torch.testing.assert_close(logits_of(net, None), before, rtol=1e-5, atol=1e-5)
    scores = unit_scores(state, sizes)
    assert ("rnn0" in scores) == (decoder == "rnn") and {"ff0", "mac3", "c1", "c2"} < set(scores)
    assert all((score.diff() <= 0).all() for score in scores.values())


def test_the_budget_is_met_exactly_and_gates_compete():
    config = tiny_config()
    sizes = sizes_of(build(config), config)
    gates = Gates(sizes, sizes.params // 2).train()
    torch.manual_seed(0)
    gates.theta.data.normal_(std=0.02)
    gates.budget = 0.7 * sizes.params
    gates.draw()
    nu, share = gates._shift(50 * gates.theta.detach())
    left = torch.sigmoid(
        50 * gates.theta.detach().double() + nu - 2 / 3 * torch.tensor(0.1 / 1.1).log()
    )
    assert gates._params(left) == pytest.approx(gates.budget, rel=1e-5)
    assert float(share.sum()) == pytest.approx(1, abs=1e-5)
    gates._values().sum().backward()
    assert abs(float(gates.theta.grad.sum())) < 1e-3 * float(gates.theta.grad.abs().sum())
    for target in (0.6, 0.75, 0.9):
        gates.target = int(target * sizes.params)
        assert 0.99 * gates.target < gates.sizes().params <= gates.target


def test_the_schedule_ends_with_gates_that_are_open_or_closed():
    config = tiny_config()
    sizes = sizes_of(build(config), config)
    gates = Gates(sizes, sizes.params // 2).train()
    gates.draw()
    run = type("Run", (), {"updates": 100})
    budgets = []
    for update in range(100):
        Schedule(gates).on_update(run, update)
        budgets.append(gates.budget)
    assert sizes.params > budgets[0] > budgets[20] > budgets[30] == budgets[-1] == gates.target
    assert gates.hard and set(gates._values().tolist()) == {0.0, 1.0}


def test_what_is_decoded_is_what_was_trained(here):
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    conf, state = config["method_conf"], weights(f"run/{EPOCHS}epoch.pth")
    assert not torch.equal(state[SAVED], torch.zeros_like(state[SAVED]))
    trained = build(config)
    method_named("cut").attach(trained, conf)
    trained.load_state_dict(state)
    stock = build(config)
    stock.load_state_dict(method_named("cut").export(state, conf).state)
    torch.testing.assert_close(
        logits_of(trained.eval(), None), logits_of(stock, None), rtol=1e-5, atol=1e-5
    )
    average = weights(Path("run", MODEL))
    assert not [name for name in average if name.startswith("kd_")]
    facts = json.loads(Path("student/student.json").read_text())
    sizes = live_sizes(average, sizes_of(stock, config))
    wanted = TARGET * facts["first_teacher_params"]
    assert 0.995 * wanted <= sizes.params <= wanted


def test_a_gated_student_can_be_moved_to_another_device(here):
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    model = build(config)
    method_named("cut").attach(model, config["method_conf"])
    assert {x.device.type for x in model.to("meta").parameters()} == {"meta"}


def test_the_next_stage_cuts_what_is_closed_and_no_more(here, tmp_path):
    code, err = derive_next(tmp_path / "cut", NEXT)
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "cut/student.yaml").read_text())
    student, teacher = build(config), read_model(Path("run"), MODEL)
    student.load_state_dict(weights(tmp_path / "cut/init.pth"))
    torch.testing.assert_close(
        logits_of(student, None), logits_of(teacher.net.eval(), None), rtol=1e-5, atol=1e-5
    )
    facts = json.loads((tmp_path / "cut/student.json").read_text())
    assert facts["params"] < facts["teacher_params"]
    assert facts["params"] <= TARGET * facts["first_teacher_params"]


def test_moments_of_gated_parameters_are_nobodys(here):
    """The optimizer has them in another order than the checkpoint: shapes alone would fit."""
    assert read_moments(Path("run/checkpoint.pth"), read_model(Path("run"), MODEL).net) is None


def test_a_learned_size_needs_closed_gates_of_that_size(here, tmp_path):
    code, err = derive_next(tmp_path / "s", {**NEXT, "target": 0.3})
    assert code == 1 and "say the same in its 'gates' and in 'target'" in err
    write_yaml("next.yaml", {"stages": [{"name": "s", **NEXT}]})
    code, err = derive(tmp_path / "s", NEXT)
    assert code == 1 and "no unit of this one is closed" in err


def test_a_target_that_no_gates_can_reach_is_told(here, tmp_path):
    for target, words in ((0.01, "that stay whatever closes"), (0.99, "are not fewer than")):
        stage = {"student": SIZES, "method_conf": {"gates": target}}
        code, err = derive(tmp_path / "s", stage)
        assert code == 1 and words in err and "Traceback" not in err


def test_a_kill_does_not_matter(here, tmp_path):
    out = tmp_path / "run"
    for more in (["--max_epoch", "2"], []):
        code, err = train(str(out), *more)
        assert code == 0, err
    names = [name for name in weights(out / f"{EPOCHS}epoch.pth")]
    assert SAVED in names and (out / MODEL).exists()


@pytest.mark.parametrize(
    "stage, message",
    [
        ("{student: {}, method_conf: {gates: 1 MB}}", "a share or a number of parameters"),
        ("{student: {}, init: random, method_conf: {gates: 0.1}}", "needs inherited weights"),
        ("{student: {}, method_conf: {gates: 0.1, tied: true}}", "does not go with 'tied'"),
        ("{student: {}, allocate: learned}", "it makes sizes of a 'target'"),
        ("{target: 0.5}, {target: 0.4, allocate: learned}", "have left, and 'stage1' has none"),
        (
            "{student: {}, objective: none, method_conf: {gates: 0.4}}, "
            "{target: 0.3, allocate: learned}",
            "target: 0.3 is below the 0.4 that the gates of 'stage1' leave",
        ),
        ("{target: 1 MB, allocate: learned}", "target: gates know parameters, not bytes"),
    ],
)
def test_mistakes_are_told_in_one_line(stage, message):
    with pytest.raises(UserError) as error:
        parse_plan(f"stages: [{stage}]", "plan")
    assert message in str(error.value)


def test_several_processes_are_told_that_gates_rest(here, tmp_path, monkeypatch):
    """From then on gates have no gradient, for which DistributedDataParallel would wait."""

    def run(cls, **kwargs):
        model = kwargs["model"].train()
        model.kd_gates.hard = True
        loss = model(torch.randn(1, 9000) * 0.1, torch.tensor([9000]), torch.tensor([[3, 4]]),
                     torch.tensor([2]))[0]  # fmt: skip
        loss.backward()
        assert model.kd_gates.theta.grad is None
        raise UserError(f"unused_parameters {kwargs['trainer_options'].unused_parameters}")

    monkeypatch.setattr(Trainer, "run", classmethod(run))
    code, err = train(str(tmp_path / "run"))
    assert code == 1 and "unused_parameters True" in err


def test_closed_units_are_zero_on_every_side():
    config = tiny_config()
    net = build(config)
    sizes = sizes_of(net, config)
    gates = Gates(sizes, sizes.params // 2)
    state, masks = net.state_dict(), gates.masks()
    shut = closed(state, masks, sizes)
    rnn = ~masks["rnn0"]
    assert rnn.any() and not shut["decoder.rnn.0.weight_hh_l0"][:, rnn].any()
    assert not shut["decoder.rnn.0.weight_ih_l0"][rnn.repeat(4)].any()
    assert torch.equal(shut["decoder.embed.weight"], state["decoder.embed.weight"])
