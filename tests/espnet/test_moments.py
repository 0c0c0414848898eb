"""One schedule over a chain of students: rates, and moments that are cut as the weights are."""

from pathlib import Path

import pytest
import torch
import yaml

from espnet_kd.errors import UserError
from espnet_kd.espnet.annealing import WarmupAnneal, tell_length
from espnet_kd.espnet.moments import read_moments
from espnet_kd.espnet.stock import build, read_model
from espnet_kd.spec.plan import parse_plan
from espnet_kd.students.inherit import cut_alike, inherit
from tests.recipe.toy import (
    TRAINING,
    call,
    inside,
    train_words,
    write_data,
    write_teacher,
    write_yaml,
)

SCHEDULE = {"scheduler": "warmupanneal", "scheduler_conf": {"warmup_steps": 2}}


def rates(epochs, updates, before=0, after=0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = WarmupAnneal(optimizer, 4, epochs_before=before, epochs_after=after)
    made = []
    for _ in range(epochs):
        tell_length([scheduler], epochs * updates, epochs)
        for _ in range(updates):
            made.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return made


def test_the_rates_of_a_chain_are_those_of_one_training():
    chain = rates(1, 5, 0, 5) + rates(3, 5, 1, 2) + rates(2, 5, 4, 0)
    assert chain == pytest.approx(rates(6, 5), rel=1e-12)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, and a teacher that has been trained for two updates, one an epoch."""
    with inside(tmp_path_factory.mktemp("moments")) as folder:
        write_data()
        write_teacher(Path("fresh"))
        config = yaml.safe_load(Path("fresh/config.yaml").read_text())
        for block in config["encoder_conf"]["body_conf"]:
            block.update(dropout_rate=0.0, pos_wise_dropout_rate=0.0, att_dropout_rate=0.0)
        config["encoder_conf"]["main_conf"]["dynamic_chunk_training"] = False
        base = {**TRAINING, **SCHEDULE, "batch_size": 12, "keep_nbest_models": 1}
        write_yaml("train.yaml", base)
        write_yaml("fresh.yaml", {**config, **base, "max_epoch": 2})
        train("fresh.yaml", "teacher", "--init_param", "fresh/model.pth")
    return folder


def train(config, out, *more):
    code, err = call("train", train_words(out, *more, config=config))
    assert code == 0, err


def derive(number, stages, teacher, out, *which):
    write_yaml("plan.yaml", {"stages": stages})
    words = ["--plan", "plan.yaml", *(which or ("--student", stages[number - 1]["name"]))]
    words += ["--teacher_exp", teacher]
    words += ["--teacher_model", "latest.pth", "--train_config", "train.yaml", "--out", out]
    words += ["--first_teacher_exp", "teacher", "--first_teacher_model", "latest.pth"]
    return call("derive_student", words)


def test_moments_of_a_slice_are_slices_of_the_moments(place, monkeypatch):
    """What is cut off has no say; so gradients of what is left are the teacher's."""
    monkeypatch.chdir(place)
    teacher = read_model(Path("teacher"), "latest.pth")
    net, sizes = teacher.net.double(), teacher.sizes
    with torch.no_grad():
        for block in net.encoder.encoders.blocks:
            for part in (block.feed_forward, block.feed_forward_macaron):
                part.w_2.weight[:, 8:] = 0.0  # and so no gradient reaches w_1's
                part.w_1.weight[8:] = 0.0
    student = sizes.resized(linear_size=8)
    kept = list(range(sizes.num_blocks))
    weights = net.state_dict()
    from espnet_kd.students.model_config import config_of

    small = build({**teacher.config, **config_of(student, teacher.config, kept)}).double()
    small.load_state_dict(inherit(weights, sizes, student, kept))
    feats, lengths = torch.randn(2, 60, 20, dtype=torch.double), torch.tensor([60, 50])
    text = torch.randint(1, 4, (2, 3))
    moments = []
    for model in (net, small):
        model.eval().requires_grad_(True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
        enc, _ = model.encoder(feats, lengths)
        state = model.decoder.init_state(2)
        states = tuple(None if s is None else s.double() for s in state)
        dec, _ = model.decoder.rnn_forward(model.decoder.embed(text), states)
        joint = model.joint_network(enc.unsqueeze(2), dec.unsqueeze(1))
        joint.logsumexp(-1).sin().sum().backward()
        optimizer.step()
        slots = optimizer.state
        moments.append({n: slots[p]["exp_avg"] for n, p in model.named_parameters() if p in slots})
    cut = cut_alike(moments[0], weights, sizes, student, kept)
    assert set(cut) == set(moments[1])
    for name, tensor in moments[1].items():
        torch.testing.assert_close(cut[name], tensor, rtol=1e-12, atol=1e-12)


def test_a_chain_of_the_same_sizes_is_one_long_training(place, monkeypatch):
    monkeypatch.chdir(place)
    same = {"student": {}, "objective": "none", "epochs": 2}
    chain = [{"name": f"s{k}", **same, "anneal": "through"} for k in (1, 2)]
    assert derive(1, chain, "teacher", "exp/s1") == (0, "")
    train("exp/s1/student.yaml", "exp/s1", "--init_param", "exp/s1/init.pth")
    assert derive(2, chain, "exp/s1", "exp/s2")[0] == 0
    config = yaml.safe_load(Path("exp/s2/student.yaml").read_text())
    assert config["scheduler_conf"] == {"warmup_steps": 2, "epochs_before": 2, "epochs_after": 0}
    by_number = derive(2, chain, "exp/s1", "exp/s2_again", "--stage", "2")
    again = yaml.safe_load(Path("exp/s2_again/student.yaml").read_text())
    assert by_number[0] == 0 and again["scheduler_conf"] == config["scheduler_conf"]
    train("exp/s2/student.yaml", "exp/s2", "--init_param", "exp/s2/init.pth")

    assert derive(1, [{**chain[0], "epochs": 4}], "teacher", "exp/long")[0] == 0
    train("exp/long/student.yaml", "exp/long", "--init_param", "exp/long/init.pth")
    ours, theirs = (torch.load(f"exp/{m}/latest.pth", weights_only=True) for m in ("s2", "long"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=name)

    # And not without: the optimizer of the second begins anew.
    code, _ = derive(2, [{**stage, "anneal": "anew"} for stage in chain], "exp/s1", "exp/anew")
    assert code == 0 and not Path("exp/anew/moments.pth").exists()


def test_moments_that_are_missing_are_told(place, monkeypatch, caplog):
    monkeypatch.chdir(place)
    stages = [{"name": "t1", "target": 0.8, "epochs": 1, "anneal": "through"}]
    stages += [{"name": "t2", "target": 0.6, "epochs": 1, "anneal": "through"}]
    # An imported teacher has none: the first student begins anew, and it is said.
    fresh = Path("bare")
    fresh.mkdir()
    (fresh / "config.yaml").write_bytes(Path("teacher/config.yaml").read_bytes())
    (fresh / "latest.pth").write_bytes(Path("fresh/model.pth").read_bytes())
    with caplog.at_level("INFO"):
        assert derive(1, stages, "bare", "exp/t1")[0] == 0
    assert "bare/checkpoint.pth is not there: the optimizer begins anew" in caplog.text
    assert not Path("exp/t1/moments.pth").exists()
    code, err = derive(2, stages, "bare", "exp/t2")
    assert code == 1 and "bare/checkpoint.pth is not there, which 't2' goes on from" in err
    # What is narrowed by factoring begins anew alone.
    assert derive(1, stages, "teacher", "exp/t1")[0] == 0
    moments = torch.load("exp/t1/moments.pth", weights_only=True)
    weights = torch.load("exp/t1/init.pth", weights_only=True)
    assert moments["exp_avg"] and all(
        weights[name].shape == tensor.shape for name, tensor in moments["exp_avg"].items()
    )
    assert read_moments(Path("nowhere"), torch.nn.Linear(1, 1)) is None


@pytest.mark.parametrize(
    "stage, words",
    [
        ("{target: 0.5, init: random, anneal: through}", "init 'random' inherits nothing"),
        ("{target: 0.5, gate: {margin: 1}, anneal: through}", "a gate may train it longer"),
        (
            "{student: {decoder: {type: stateless}}, anneal: through}",
            "a predictor of another kind is no part of the teacher's",
        ),
        ("{method: quantise, method_conf: {bits: 4}, anneal: through}", "'quantise' does not cut"),
    ],
)
def test_plans_that_cannot_go_through_are_refused(stage, words):
    with pytest.raises(UserError, match=words):
        parse_plan(f"stages: [{stage}]", "plan")


def test_another_optimizer_or_scheduler_is_refused(place, monkeypatch):
    monkeypatch.chdir(place)
    stage = {"name": "r", "target": 0.5, "epochs": 1, "anneal": "through"}
    for train_conf, words in (
        ({"optim": "sgd"}, "needs optim: adam or adamw; it is sgd"),
        ({"scheduler": "warmuplr"}, "needs scheduler: warmupanneal; it is warmuplr"),
        ({"exclude_weight_decay": True}, "needs an optimizer without groups"),
        ({"patience": 2}, "needs a length that is known before; leave patience out in"),
    ):
        code, err = derive(1, [{**stage, "train": train_conf}], "teacher", "exp/refused")
        assert code == 1 and words in err


def test_moments_belong_to_parameters_by_name(tmp_path):
    """Whatever training has added beside, and not where groups have mixed the numbers."""
    model, path = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), tmp_path / "c"
    trained = torch.nn.Module()
    trained.kd_projection = torch.nn.Linear(2, 2, bias=False)  # comes first
    for name, child in model.named_children():
        trained.add_module(name, child)

    def save(*groups):
        optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=0.1)
        sum((p * (k + 1)).sum() for k, p in enumerate(trained.parameters())).backward()
        optimizer.step()
        state = {"model": trained.state_dict(), "optimizers": [optimizer.state_dict()]}
        torch.save(state, path)
        return {n: optimizer.state[p]["exp_avg"] for n, p in model.named_parameters()}

    expected = save(list(trained.parameters()))
    moments = read_moments(path, model)
    assert moments["exp_avg"].keys() == expected.keys()
    assert all(torch.equal(moments["exp_avg"][n], expected[n]) for n in expected)
    saved = torch.load(path)
    saved["model"]["0.weight"] = saved["model"].pop("0.weight")  # as a form with gates saves it
    torch.save(saved, path)
    assert read_moments(path, model) is None
    parameters = list(trained.parameters())
    save(parameters[::2], parameters[1::2])
    assert read_moments(path, model) is None
