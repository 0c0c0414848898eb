"""Two teachers at a time, and a teacher's blocks: what is lost, and what is refused."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.errors import UserError
from espnet_kd.espnet.derive import derive
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.plan.student import Student
from espnet_kd.spec.distillation import read_kd_conf
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import TrainingConfig
from tests.espnet.tiny import TOKENS, build, tiny_config, write_experiment
from tests.recipe.toy import TRAINING, call, inside, train_words, write_data, write_yaml

PAIRS = [[0, 1], [1, 3]]


def files(exp, role="teacher"):
    return {f"{role}_config": f"{exp}/config.yaml", f"{role}_model": f"{exp}/model.pth"}


def small(**changes):
    """A student of two narrow blocks."""
    config = tiny_config(**changes)
    config["encoder_conf"]["body_conf"][0].update(hidden_size=8, num_blocks=2)
    return config


@pytest.fixture(scope="module")
def first_exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("first") / "asr_first", seed=4)


@pytest.fixture
def mixed(kd, first_exp):
    return {**kd, **files(first_exp, "first_teacher"), "first_weight": 0.3}


def losses(options, batch):
    """Loss, loss_kd and gradient of one and the same student."""
    model = build(tiny_config(), options).eval()
    # The teachers are built first, and draw from the same random numbers.
    model.load_state_dict(build(tiny_config(), seed=5).state_dict())
    loss, stats, _ = model(**batch)
    loss.sum().backward()
    grads = {n: p.grad for n, p in model.named_parameters()}
    return loss, stats["loss_kd"], grads


@pytest.mark.parametrize("objective", ["collapsed", "full"])
def test_the_mix_lies_between_the_two_teachers(mixed, kd, batch, first_exp, objective):
    kd = {**kd, "objective": objective}
    mixed = {**mixed, "objective": objective}
    alone = [losses(options, batch) for options in (kd, {**kd, **files(first_exp)})]
    for m, want in ((0.0, alone[0]), (1.0, alone[1])):
        loss, loss_kd, grads = losses({**mixed, "first_weight": m}, batch)
        assert torch.equal(loss, want[0]) and torch.equal(loss_kd, want[1])
        assert all(torch.equal(grads[name], want[2][name]) for name in grads)
    _, loss_kd, grads = losses(mixed, batch)
    torch.testing.assert_close(loss_kd, 0.7 * alone[0][1] + 0.3 * alone[1][1])
    assert not torch.isclose(alone[0][1], alone[1][1], rtol=1e-2)
    for name, grad in grads.items():
        want = 0.7 * alone[0][2][name] + 0.3 * alone[1][2][name]
        torch.testing.assert_close(grad, want, rtol=1e-4, atol=1e-5)


def test_both_teachers_hear_the_same_and_stay_as_they_are(mixed, batch, monkeypatch, tmp_path):
    # ESPnet's normalisation writes in place.
    np.savez(tmp_path / "s.npz", count=10, sum=np.ones(20), sum_square=np.full(20, 30.0))
    norm = {"normalize": "global_mvn", "normalize_conf": {"stats_file": str(tmp_path / "s.npz")}}
    exps = [write_experiment(tmp_path / n, tiny_config(**norm), seed=int(n)) for n in "12"]
    options = {**mixed, **files(exps[0]), **files(exps[1], "first_teacher")}
    student = build(tiny_config(**norm), options, seed=5).train()
    before = [copy.deepcopy(one.model.state_dict()) for one, _ in student.teachers]
    heard = []
    for one, _ in student.teachers:

        def spy(feats, feats_len, decoder_in, chunk_size, joint=one.joint):
            heard.append((feats.clone(), chunk_size))
            return joint(feats, feats_len, decoder_in, chunk_size)

        monkeypatch.setattr(one, "joint", spy)
    loss, _, _ = student(**batch)
    loss.sum().backward()
    (feats, chunk), (others, other) = heard
    assert torch.equal(feats, others) and chunk == other is not None
    for (one, _), state in zip(student.teachers, before):
        assert all(p.grad is None for p in one.model.parameters())
        after = one.model.state_dict()
        assert [n for n in after if not torch.equal(after[n], state[n].to(after[n]))] == []
    assert all(p.grad is not None for p in student.encoder.parameters())
    assert list(student.state_dict()) == list(build(tiny_config(**norm)).state_dict())


def test_a_first_teacher_of_another_kind_is_named(mixed, tmp_path):
    other = tiny_config(token_list=TOKENS[:4] + ["X"] + TOKENS[5:])
    exp = write_experiment(tmp_path / "other", other)
    with pytest.raises(UserError, match="token 4 is 'X' for the first teacher, 'B' for the"):
        build(tiny_config(), {**mixed, **files(exp, "first_teacher")})


def outputs_by_hand(model, batch):
    """Output of each block, in full context."""
    feats, feats_len = model._extract_feats(batch["speech"], batch["speech_lengths"])
    _, t_len = encode(model.encoder, feats, feats_len, None)
    x, _ = model.encoder.embed(feats, None)
    mask = torch.arange(x.size(1)) >= t_len[:, None]
    pos, outputs = model.encoder.pos_enc(x), []
    for block in model.encoder.encoders.blocks:
        x, mask, pos = block(x, pos, mask)
        outputs.append(x)
    return outputs, t_len


@pytest.mark.parametrize("config, widths", [(small(), (8, 16)), (tiny_config(), None)])
def test_layers_against_blocks_run_by_hand(kd, batch, config, widths):
    options = {**kd, "layers": PAIRS, "layer_weight": 0.4, "valid_chunk_size": 0}
    student = build(config, options, seed=5).eval()
    loss, stats, _ = student(**batch)
    mine, t_len = outputs_by_hand(student, batch)
    theirs, _ = outputs_by_hand(student.teacher.model, batch)
    expected = []
    for n, (s, t) in enumerate(PAIRS):
        own = torch.cat([theirs[t][b, : t_len[b]] for b in range(3)])  # all real frames
        variance = (own - own.mean(0)).square().sum(1).mean()
        got = student.kd_layers[n](mine[s])
        for b in range(3):
            error = (got[b, : t_len[b]] - theirs[t][b, : t_len[b]]).square().sum(1).mean()
            expected.append(error / variance)
    torch.testing.assert_close(stats["loss_kd_layers"].sum(), torch.stack(expected).mean())
    rest = stats["loss_transducer"] + stats["loss_kd"] + 0.5 * stats["loss_aux_ctc"]
    torch.testing.assert_close(loss, rest + 0.4 * stats["loss_kd_layers"])

    loss.sum().backward()
    if widths:
        assert [layer.weight.shape for layer in student.kd_layers] == [widths[::-1]] * 2
        assert all(layer.weight.grad.abs().sum() > 0 for layer in student.kd_layers)
    else:
        assert not list(student.kd_layers.parameters())
    assert all(p.grad is None for p in student.teacher.model.parameters())
    models = student, student.teacher.model
    assert not any(b._forward_hooks for m in models for b in m.encoder.encoders.blocks)


def test_what_layers_learned_with_is_passed_over_by_stock_espnet(kd, tmp_path):
    options = {**kd, "layers": PAIRS, "layer_weight": 1.0}
    student = build(small(), options, seed=5)
    names = [n for n in student.state_dict() if n.startswith("kd_")]
    assert names == ["kd_layers.0.weight", "kd_layers.1.weight"]
    torch.save(student.state_dict(), tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small()))
    paths = str(tmp_path / "config.yaml"), str(tmp_path / "model.pth")
    for model in (ASRTransducerTask.build_model_from_file(*paths)[0], load_transducer(*paths)):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, student.state_dict()[name]), name


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([[0, 1], [2, 3]], "[2, 3]: the student has 2 encoder blocks, 0 to 1; found 2"),
        ([[1, 4]], "[1, 4]: the teacher has 4 encoder blocks, 0 to 3; found 4"),
    ],
)
def test_blocks_that_are_not_there_are_named(kd, pairs, message):
    with pytest.raises(UserError, match=re.escape(f"kd_conf.layers: {message}")):
        build(small(), {**kd, "layers": pairs, "layer_weight": 1.0})


def test_blocks_that_may_be_dropped_are_refused(kd):
    config = small()
    config["encoder_conf"]["main_conf"]["blockdrop_rate"] = 0.1
    with pytest.raises(UserError, match="blockdrop_rate is 0.1: a block that is dropped"):
        build(config, {**kd, "layers": PAIRS, "layer_weight": 1.0})


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"first_weight": 1.5}, "first_weight: expected a number from 0 to 1, found 1.5"),
        ({"first_weight": -0.5}, "first_weight: expected a number from 0 to 1, found -0.5"),
        ({"first_weight": 0.5}, "needs first_teacher_config and first_teacher_model"),
        ({"layers": [[0, 1]]}, "layers [[0, 1]] with layer_weight 0.0: give both or neither"),
        ({"layer_weight": 1}, "layers None with layer_weight 1.0: give both or neither"),
        ({"layers": [0, 1], "layer_weight": 1}, "expected pairs [[student's block, teacher's"),
        ({"layers": [[0, -1]], "layer_weight": 1}, "counted from 0, found '[[0, -1]]'"),
        ({"layers": [], "layer_weight": 1}, "counted from 0, found '[]'"),
        (
            {"layers": [[0, 1]], "layer_weight": 1, "teacher_cache": "c"},
            "layer_weight: with a teacher cache it must be 0: it holds nothing of the encoder",
        ),
        (
            {"first_weight": 0.5, "teacher_cache": "c"},
            "first_weight: with a teacher cache it must be 0: it holds one teacher",
        ),
    ],
)
def test_options_are_checked(conf, message):
    given = {"objective": "collapsed", "teacher_config": "c", "teacher_model": "m", **conf}
    with pytest.raises(UserError, match=re.escape(message)):
        read_kd_conf(given).complete()


def test_a_training_with_both_is_resumed(tmp_path, teacher_exp, first_exp):
    """Four epochs at once and two by two give the same parameters, kd_layers among them."""
    model = {k: v for k, v in small().items() if k != "token_list"}
    kd = {"objective": "collapsed", **files(teacher_exp), **files(first_exp, "first_teacher")}
    kd |= {"first_weight": 0.3, "layers": PAIRS, "layer_weight": 0.5}
    with inside(tmp_path):
        write_data()
        write_yaml("train.yaml", {**model, **TRAINING, "kd_conf": kd})
        for out, epochs in (("whole", 4), ("parts", 2), ("parts", 4)):
            code, err = call("train", train_words(out, "--max_epoch", epochs))
            assert code == 0, err
        states = [torch.load(f"{out}/4epoch.pth", weights_only=True) for out in ("whole", "parts")]
    assert "kd_layers.1.weight" in states[0]
    assert set(states[0]) == set(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("word", ["previous", "first"])
def test_a_stage_is_taught_by_whom_it_names(tmp_path, teacher_exp, first_exp, word):
    stage = {"student": {"encoder": {"num_blocks": 2}}, "teacher": word}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"stages": [stage]}))
    student = Student.of(load_plan(str(tmp_path / "plan.yaml")).stage(1))
    model, out = "model.pth", tmp_path / "student"
    facts = derive(student, teacher_exp, model, first_exp, model, TrainingConfig(), out)
    config = yaml.safe_load((out / "student.yaml").read_text())
    taught_by = first_exp if word == "first" else teacher_exp
    assert {k: v for k, v in config["kd_conf"].items() if k != "objective"} == files(taught_by)
    assert facts["teacher"] == str(teacher_exp)
    assert facts.get("taught_by") == (str(first_exp) if word == "first" else None)
    init = torch.load(out / "init.pth", weights_only=True)
    theirs = torch.load(teacher_exp / model, weights_only=True)
    assert torch.equal(init["decoder.embed.weight"], theirs["decoder.embed.weight"])


def test_a_stage_gets_its_first_teacher_unless_it_is_its_own(
    tmp_path, teacher_exp, first_exp, caplog
):
    caplog.set_level("INFO")
    stage = {"student": {"encoder": {"num_blocks": 2}}, "first_weight": 0.3}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"stages": [stage]}))
    student = Student.of(load_plan(str(tmp_path / "plan.yaml")).stage(1))
    got = {}
    for exp in (teacher_exp, first_exp):
        model = "model.pth"
        derive(student, exp, model, first_exp, model, TrainingConfig(), tmp_path / exp.name)
        config = yaml.safe_load(Path(tmp_path / exp.name / "student.yaml").read_text())
        got[exp] = {k: v for k, v in config["kd_conf"].items() if k != "objective"}
    assert got[teacher_exp] == {
        "first_weight": 0.3, **files(teacher_exp), **files(first_exp, "first_teacher")
    }  # fmt: skip
    assert got[first_exp] == files(first_exp)
    assert caplog.text.count("first_weight is left out: the teacher is the first one") == 1
