"""Additions to `cut` and `retrain`: neutral they are not there; students stay ESPnet's own."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml

from espnet_kd.errors import UserError
from espnet_kd.espnet.derive import _check_first
from espnet_kd.espnet.stock import build, logits_of, read_model
from espnet_kd.espnet.teacher import project
from espnet_kd.methods import method_named
from espnet_kd.methods.additions import options_with_additions
from espnet_kd.methods.cascade import read_cascade
from espnet_kd.methods.tied import EMBED, OUT, tie
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.spec.method import MethodOptions, PlannedSibling
from espnet_kd.spec.plan import parse_plan
from espnet_kd.students.importance import frame_change
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

SIZES = {"encoder": {"num_blocks": 2}, "joint_network": {"joint_space_size": 12}}
ALL = {"tied": True, "predictor_dropout": 0.5, "freeze": ["encoder"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a teacher, and a student with all additions, trained."""
    with inside(tmp_path_factory.mktemp("additions")) as folder:
        write_place()
        code, err = derive("student", {"student": SIZES, "method_conf": ALL})
        assert code == 0, err
        code, err = train("run")
        assert code == 0, err
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def trained_form(conf, folder="student"):
    config = yaml.safe_load(Path(folder, "student.yaml").read_text())
    model = build(config)
    method_named("cut").attach(model, conf)
    model.load_state_dict(weights(Path(folder, "init.pth")))
    return model, config


def test_neutral_they_are_not_there(here, tmp_path):
    stages = {
        "neutral": {
            "student": SIZES,
            "method_conf": {"tied": False, "predictor_dropout": 0.0, "freeze": []},
        },
        "today": {"student": SIZES},
    }
    assert_derived_alike(tmp_path, stages)
    assert "method_conf" not in yaml.safe_load((tmp_path / "today/student.yaml").read_text())
    stages = {
        "neutral": {"method": "retrain", "method_conf": {"freeze": []}},
        "today": {"method": "retrain"},
    }
    assert_derived_alike(tmp_path, stages)


def test_logits_of_a_tied_student_are_those_of_the_untied_one(here, tmp_path):
    code, err = derive(tmp_path / "plain", {"student": SIZES})
    assert code == 0, err
    plain, _ = trained_form({}, tmp_path / "plain")
    tied, _ = trained_form({"tied": True})
    torch.testing.assert_close(logits_of(tied, None), logits_of(plain, None), rtol=1e-5, atol=1e-5)
    facts = json.loads(Path("student/student.json").read_text())
    assert facts["tied_residual"] < 1e-5
    assert facts["sizes"]["embed_size"] == facts["sizes"]["joint_size"] == 12
    assert facts["params"] - facts["unique_params"] == 6 * 12


@pytest.mark.parametrize("predictor", ["rnn", "stateless", "averaged"])
def test_what_a_narrow_output_layer_cannot_span_is_told(predictor):
    torch.manual_seed(1)
    reader = {
        "rnn": "decoder.rnn.0.weight_ih_l0",
        "stateless": "joint_network.lin_dec.weight",
        "averaged": "decoder.output.weight",
    }
    state = {
        EMBED: torch.randn(50, 16),
        OUT: torch.randn(50, 8),
        reader[predictor]: torch.randn(5, 16),
    }
    tied, residual = tie(state, predictor)
    assert tied[reader[predictor]].shape == (5, 8) and 0.1 < residual < 1
    lost = (tied[EMBED] @ tied[reader[predictor]].T)[1:] - (
        state[EMBED] @ state[reader[predictor]].T
    )[1:]
    assert lost.norm() > 0 and not tied[EMBED][0].any()


