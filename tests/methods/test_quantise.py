"""quantise: what is trained is what is rounded, what is decoded, and what a device holds."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_kd.common.device_weights import Rounded, read_device
from espnet_kd.espnet.stock import build, forward_check, logits_of, read_model
from espnet_kd.methods import method_named
from espnet_kd.methods.protocol import device_file
from espnet_kd.methods.quantise import USUAL
from espnet_kd.students import learned_bits
from tests.methods import toy_students
from tests.methods.toy_students import EPOCHS, MODEL, WORDS, train, weights, write_place
from tests.recipe.toy import call, inside, write_yaml


def derive(out, stage, *more):
    return toy_students.derive(out, {"method": "quantise", **stage}, *more)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data and a teacher."""
    with inside(tmp_path_factory.mktemp("quantise")) as folder:
        write_place()
    return folder


@pytest.fixture(scope="module")
def student(place):
    """A derived student of mixed bits, and its training."""
    with inside(place):
        stage = {"method_conf": {"mean_bits": 4.5}, "objective": "full", "weight": 0.5}
        code, err = derive("student", stage, "--data", "dump/train")
        assert code == 0, err
        code, err = train("run")
        assert code == 0, err


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def student_conf(out="student"):
    return yaml.safe_load(Path(out, "student.yaml").read_text())["method_conf"]


def test_bits_are_shared_out_to_the_mean(here, student):
    facts = json.loads(Path("student/student.json").read_text())
    state = weights("student/init.pth")
    bits = facts["bits"]
    counts = {name: state[name].numel() for name in bits}
    total = sum(bits[name] * counts[name] for name in bits)
    assert facts["mean_bits"] == pytest.approx(total / sum(counts.values()))
    # The largest matrix cannot be given a bit more.
    assert 4.5 - max(counts.values()) / sum(counts.values()) < facts["mean_bits"] <= 4.5
    assert len(set(bits.values())) > 1
    assert not [name for name in bits if "depthwise" in name or name.endswith("bias")]


def test_bits_are_learned_or_all_the_same(here, tmp_path, monkeypatch):
    monkeypatch.setattr(learned_bits.learn_bits, "__defaults__", (3,))  # updates
    bits = {}
    for way in ("learned", "uniform"):
        stage = {"method_conf": {"mean_bits": 4, "allocate": way}, "objective": "none"}
        code, err = derive(tmp_path / way, stage, "--data", "dump/train")
        assert code == 0, err
        facts = json.loads((tmp_path / way / "student.json").read_text())
        bits[way] = facts["bits"]
        assert 3.5 < facts["mean_bits"] <= 4
    assert set(bits["uniform"].values()) == {4} and len(set(bits["learned"].values())) > 1
    assert bits["learned"].keys() == bits["uniform"].keys()
    # The teacher is left as it is.
    before, after = weights("teacher/model.pth"), weights(tmp_path / "learned/init.pth")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_trained_are_the_weights_before_rounding(here, student):
    before, after = weights("student/init.pth"), weights(f"run/{EPOCHS}epoch.pth")
    teacher = weights("teacher/model.pth")
    assert list(sorted(before)) == sorted(teacher) == sorted(after)  # nothing for training alone
    assert all(torch.equal(before[key], teacher[key]) for key in teacher)
    for name in student_conf()["bits"]:
        assert not torch.equal(before[name], after[name])
    history = json.loads(Path("run/history.json").read_text())
    assert history[-1]["train"]["loss"] < history[0]["train"]["loss"]


def test_the_average_is_rounded_once_and_a_device_has_the_same_values(here, student):
    link = Path("run", MODEL)
    assert os.readlink(link).endswith("ave_2best.pth")
    average, device = weights(link), read_device(device_file(link))
    read_model(Path("run"), MODEL)  # refuses another name, or a missing one
    history = json.loads(Path("run/history.json").read_text())
    ranked = sorted(history, key=lambda h: h["valid"]["loss_transducer"])[:2]
    states = [weights(f"run/{h['epoch']}epoch.pth") for h in ranked]
    mean = {
        name: (states[0][name] + states[1][name]) / 2 for name in average if "num_" not in name
    }
    conf = student_conf()
    exported = method_named("quantise").export(mean, conf)
    for name, bits in conf["bits"].items():
        codes = device[name]
        assert isinstance(codes, Rounded) and codes.bits == bits
        assert np.array_equal(codes.values(), average[name].numpy())
        assert torch.equal(average[name], exported.state[name])
        assert not torch.equal(average[name], mean[name])
        assert len(np.unique(codes.codes)) <= 2**bits - 1
    for name in set(device) - set(conf["bits"]):
        assert np.array_equal(device[name], average[name].numpy().astype(np.float32))
    left = set(average) - set(device)
    assert all(
        name.startswith(("frontend.", "ctc_lin.", "lm_lin.")) or "num_" in name for name in left
    )
    again = method_named("quantise").export(average, conf)  # rounding twice is rounding once
    assert all(torch.equal(again.state[name], average[name]) for name in average)


def test_both_forms_compute_the_same(here, student):
    config = yaml.safe_load(Path("student/student.yaml").read_text())
    model = forward_check(config, weights(f"run/{EPOCHS}epoch.pth"), config["method_conf"])
    stock = build(config)
    exported = method_named("quantise").export(model.state_dict(), config["method_conf"])
    stock.load_state_dict(exported.state)
    assert torch.equal(logits_of(model, None), logits_of(stock, None))
    float_form = build(config)
    float_form.load_state_dict(model.state_dict())
    assert not torch.equal(logits_of(float_form, None), logits_of(stock, None))
    loss = logits_sum(model.train())
    loss.backward()
    rnn = model.decoder.rnn[0].parametrizations.weight_hh_l0.original
    assert rnn.grad is not None and rnn.grad.abs().sum() > 0


