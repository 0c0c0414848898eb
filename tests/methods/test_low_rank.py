"""low_rank: what is trained is what is decoded, and what lies beside is what was trained."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_kd.common.device_weights import device_sizes, read_device
from espnet_kd.espnet.stock import build, forward_check, logits_of, read_model
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.methods import method_named
from espnet_kd.methods.low_rank import PREFIX
from espnet_kd.methods.matrices import MATRICES, chosen
from espnet_kd.methods.protocol import device_file
from espnet_kd.students.factors import Factored, product
from tests.methods.toy_students import (
    EPOCHS,
    MODEL,
    assert_derived_alike,
    derive,
    train,
    weights,
    write_place,
)
from tests.recipe.toy import call, inside, train_words

TARGET = 0.6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a teacher, a derived student, and its training that nobody interrupts."""
    with inside(tmp_path_factory.mktemp("low_rank")) as folder:
        write_place()
        stage = {"method": "low_rank", "target": TARGET, "objective": "full", "weight": 0.5}
        code, err = derive("student", stage)
        assert code == 0, err
        code, err = train("run")
        assert code == 0, err
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def student_facts(out="student"):
    return json.loads(Path(out, "student.json").read_text())


def test_the_target_is_met(here):
    facts = student_facts()
    wanted = TARGET * facts["first_teacher_params"]
    assert 0.995 * wanted <= facts["effective_params"] <= wanted
    assert facts["params"] == facts["teacher_params"]  # stock ESPnet holds whole matrices
    state = weights("student/init.pth")
    saved = sum(
        state[f"{name}.weight"].numel() - rank * sum(state[f"{name}.weight"].shape[:2])
        for name, rank in facts["ranks"].items()
    )
    assert facts["effective_params"] == facts["params"] - saved


def test_factors_computed_with_are_the_matrices_of_espnet(here):
    config = yaml.safe_load(Path("student/student.yaml").read_text())
    model = forward_check(config, weights("student/init.pth"), config["method_conf"])
    assert any(isinstance(module, Factored) for module in model.modules())
    exported = method_named("low_rank").export(model.state_dict(), config["method_conf"])
    stock = build(config)
    stock.load_state_dict(exported.state)
    for dtype, close in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        ours, theirs = model.to(dtype), stock.to(dtype)
        if dtype == torch.float64:  # a matrix in float32 is a rounded product
            for name in config["method_conf"]["ranks"]:
                factored, whole = ours.get_submodule(name), theirs.get_submodule(name)
                whole.weight.data = product(factored.left, factored.right).view_as(whole.weight)
        for name in config["method_conf"]["ranks"]:
            factored, whole = ours.get_submodule(name), theirs.get_submodule(name)
            size = (2, whole.weight.size(1), 7) if factored.taps else (2, 7, whole.weight.size(1))
            x = torch.randn(size, dtype=dtype)  # (B, m, T) or (B, T, m)
            torch.testing.assert_close(factored(x), whole(x), rtol=close, atol=close)
    ours, theirs = (logits_of(m.float(), None) for m in (model, stock))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_of_the_factors():
    for whole, size in ((torch.nn.Linear(6, 8), (2, 3, 6)), (torch.nn.Conv1d(6, 8, 1), (2, 6, 3))):
        layer = Factored(whole, 3).double()
        names = [name for name, _ in layer.named_parameters()]
        given = [p.detach().clone().requires_grad_() for p in layer.parameters()]
        x = torch.randn(size, dtype=torch.double)

        def run(*parameters, layer=layer, names=names, x=x):
            return torch.func.functional_call(layer, dict(zip(names, parameters)), (x,))

        assert torch.autograd.gradcheck(run, given)


def test_whole_rank_is_the_teacher_trained_on(here, tmp_path):
    """Neutral settings: file by file what `retrain`, and what today's stage, makes."""
    stages = {
        "neutral": {"method": "low_rank", "method_conf": {"rank": 1}},
        "retrain": {"method": "retrain"},
        "today": {"student": {}},
    }
    assert_derived_alike(tmp_path, stages)


def test_what_is_trained_are_the_factors(here):
    before, after = weights("student/init.pth"), weights(f"run/{EPOCHS}epoch.pth")
    factors = [key for key in after if key.startswith(PREFIX)]
    assert len(factors) == 2 * len(student_facts()["ranks"])
    assert all(not torch.equal(before[key], after[key]) for key in factors)
    for key in (key for key in factors if key.endswith("left")):
        name = key.removeprefix(PREFIX).removesuffix(".left")
        whole = product(after[key], after[f"{PREFIX}{name}.right"])
        assert torch.equal(whole, after[f"{name}.weight"].flatten(1))
        assert torch.linalg.matrix_rank(whole) <= student_facts()["ranks"][name]
    history = json.loads(Path("run/history.json").read_text())
    assert history[-1]["train"]["loss"] < history[0]["train"]["loss"]


