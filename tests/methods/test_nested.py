"""nested, member, family: members are parts of one another, inside and taken out alike."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from espnet_kd.bin.plan import _inside
from espnet_kd.errors import UserError
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.stock import build, logits_of, read_model, sizes_of
from espnet_kd.espnet.teacher import project
from espnet_kd.lattice import node_stats, rnnt_loss
from espnet_kd.methods import method_named
from espnet_kd.methods.nested import MembersLoss, give_weights, members_of
from espnet_kd.methods.protocol import Job, Model, kept_file
from espnet_kd.plan.baselines import all_students
from espnet_kd.plan.effective import effective
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.plan.student import Student
from espnet_kd.spec.plan import parse_plan
from espnet_kd.students.axes import block_number, rename_block
from espnet_kd.students.importance import weight_scores
from espnet_kd.students.inherit import cut_units, with_kept_blocks
from espnet_kd.students.model_config import config_of
from espnet_kd.students.nested_units import (
    check_nests,
    in_order_of_rank,
    member_units,
    params_of_update,
    take_member,
)
from tests.espnet.tiny import build as build_ours
from tests.espnet.tiny import tiny_config
from tests.methods.toy_students import MODEL, train, weights, write_place
from tests.recipe.toy import call, inside, write_yaml

MEMBERS = "[{target: 0.85}, {target: 0.6}, {student: {encoder: {linear_size: 8}}}, {target: 0.3}]"
FAMILY = {"members": yaml.safe_load(MEMBERS), "epochs": 2}
FAMILY.update(objective="collapsed", weight=0.5)


def derive(out, stage, teacher="teacher", checkpoint="model.pth", family=FAMILY):
    write_yaml("plan.yaml", {"family": family})
    words = ["--plan", "plan.yaml", "--stage", str(stage), "--teacher_exp", teacher]
    words += ["--teacher_model", checkpoint, "--first_teacher_exp", "teacher"]
    words += ["--first_teacher_model", "model.pth", "--train_config", "train.yaml"]
    return call("derive_student", [*words, "--out", str(out)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a teacher, and a family, trained."""
    with inside(tmp_path_factory.mktemp("nested")) as folder:
        write_place()
        code, err = derive("student", 1)
        assert code == 0, err
        code, err = train("run")
        assert code == 0, err
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def prepared(config, plan, seed=3):
    """A student of a plan's first stage, of a teacher with random weights."""
    torch.manual_seed(seed)
    net = build(config)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    sizes = sizes_of(net, config)
    stage = parse_plan(plan, "plan").stages[0]
    student = method_named("cut").prepare(
        Job(stage, Model(config, net, sizes), sizes, None, build)
    )
    return student, student.method_conf["nested"]


def logits(networks, feats, seed_labels=(0, 3, 4, 5)):
    """Logits of a lattice. (1, T, U + 1, V)"""
    enc, _ = encode(networks.encoder, feats, torch.tensor([feats.size(1)]), 4)
    dec = networks.decoder(torch.tensor([seed_labels]))
    return networks.joint_network(enc.unsqueeze(2), dec.unsqueeze(1))


STATELESS = {"decoder": "stateless", "decoder_conf": {"embed_size": 16}}
FEWER_HEADS = (
    "[{target: 0.9}, {student: {encoder: {hidden_size: 8, heads: 2, num_blocks: 3}}}, {student: "
    "{encoder: {hidden_size: 4, heads: 1, conv_mod_kernel_size: 3}, decoder: {embed_size: 4}}}]"
)


@pytest.mark.parametrize("changes", [{}, STATELESS])
def test_units_are_sorted_without_a_change(changes):
    config = tiny_config(**changes)
    torch.manual_seed(2)
    net = build(config)
    sizes, before = sizes_of(net, config), logits_of(net, None)
    state = {name: x.clone() for name, x in net.state_dict().items()}
    ranked = in_order_of_rank(state, sizes, weight_scores(state))
    net.load_state_dict(ranked)
    torch.testing.assert_close(logits_of(net, None), before, rtol=1e-5, atol=1e-5)
    assert not torch.equal(
        ranked["encoder.embed.output.weight"], state["encoder.embed.output.weight"]
    )
    again = in_order_of_rank(ranked, sizes, weight_scores(ranked))
    assert all(torch.equal(again[name], ranked[name]) for name in ranked)