def test_the_trained_student_is_tied_frozen_and_stock(here, tmp_path):
    first, link = weights("student/init.pth"), Path("run", MODEL)
    for path in (f"run/{EPOCHS}epoch.pth", link):
        state = weights(path)
        assert torch.equal(state[EMBED][1:], state[OUT][1:]) and not state[EMBED][0].any()
        assert not torch.equal(state[OUT], first[OUT])  # of the joint network, which is trained
        for name, tensor in first.items():
            if name.startswith("encoder."):
                assert torch.equal(state[name], tensor), name
    assert not [name for name in weights(link) if name.startswith("kd_")]
    read_model(Path("run"), MODEL)  # the next stage's teacher
    words = ["--ngpu", "0", "--beam_size", "2"]
    words += ["--data_path_and_name_and_type", "dump/dev/wav.scp,speech,sound"]
    words += ["--asr_train_config", "run/config.yaml", "--asr_model_file", str(link)]
    from espnet2.bin import asr_transducer_inference as stock

    code, err = call("decode", [*words, "--output_dir", str(tmp_path / "a/b/c")])
    assert code == 0, err
    stock.main([*words, "--output_dir", str(tmp_path / "stock")])
    tokens = [(tmp_path / name / "1best_recog/token").read_text() for name in ("a/b/c", "stock")]
    assert tokens[0] == tokens[1] and tokens[0]


def test_it_goes_on_from_a_checkpoint(here, tmp_path):
    out = tmp_path / "run"
    code, err = train(str(out), "--max_epoch", "2")
    assert code == 0, err
    code, err = train(str(out))
    assert code == 0, err
    want, state = weights(f"run/{EPOCHS}epoch.pth"), weights(out / f"{EPOCHS}epoch.pth")
    assert list(want) == list(state) and all(torch.equal(want[k], state[k]) for k in want)


def test_weights_that_are_not_tied_are_refused(here, tmp_path):
    state = weights("student/init.pth")
    state[EMBED][1] += 1
    torch.save(state, tmp_path / "init.pth")
    words = ["run2", "--init_param", tmp_path / "init.pth"]
    code, err = call("train", train_words(*words, config="student/student.yaml"))
    assert code == 1 and "'decoder.embed.weight' is not 'joint_network.lin_out.weight'" in err
    assert "Traceback" not in err


def test_the_predictor_is_unseen_in_training_alone(here):
    model, _ = trained_form({"tied": True, "predictor_dropout": 0.5})
    labels = torch.tensor([[0, 3, 4]]).expand(200, -1)
    model.decoder.set_device(torch.device("cpu"))
    network = model.joint_network
    enc = torch.zeros(200, 1, network.lin_enc.in_features)
    dec = model.eval().decoder(labels)
    whole = project(network, enc, dec).dec
    nothing = project(network, enc, torch.zeros_like(dec)).dec
    model.train()
    seen = project(network, enc, dec).dec
    masked = torch.isclose(seen, nothing).flatten(1).all(dim=1)
    assert 60 < int(masked.sum()) < 140
    torch.testing.assert_close(seen[~masked], whole[~masked])
    for dropout in (model.decoder.dropout_embed, *model.decoder.dropout_rnn):
        dropout.p = 0.0
    torch.testing.assert_close(model.decoder(labels), dec)  # as an auxiliary LM loss has it