def test_the_average_is_of_factors_and_stock(here):
    """A mean of products would have more ranks than the factors beside it."""
    link = Path("run", MODEL)
    best = Path("run", os.readlink(link))
    average, device = weights(link), read_device(device_file(link))
    assert not [key for key in average if key.startswith("kd_")]
    assert device_file(link) == device_file(best.resolve())
    learnt = [n for name, n in device_sizes(device_file(link)).items() if "running_" not in name]
    assert sum(learnt) == student_facts()["effective_params"]
    load_transducer("run/config.yaml", str(link))  # refuses another name, or a missing one
    epochs = sorted(Path("run").glob("[0-9]*epoch.pth"))
    assert best.name.endswith("ave_2best.pth")
    history = json.loads(Path("run/history.json").read_text())
    ranked = sorted(history, key=lambda h: h["valid"]["loss_transducer"])[:2]
    states = [weights(f"run/{h['epoch']}epoch.pth") for h in ranked]
    assert len(epochs) >= 2
    for name, rank in student_facts()["ranks"].items():
        left, right = (
            (states[0][f"{PREFIX}{name}.{side}"] + states[1][f"{PREFIX}{name}.{side}"]) / 2
            for side in ("left", "right")
        )
        assert np.array_equal(device[f"{name}.left"], left.numpy())
        assert np.array_equal(device[f"{name}.right"], right.numpy())
        assert f"{name}.weight" not in device
        whole = average[f"{name}.weight"].flatten(1)
        assert torch.equal(whole, product(left, right))
        assert torch.linalg.matrix_rank(whole) <= rank
    mean = sum(state["joint_network.lin_out.weight"] for state in states) / 2
    assert torch.equal(average["joint_network.lin_out.weight"], mean)


def test_stock_espnet_decodes_it(here, tmp_path):
    words = ["--ngpu", "0", "--beam_size", "2", "--output_dir", str(tmp_path / "a/b/c")]
    words += ["--data_path_and_name_and_type", "dump/dev/wav.scp,speech,sound"]
    words += ["--asr_train_config", "run/config.yaml", "--asr_model_file", f"run/{MODEL}"]
    from espnet2.bin import asr_transducer_inference as stock

    code, err = call("decode", words)
    assert code == 0, err
    stock.main([*words[:4], "--output_dir", str(tmp_path / "stock"), *words[6:]])
    tokens, scores = (
        [(tmp_path / folder / "1best_recog" / name).read_text() for folder in ("a/b/c", "stock")]
        for name in ("token", "score")
    )
    assert tokens[0] == tokens[1] and tokens[0]
    ours, theirs = ([float(line.split()[1]) for line in text.splitlines()] for text in scores)
    assert ours == pytest.approx(theirs, rel=1e-5)  # summed up in another order
    read_model(Path("run"), MODEL)  # the next stage's teacher


def test_it_goes_on_after_a_kill_and_in_the_middle_of_an_export(here, tmp_path, monkeypatch):
    from espnet_kd.espnet import exports

    out = tmp_path / "run"
    code, err = train(str(out), "--max_epoch", "2")
    assert code == 0, err
    with monkeypatch.context() as patch:

        def die(*_):
            raise KeyboardInterrupt

        patch.setattr(exports, "check_forms", die)
        code, err = train(str(out))
    assert code == 130, err
    code, err = train(str(out))
    assert code == 0, err
    names = sorted(
        path.name for path in Path("run").glob("*.pth") if "checkpoint" not in path.name
    )
    assert names == sorted(p.name for p in out.glob("*.pth") if "checkpoint" not in p.name)
    for name in names:
        want, state = weights(f"run/{name}"), weights(out / name)
        assert want.keys() == state.keys()
        assert all(torch.equal(want[key], state[key]) for key in want), name


def test_outputs_count_where_utterances_are_given(here, tmp_path):
    stage = {"method": "low_rank", "target": TARGET, "objective": "none"}
    losses = {}
    for by in ("weight", "activation"):
        conf = {"by": by, "where": ["feed_forward", "attention", "convolution"]}
        code, err = derive(tmp_path / by, {**stage, "method_conf": conf}, "--data", "dump/train")
        assert code == 0, err
        facts = student_facts(tmp_path / by)
        losses[by] = abs(
            facts["before_training"]["loss"] - facts["before_training"]["teacher_loss"]
        )
        assert all(chosen(name, conf["where"], MATRICES) for name in facts["ranks"])
    assert losses["activation"] < losses["weight"]


@pytest.mark.parametrize(
    "stage, message",
    [
        ({}, "low_rank needs either 'target' or 'method_conf.rank', found neither"),
        ({"target": 0.5, "method_conf": {"rank": 0.5}}, "found both"),
        ({"method_conf": {"rank": 0}}, "method_conf.rank: expected a number from 0.0001 to 1"),
        ({"method_conf": {"rang": 1}}, "unknown key 'rang' (did you mean 'rank'?)"),
        ({"target": 0.5, "method_conf": {"where": ["atention"]}}, "did you mean 'attention'?"),
        ({"target": 0.5, "method_conf": {"where": "attention"}}, "expected a list of"),
        ({"target": 0.5, "student": {}}, "has its teacher's sizes; leave it out"),
        ({"target": 0.01}, "more parameters are needed for rank 1 in every matrix"),
        ({"target": 0.5, "gate": {"otherwise": "split"}}, "'split' inserts a student of a size"),
        (
            {"target": 0.5, "method_conf": {"by": "activation"}},
            "name a data directory with --data",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(here, tmp_path, stage, message):
    code, err = derive(tmp_path / "out", {"method": "low_rank", **stage})
    line = err.splitlines()[-1]
    assert code == 1 and message in line and "Traceback" not in err, line
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_factors_is_no_beginning(here, tmp_path):
    words = train_words(
        str(tmp_path / "run"), "--init_param", "teacher/model.pth", config="student/student.yaml"
    )
    code, err = call("train", words)
    line = err.splitlines()[-1]
    assert code == 1 and "is not the product of its factors" in line and "init.pth" in line, line