@pytest.mark.parametrize("members", ["[{target: 0.9}, {target: 0.6}, {target: 0.3}]", FEWER_HEADS])
def test_sets_of_units_and_blocks_are_nested(members):
    student, facts = prepared(tiny_config(), f"family: {{members: {members}}}")
    whole, parts = members_of(facts)
    numbers = {name: torch.arange(x.numel()).view_as(x) for name, x in student.state.items()}
    outer = {name: set(x.flatten().tolist()) for name, x in numbers.items()}
    for (_, kept), units in zip(parts, member_units(whole, parts)):
        inner = {}
        for name, x in with_kept_blocks(numbers, kept).items():
            block = block_number(name)
            place = name if block is None else rename_block(name, kept[block])
            x = cut_units(name, x, units, whole.rnn_layers, True)
            inner[place] = set(x.flatten().tolist())
        assert set(inner) <= set(outer)
        assert all(inner[name] <= outer[name] for name in inner)
        assert sum(map(len, inner.values())) < sum(map(len, outer.values()))
        outer = inner


@pytest.mark.parametrize(
    "changes, members",
    [({}, "[{target: 0.9}, {target: 0.6}, {target: 0.3}]"), ({}, FEWER_HEADS)]
    + [(STATELESS, "[{target: 0.8}, {target: 0.4}]")],
)
def test_a_member_inside_is_a_stock_model_of_its_sizes(changes, members):
    config = tiny_config(**changes)
    student, facts = prepared(config, f"family: {{members: {members}}}")
    whole, parts = members_of(facts)
    largest = {**config, **config_of(whole, config, student.kept)}
    model = build(largest)
    method_named("cut").attach(model, student.method_conf)
    model.load_state_dict(student.state)
    assert all(not name.startswith("kd_") for name, _ in model.named_parameters())
    feats = torch.randn(1, 80, 20)
    for i, (member, units) in enumerate(zip(parts, member_units(whole, parts))):
        part = take_member(student.state, whole, member, units, True)
        part = {name: x for name, x in part.items() if not name.startswith("kd_")}
        stock = build({**largest, **config_of(member.sizes, largest, member.kept)})
        stock.load_state_dict(part)
        assert (
            sizes_of(stock, largest | config_of(member.sizes, largest, member.kept)).params
            == (student.report["members"][i + 1])
        )
        trained = dict(model.named_parameters())
        part = take_member(trained, whole, member, units, True)
        inside_it = model.kd_nested[i].eval()
        give_weights(inside_it, {k: x for k, x in part.items() if not k.startswith("ctc_lin")})
        torch.testing.assert_close(
            logits(inside_it, feats), logits(stock, feats), rtol=1e-5, atol=1e-5
        )


def ours(config, student):
    """A student as it is trained."""
    return build_ours({**config, "method_conf": {"method": "cut", **student.method_conf}})


def batch():
    torch.manual_seed(1)
    return {
        "speech": 0.1 * torch.randn(2, 16000),
        "speech_lengths": torch.tensor([16000, 12000]),
        "text": torch.tensor([[3, 4, 5], [4, 3, -1]]),
        "text_lengths": torch.tensor([3, 2]),
    }