def logits_sum(model):
    labels = torch.tensor([[0, 3, 4]])  # (B, U + 1)
    return model.decoder(labels).square().sum()


def test_32_bits_are_the_teacher_trained_on(here, tmp_path):
    stages = {
        "neutral": {"method": "quantise", "method_conf": {"bits": 32}},
        "retrain": {"method": "retrain"},
    }
    toy_students.assert_derived_alike(tmp_path, stages)


def test_it_goes_on_after_a_kill_and_in_the_middle_of_an_export(
    here, student, tmp_path, monkeypatch
):
    from espnet_kd.espnet import exports

    out = tmp_path / "run"
    code, err = train(str(out), "--max_epoch", "1")
    assert code == 0, err
    # An average of one epoch, ESPnet's link to it, is exported beside what was trained.
    epoch, average = weights(out / "1epoch.pth"), weights(out / MODEL)
    assert not any(torch.equal(epoch[name], average[name]) for name in student_conf()["bits"])
    (out / "valid.loss_transducer.ave_1best.pth").unlink()
    with monkeypatch.context() as patch:

        def die(*_):
            raise KeyboardInterrupt

        patch.setattr(exports, "check_forms", die)
        code, err = train(str(out))
    assert code == 130, err
    code, err = train(str(out))
    assert code == 0, err
    names = sorted(p.name for p in Path("run").glob("*.pth") if "checkpoint" not in p.name)
    assert names == sorted(p.name for p in out.glob("*.pth") if "checkpoint" not in p.name)
    for name in names:
        want, state = weights(f"run/{name}"), weights(out / name)
        assert want.keys() == state.keys()
        assert all(torch.equal(want[key], state[key]) for key in want), name
    files = [device_file(Path(folder, MODEL)).read_bytes() for folder in ("run", out)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    "stage, message",
    [
        ({}, "method_conf.bits: expected a number of bits (or 'mean_bits' too), found none"),
        ({"method_conf": {"bits": 1}}, "method_conf.bits: expected 2 to 8, 32 (float), or a list"),
        ({"method_conf": {"bits": 4.5}}, "method_conf.bits: expected 2 to 8"),
        ({"method_conf": {"bits": 4.0}}, "method_conf.bits: expected 2 to 8"),
        ({"method_conf": {"bits": 4, "block": 32.0}}, "block: expected a whole number"),
        ({"method_conf": {"bits": [4, 8]}}, "found 2 to choose from"),
        ({"method_conf": {"mean_bits": 1.5}}, "mean_bits: expected a number from 2 to 8"),
        ({"method_conf": {"mean_bits": 3, "bits": [4, 8]}}, "3 is no mean of [4, 8] ('bits')"),
        ({"method_conf": {"mean_bits": 4, "bits": 4}}, "nothing to choose from with 'bits: 4'"),
        ({"method_conf": {"mean_bits": 9, "bits": [8, 32]}}, "expected a number from 2 to 8"),
        ({"method_conf": {"bits": 4, "block": 20}}, "block"),
        ({"method_conf": {"bits": 4, "allocate": "learned"}}, "shares out 'mean_bits', which is"),
        ({"method_conf": {"mean_bits": 3.5, "allocate": "uniform"}}, "expected one of [2, 3, 4"),
        ({"method_conf": {"bits": 4, "where": ["predictr"]}}, "did you mean 'predictor'?"),
        ({"method_conf": {"bit": 4}}, "unknown key 'bit' (did you mean 'bits'?)"),
        ({"method_conf": {"bits": 4}, "target": 0.5}, "has its teacher's sizes; leave it out"),
        ({"method_conf": {"bits": 4}, "init": "random"}, "begins with its teacher's weights"),
        ({"method_conf": {"mean_bits": 4}}, "name a data directory with --data"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(here, tmp_path, stage, message):
    code, err = derive(tmp_path / "out", stage)
    line = err.splitlines()[-1]
    assert code == 1 and message in line and "Traceback" not in err, line
    assert not (tmp_path / "out").exists()


def test_nothing_but_fewer_bits_may_follow(here, tmp_path):
    first = {"name": "a", "method": "quantise", "method_conf": {"bits": 8}}
    for second, fine in (
        ({"method": "quantise", "method_conf": {"bits": 4}}, True),
        ({"method": "retrain"}, False),
        ({"target": 0.5}, False),
    ):
        write_yaml("plan.yaml", {"stages": [first, second]})
        code, err = call("derive_student", [*WORDS.split(), "--out", str(tmp_path / "out")])
        assert (code == 0) == fine
        assert fine or "cannot follow 'a', a student of 'quantise'" in err.splitlines()[-1]
    write_yaml("plan.yaml", {"stages": [first, {**first, "name": "b"}]})
    code, err = call("derive_student", [*WORDS.split(), "--out", str(tmp_path / "out")])
    assert code == 1 and "8 bits are not fewer than the 8 of 'a'" in err.splitlines()[-1]


def test_all_places_are_those_of_espnet(here):
    net = read_model(Path("teacher"), "model.pth").net
    from espnet_kd.methods.quantise import PLACES, _matrices

    for word in PLACES:
        assert _matrices(net, [word]), word
    rounded = set(_matrices(net, USUAL))
    left = {n for n, p in net.named_parameters() if p.dim() > 1 and n not in rounded}
    assert all("depthwise" in n or "pos_bias" in n or n.startswith("ctc_lin") for n in left)