@pytest.mark.parametrize(
    "stage, message",
    [
        ("{student: {}, method_conf: {tid: true}}", "'tid' (did you mean 'tied'?)"),
        ("{target: 0.5, method_conf: {tied: true}}", "tied: needs sizes by name"),
        (
            "{student: {decoder: {embed_size: 4}, joint_network: {joint_space_size: 8}}, "
            "method_conf: {tied: true}}",
            "tied: needs decoder.embed_size 4 and joint_network.joint_space_size 8 to be equal",
        ),
        ("{target: 0.5, method_conf: {predictor_dropout: 1}}", "a number from 0 to 0.95, found 1"),
        ("{target: 0.5, method_conf: {freeze: [joint]}}", "'joint' is not one of predictor"),
        ("{target: 0.5, method_conf: {freeze: predictor}}", "expected a list of predictor"),
        ("{target: 0.5, method_conf: {freeze: [encoder, encoder]}}", "a name stands twice"),
        (
            "{target: 0.5, method_conf: {freeze: [encoder, predictor, joint_network]}}",
            "freeze: nothing would be trained",
        ),
        (
            "{target: 0.5, init: random, method_conf: {freeze: [encoder]}}",
            "needs inherited weights",
        ),
        (
            "{target: 0.5, anneal: through, method_conf: {tied: true}}",
            "tied: does not go with 'anneal: through'",
        ),
        (
            "{student: {}, method_conf: {freeze: [predictor], tied: true}}",
            "freeze: with 'tied' the predictor's embedding is the joint network's matrix",
        ),
        (
            "{student: {}, method_conf: {freeze: [predictor], gates: 0.5}}",
            "freeze: does not go with 'gates'",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(stage, message):
    with pytest.raises(UserError) as error:
        parse_plan(f"stages: [{stage}]", "plan")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_method_that_keeps_sizes_ties_equal_widths_alone(here, tmp_path):
    code, err = derive(tmp_path / "s", {"method": "retrain", "method_conf": {"tied": True}})
    assert code == 1 and "embed_size 8 is not joint_space_size 16" in err


@pytest.mark.parametrize("conf", ["freeze: [encoder]", "gates: 0.4"])
def test_the_first_student_of_another_kind_of_teacher_has_weights_to_learn(conf):
    (stage,) = parse_plan(f"stages: [{{target: 0.5, method_conf: {{{conf}}}}}]", "plan").stages
    with pytest.raises(UserError, match="needs a teacher that can be cut; leave it to the stage"):
        _check_first(stage)


def test_a_wider_embedding_may_not_make_a_student_larger_than_its_teacher(here, tmp_path):
    stage = {"student": {"encoder": {"linear_size": 23}}, "method_conf": {"tied": True}}
    code, err = derive(tmp_path / "s", stage)
    assert code == 1 and "tied: an embedding 16 wide makes" in err and "Traceback" not in err


def test_a_plan_knows_the_width_of_a_tied_embedding(here, tmp_path):
    code, err = derive(tmp_path / "s", {"student": SIZES, "method_conf": {"tied": True}})
    assert code == 0, err
    stage = f"{{student: {json.dumps(SIZES)}, method_conf: {{tied: true}}}}"
    first = read_model(Path("teacher"), "model.pth").sizes
    (sizes,) = sizes_of_way(parse_plan(f"stages: [{stage}]", "plan").stages, first)
    assert sizes.params == json.loads((tmp_path / "s/student.json").read_text())["params"]


def test_frames_count_by_how_much_they_change():
    enc = torch.zeros(2, 4, 3)
    enc[0, 2:] = 1.0  # it moves once, in the third frame
    weights_ = frame_change(enc, torch.tensor([4, 2]))
    torch.testing.assert_close(weights_[0], torch.tensor([0.0, 0.0, 4.0, 0.0]))
    torch.testing.assert_close(weights_[1], torch.tensor([1.0, 1.0, 0.0, 0.0]))  # all alike
    assert torch.equal(frame_change(enc[:, :1], torch.tensor([1, 1])), torch.ones(2, 1))


def test_units_may_be_chosen_by_the_frames_that_change(here, tmp_path):
    stage = {"student": {"encoder": {"linear_size": 8}}, "objective": "none"}
    for units in ("taylor", "taylor_change"):
        code, err = derive(tmp_path / units, {**stage, "units": units}, "--data", "dump/dev")
        assert code == 0, err
    states = [weights(tmp_path / units / "init.pth") for units in ("taylor", "taylor_change")]
    assert list(states[0]) == list(states[1])
    code, err = derive(tmp_path / "s", {**stage, "units": "taylor_change"})
    assert code == 1 and "units: 'taylor_change' is measured on utterances" in err


def test_options_with_additions_keep_what_their_method_says_of_itself():
    second = PlannedSibling(4)

    @dataclasses.dataclass(frozen=True)
    class Plain(MethodOptions):
        siblings = {"second": second}
        decodes_averages = True

    conf = options_with_additions(Plain)()
    assert conf.decodes_averages and conf.siblings == {"second": second}
    both = options_with_additions(Plain)(cascade=read_cascade("x", {"lookahead": 8}))
    assert both.siblings == {"second": second, "lookahead": PlannedSibling(8)}
    assert not options_with_additions(MethodOptions)().decodes_averages