def test_gradients_of_all_members_meet_in_the_weights_that_they_share():
    plan = "family: {in_place: 0, objective: none, members: [{student: {encoder: {linear_size: "
    plan += "16}}}, {target: 0.6}, {target: 0.3}]}"
    config = tiny_config(model_conf={"auxiliary_ctc_weight": 0.0})
    student, facts = prepared(config, plan)
    whole, parts = members_of(facts)
    config["encoder_conf"]["body_conf"][0]["linear_size"] = 16
    model = ours(config, student).eval()  # a validation runs all members
    model.load_state_dict(student.state)
    trained = {k: p for k, p in model.named_parameters() if k.startswith(("enc", "dec", "joint"))}
    loss, stats, _ = model(**batch())
    total = torch.autograd.grad(loss, list(trained.values()))

    def loss_of(networks):
        """RNN-T loss of stock networks on the same batch, by ESPnet's own steps."""
        given = batch()
        feats, feats_len = model._extract_feats(given["speech"], given["speech_lengths"])
        enc, t_len = encode(networks.encoder, feats, feats_len, 4)
        labels = given["text"].clamp_min(0)
        dec = networks.decoder(torch.nn.functional.pad(labels, (1, 0)))
        lattice = labels, t_len, given["text_lengths"]
        nodes = node_stats(project(networks.joint_network, enc, dec), *lattice)
        return rnnt_loss(nodes[..., :2], *lattice[1:]).mean()

    expected = [g.clone() for g in torch.autograd.grad(loss_of(model), list(trained.values()))]
    for i, (member, units) in enumerate(zip(parts, member_units(whole, parts))):
        part = take_member(trained, whole, member, units, True)
        stock = build({**config, **facts["members"][i]})
        stock.load_state_dict({k: x.detach() for k, x in part.items()}, strict=False)
        statistics = {k: x for k, x in model.kd_nested[i].state_dict().items()}
        stock.load_state_dict(statistics, strict=False)
        parameters = {k: p for k, p in stock.named_parameters() if k in part}
        alone = loss_of(stock)
        assert float(stats[f"member{i + 2}_loss_transducer"]) == pytest.approx(
            float(alone.detach()), rel=1e-5
        )
        theirs = torch.autograd.grad(alone, list(parameters.values()))
        back = torch.autograd.grad(
            [part[k] for k in parameters], list(trained.values()), theirs, allow_unused=True
        )
        expected = [e if b is None else e + b for e, b in zip(expected, back)]
    for name, ours_, theirs_ in zip(trained, total, expected):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-4, atol=1e-5, msg=name)


def test_members_learn_from_the_largest_which_does_not_learn_from_them():
    config = tiny_config()
    student, facts = prepared(config, "family: {members: [{target: 0.9}, {target: 0.4}]}")
    largest = {**config, **config_of(members_of(facts)[0], config, student.kept)}
    model = ours(largest, student).eval()
    model.load_state_dict(student.state)
    loss, stats, _ = model(**batch())
    assert float(stats["member2_loss_kd"]) > 0 and "loss_kd" not in stats
    first = float(stats["loss_transducer"]) + 0.5 * float(stats["loss_aux_ctc"])
    theirs = float(stats["member2_loss_transducer"]) + 0.5 * float(stats["member2_loss_kd"])
    assert float(stats["loss"]) == pytest.approx(first + theirs, rel=1e-5)
    assert float(stats["loss_members"]) == pytest.approx(theirs, rel=1e-5)
    weight = model.encoder.encoders.blocks[0].feed_forward.w_1.weight
    (whole,) = torch.autograd.grad(loss, [weight])
    model.terms = model.terms[:-1]
    (alone,) = torch.autograd.grad(model(**batch())[0], [weight])
    inner = facts["members"][0]["sizes"]["linear_size"]
    assert inner < len(weight) and not torch.allclose(whole[:inner], alone[:inner])
    torch.testing.assert_close(whole[inner:], alone[inner:])


def test_an_update_trains_the_smallest_and_draws_others_again_alike():
    _, facts = prepared(tiny_config(), f"family: {{members: {MEMBERS}, draw: 1}}")
    term = MembersLoss(facts, *members_of(facts))
    drawn = [term.drawn(update) for update in range(40)]
    assert drawn == [term.drawn(update) for update in range(40)]
    assert {tuple(d) for d in drawn} == {(0, 2), (1, 2)}
    term.on_start(SimpleNamespace(options=SimpleNamespace(seed=7)))
    assert drawn != [term.drawn(update) for update in range(40)]
    assert params_of_update([100, 60, 40, 20], 1) == 100 + 20 + 50
    assert params_of_update([100, 60, 40, 20], 2) == 100 + 20 + 100
    assert params_of_update([100, 20], 1) == 120 and params_of_update([100], 0) == 100


def test_a_family_of_one_is_the_stage_alone():
    (alone,) = parse_plan("family: {members: [{target: 0.5}], epochs: 3, weight: 0.2}", "p").stages
    text = "stages: [{name: family, target: 0.5, epochs: 3, weight: 0.2}]"
    (stage,) = parse_plan(text, "p").stages
    assert dataclasses.replace(alone, where=stage.where) == stage
    assert Student.of(alone).fingerprint() == Student.of(stage).fingerprint()


def test_what_was_trained_inside_is_taken_out(here, tmp_path):
    facts = json.loads(Path("student/student.json").read_text())
    whole, middle, smallest = facts["members"][0], facts["members"][1:-1], facts["members"][-1]
    assert facts["update_params"] == whole + smallest + sum(middle) / 2
    average = weights(Path("run", MODEL))
    assert not [name for name in average if name.startswith("kd_")]
    assert facts["params"] == whole == read_model(Path("run"), MODEL).sizes.params
    config = read_model(Path("run"), MODEL).config
    model = build(config)
    method_named("cut").attach(model, config["method_conf"])
    model.load_state_dict({**average, **weights(kept_file(Path("run", MODEL)))})
    whole, parts = members_of(config["method_conf"]["nested"])
    feats = torch.randn(1, 80, 20)
    for i, (member, units) in enumerate(zip(parts, member_units(whole, parts))):
        out = tmp_path / f"m{i}"
        code, err = derive(out, i + 2, "run", MODEL)
        assert code == 0, err
        config = yaml.safe_load((out / "student.yaml").read_text())
        taken = build(config)  # by stock ESPnet, which loads it
        taken.load_state_dict(weights(out / "init.pth"))
        part = take_member(dict(model.named_parameters()), whole, member, units, True)
        network = model.kd_nested[i].eval()
        give_weights(network, {k: x for k, x in part.items() if not k.startswith("ctc_lin")})
        torch.testing.assert_close(
            logits(network, feats), logits(taken, feats), rtol=1e-5, atol=1e-5
        )
        record = json.loads((out / "student.json").read_text())
        assert record["params"] == facts["members"][i + 1] == sizes_of(taken, config).params
        assert record["teacher"] == "run" and "method_conf" not in config
        assert config["kd_conf"]["teacher_model"] == f"run/{MODEL}"


def test_a_kill_does_not_matter(here, tmp_path):
    out = tmp_path / "run"
    for more in (["--max_epoch", "1"], []):
        code, err = train(str(out), *more)
        assert code == 0, err
    for name in ("2epoch.pth", MODEL, f"kd.{Path('run', MODEL).resolve().name}"):
        ours_, theirs = weights(out / name), weights(Path("run", name))
        assert all(torch.equal(ours_[key], theirs[key]) for key in theirs), name


def test_a_member_comes_out_of_the_model_of_an_epoch_too(here, tmp_path):
    code, err = derive(tmp_path / "m", 3, "run", "2epoch.pth")
    assert code == 0, err
    taken, saved = weights(tmp_path / "m/init.pth"), weights("run/2epoch.pth")
    name = "encoder.encoders.blocks.0.conv_mod.norm.running_mean"
    assert torch.equal(taken[name], saved[f"kd_nested.1.{name}"])


def test_what_a_training_config_says_of_the_model_holds_for_all_members(here, tmp_path):
    train = {"decoder_conf": {"embed_dropout_rate": 0.25}}
    code, err = derive(tmp_path / "s", 1, family={**FAMILY, "train": train})
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "s/student.yaml").read_text())
    for conf in (config, *config["method_conf"]["nested"]["members"]):
        assert conf["decoder_conf"]["embed_dropout_rate"] == 0.25
    train = {"kd_conf": {"two_modes": [1, 0.5]}}
    code, err = derive(tmp_path / "t", 1, family={**FAMILY, "train": train})
    assert code == 1 and "two_modes [1.0, 0.5] of the training config: its members" in err


def test_a_family_that_has_lost_its_statistics_is_told(here, tmp_path):
    shutil.copytree("run", tmp_path / "run", symlinks=True)
    kept_file(tmp_path / "run" / MODEL).unlink()
    code, err = derive(tmp_path / "m", 2, str(tmp_path / "run"), MODEL)
    assert code == 1 and "batch statistics of member 2 are not beside" in err
    code, err = derive(tmp_path / "m", 2, "teacher")
    assert code == 1 and "needs member 2 of a family; its teacher has 0" in err


PLAN = "{}family: {{name: all, epochs: 6, members: "
PLAN += "[{{target: 0.7}}, {{target: 0.5}}, {{target: 0.3}}]}}"


def students(text, paths=("progressive",), at=()):
    plan = parse_plan(text, "plan")
    return all_students(plan, effective(plan, lambda name: []), list(paths), list(at), 9)


def test_members_have_the_shape_of_their_largest():
    config = tiny_config()
    config["encoder_conf"]["body_conf"][0].update(linear_size=64, num_blocks=4, hidden_size=32)
    sizes = sizes_of(build(config), config)
    smallest = {}
    for way in ("rule", "deep"):
        members = "[{target: 0.8}, {target: 0.5}, {target: 0.3}]"
        text = f"family: {{allocate: {way}, members: {members}}}"
        planned = sizes_of_way(parse_plan(text, "p").stages, sizes)
        largest, others = members_of(prepared(config, text)[1])
        assert [largest, *(member.sizes for member in others)] == planned
        smallest[way] = planned[-1]
    assert smallest["deep"].num_blocks > smallest["rule"].num_blocks
    assert smallest["deep"].linear_size < smallest["rule"].linear_size


def test_members_come_from_their_family_and_other_ways_from_the_first_teacher():
    made = students(PLAN.format("stages: [{target: 0.8, epochs: 4}]\n"))
    assert [(s.name, s.teacher) for s in made] == [
        ("stage1", None), ("all", "stage1"), ("all_2", "all"), ("all_3", "all")
    ]  # fmt: skip
    (shot,) = students(PLAN.format(""), ["one_shot"])
    assert (shot.method, shot.teacher, shot.epochs) == ("cut", None, 7)  # without all_2's
    assert [s.name for s in shot.stages_above] == ["all", "all_2", "all_3"]
    (shot,) = students(PLAN.format(""), ["one_shot"], ["all"])
    assert shot.method_conf == type(shot.method_conf)() and shot.epochs == 6
    with pytest.raises(UserError, match="'all_3' is trained inside 'all'"):
        students(PLAN.format(""), ["progressive_none"])


def test_epochs_of_the_training_config_are_those_of_all_members_together():
    text = (
        "family: {members: [{target: 0.4}, {target: 0.3}], train: {max_epoch: 7, accum_grad: 2}}"
    )
    largest, member = parse_plan(text, "plan").stages
    assert largest.train.options == {"max_epoch": 7, "accum_grad": 2} and largest.epochs is None
    assert member.train.options == {"accum_grad": 2} and member.epochs == 1


def test_the_plans_cost_counts_all_members_of_an_update():
    stages = parse_plan(PLAN.format(""), "plan").stages
    sized = {s.name: SimpleNamespace(sizes=SimpleNamespace(params=n))
             for s, n in zip(stages, (70, 50, 30))}  # fmt: skip
    assert [_inside(stage, stages, sized) for stage in stages] == [80, 0, 0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("family: 3", "family: expected keys and values"),
        ("family: {}", "family: no 'members'"),
        ("family: {members: []}", "family.members: expected a list of sizes"),
        ("family: {memers: [{target: 0.4}]}", "did you mean 'members'"),
        ("family: {members: [{target: 0.4}, {}]}", r"members\[1\]: needs either .* found neither"),
        ("family: {members: [{target: 0.4}, {epochs: 3}]}", r"members\[1\]: unknown key 'epochs'"),
        (
            "family: {members: [{target: 0.4}, {target: 0.6}]}",
            r"members\[1\].target: 0.6 is not smaller than the 0.4 of 'family'",
        ),
        (
            "stages: [{target: 0.4}]\nfamily:\n  members:\n  - {target: 0.5}",
            r"plan:4: family.members\[0\].target: 0.5 is not smaller than the 0.4 of 'stage1'",
        ),
        (
            "family:\n  members:\n  - student: {encoder: {hidden_size: 15}}",
            r"plan:3: family.members\[0\].student: hidden_size 15 must be even",
        ),
        ("family: {target: 0.4, members: [{target: 0.4}]}", "target: sizes stand in 'members'"),
        ("family: {anneal: through, members: [{target: 0.4}]}", "no steps of one schedule"),
        ("family: {two_modes: 0.5, members: [{target: 0.4}]}", "would have one mode"),
        ("family: {method: retrain, members: [{target: 0.4}]}", "a family is cut"),
        ("family: {gate: {margin: 1}, members: [{target: 0.4}]}", "are not trained one after"),
        ("gate: {margin: 1}\nfamily: {members: [{target: 0.4}]}", "'gate' is for 'stages'"),
        (
            "family: {draw: 2, members: [{target: 0.4}, {target: 0.3}]}",
            "draw: found 2, and there are 0 members between",
        ),
        ("family: {in_place: 0.1, members: [{target: 0.4}]}", "in_place: found 0.1, .* are none"),
        ("family: {finish: 2, members: [{target: 0.4}]}", "finish: found 2, .* there are none"),
        ("family: {finish: 0, members: [{target: 0.4}]}", "finish: expected a whole number >= 1"),
        (
            "stages: [{target: 0.9, name: family_2}]\n"
            "family: {members: [{target: 0.4}, {target: 0.3}]}",
            "plan:2: family.name: duplicate name 'family_2'",
        ),
        (
            "stages: [{target: 0.5}, {target: 0.4, method: member, method_conf: {of: stage1}}]",
            "'stage1' is no earlier stage that trains a family with 2 members",
        ),
        (
            "stages: [{student: {}, method_conf: {gates: 9, nested: {members: [{target: 0.1}]}}}]",
            "nested: does not go with 'gates'",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as error:
        parse_plan(text, "plan")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "member, message",
    [
        ("{student: {encoder: {heads: 1}}}", "heads of 12 channels .* no part of those of 6"),
        ("{student: {decoder: {type: stateless}}}", "'stateless' is no part of the next larger"),
        ("{target: 0.01}", "no member of 0.01 fits inside .* which has 14,203 parameters"),
        ("{target: 14203}", "which has 14,203 parameters .*not fewer than the teacher's 14,203"),
    ],
)
def test_members_that_cannot_nest_are_told_before_anything_is_trained(
    here, tmp_path, member, message
):
    family = {**FAMILY, "members": [{"target": 0.85}, yaml.safe_load(member)]}
    code, err = derive(tmp_path / "s", 1, family=family)
    assert code == 1 and re.search(message, err), err
    assert "Traceback" not in err and re.search(r"plan.yaml:\d+: family.members\[1\]", err)


def test_sizes_are_named_where_they_are_written(here, tmp_path):
    code, err = derive(tmp_path / "s", 1, family={"members": [{"target": 99999999}]})
    assert code == 1 and re.search(r"plan.yaml:\d+: family.members\[0\].target: 99,999,999", err)
    (stage,) = parse_plan("stages: [{student: {}, objective: none}]", "plan").stages
    member = "method_conf.nested.members[0].target"
    assert stage.at(member) == f"plan: stages[0].{member}"
    largest, second = parse_plan("family: {members: [{target: 0.4}, {target: 0.3}]}", "p").stages
    assert largest.at(member) == second.at("target") == "p: family.members[1].target"
    assert (largest.at("epochs"), second.at("epochs")) == ("p: family.epochs", "p: family.finish")


def test_members_with_equal_parameters_do_not_nest():
    config = tiny_config()
    sizes = sizes_of(build(config), config)
    with pytest.raises(UserError, match="are not fewer than"):
        check_nests(sizes, sizes, "here")
