"""Targets in bytes: the file that is written, against what was allowed."""

import pytest
import torch

from espnet_kd.common.device_weights import bytes_of_floats, write_device
from espnet_kd.errors import UserError
from espnet_kd.espnet.exports import for_device
from espnet_kd.methods import method_named
from espnet_kd.methods.cutter import Cutter
from espnet_kd.methods.protocol import Job, Model
from espnet_kd.spec.size_table import PER_HEAD, SHAPES
from espnet_kd.spec.stage import read_stage
from espnet_kd.spec.target import parse_target
from espnet_kd.students.checkpoint_size import (
    NOTHING,
    beside,
    checkpoint_bytes,
    for_target,
    shrink_to_bytes,
)
from espnet_kd.students.importance import spaced_blocks
from espnet_kd.students.model_config import config_of
from tests.espnet.tiny import build, tiny_config
from tests.students.test_students import VARIANTS, sizes

NAME = "valid.loss_transducer.ave_10best.pth"


def teacher_of(vocabulary, blocks=6, width=96, **changes):
    config = tiny_config(**changes)
    config["token_list"] = ["<blank>", *map(str, range(vocabulary - 2)), "<sos/eos>"]
    block = {**config["encoder_conf"]["body_conf"][0], "hidden_size": width, "heads": 4}
    block.update(linear_size=4 * width, num_blocks=blocks, conv_mod_kernel_size=15)
    config["encoder_conf"]["body_conf"] = [block]
    config["decoder_conf"] = {**config["decoder_conf"], "embed_size": 64, "hidden_size": width}
    config["joint_network_conf"] = {**config["joint_network_conf"], "joint_space_size": width}
    return config


def written(config, student, folder):
    """Build a student and return the size of its file."""
    kept = spaced_blocks(config["encoder_conf"]["body_conf"][0]["num_blocks"], student.num_blocks)
    net = build({**config, **config_of(student, config, kept)})
    torch.save(net.state_dict(), folder / NAME)
    return (folder / NAME).stat().st_size


@pytest.mark.parametrize("vocabulary", [20, 500, 5000])
@pytest.mark.parametrize("share", [0.3, 0.62])
@pytest.mark.parametrize("ctc", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_file_keeps_the_promise_and_uses_it(tmp_path, vocabulary, share, ctc, shape):
    config = teacher_of(vocabulary, model_conf={"auxiliary_ctc_weight": ctc})
    net, teacher = build(config), sizes(config)
    others = beside(net.state_dict(), config)
    size = round(checkpoint_bytes(teacher, others) * share / 1e6, 2)
    target = parse_target(f"{size} MB", "plan")
    student = for_target(teacher, target, 0, others, "plan", shape=SHAPES[shape])
    got = written(config, student, tmp_path)
    assert 0.98 * target.bytes <= got <= target.bytes


@pytest.mark.parametrize("config", [c for _, c in VARIANTS], ids=[n for n, _ in VARIANTS])
def test_no_file_is_larger_than_predicted(tmp_path, config):
    net = build(config)
    torch.save(net.state_dict(), tmp_path / NAME)
    predicted = checkpoint_bytes(sizes(config), beside(net.state_dict(), config))
    assert 0 <= predicted - (tmp_path / NAME).stat().st_size < 60 * len(net.state_dict())


def test_a_head_that_training_adds_counts():
    config = teacher_of(500, model_conf={})
    others = beside(build(config).state_dict(), config)
    more = others.trained_with({"model_conf": {"auxiliary_ctc_weight": 0.3}})
    teacher = sizes(config)
    head = 500 * (teacher.hidden_size + 1)
    assert (
        0 <= checkpoint_bytes(teacher, more) - checkpoint_bytes(teacher, others) - 4 * head < 999
    )
    assert more.trained_with({"model_conf": {"auxiliary_ctc_weight": 0}}).heads == ()


def stage_of(**entry):
    return read_stage("plan", 1, {"objective": "full", "weight": 0.5, **entry}, None, {})


@pytest.mark.parametrize("share", [0.3, 0.62])
def test_measured_sizes_use_the_promise_too(tmp_path, share, monkeypatch):
    config = teacher_of(500)
    net, teacher = build(config), sizes(config)
    others = beside(net.state_dict(), config)
    most = round(checkpoint_bytes(teacher, others) * share / 1e6, 2)
    stage = stage_of(target=f"{most} MB", allocate="sensitivity")
    monkeypatch.setattr(Cutter, "_untrained_loss", lambda self, s: teacher.params / s.params)
    student = Cutter(stage, Model(config, net, teacher), object(), build).sizes(teacher, others)
    got = written(config, student, tmp_path)
    assert 0.98 * stage.target.bytes <= got <= stage.target.bytes


@pytest.mark.parametrize("most", [0.1, 0.27])
def test_measured_sizes_of_a_large_step_are_steered_by_bytes(most, monkeypatch):
    # What a file holds beside goes with the blocks: as much as the teacher's was taken off a
    # student's, which left the descent a number below zero, or a whole predictor to be filled in.
    config = teacher_of(7, blocks=12, width=64)
    net, teacher = build(config), sizes(config)
    others = beside(net.state_dict(), config)
    stage = stage_of(target=f"{most} MB", allocate="sensitivity")
    monkeypatch.setattr(Cutter, "_untrained_loss", lambda self, s: teacher.params / s.params)
    student = Cutter(stage, Model(config, net, teacher), object(), build).sizes(teacher, others)
    assert 0.9e6 * most <= checkpoint_bytes(student, others) <= 1e6 * most
    assert student.count()["encoder"] > 0.5 * student.params


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_factors_use_the_promise_of_the_file_for_a_device(tmp_path, share):
    config = teacher_of(500, model_conf={"auxiliary_ctc_weight": 0.3})
    net, teacher = build(config), sizes(config)
    write_device(for_device(net.state_dict()), tmp_path / "device.npz")
    whole = (tmp_path / "device.npz").stat().st_size
    shapes = {name: w.shape for name, w in for_device(net.state_dict()).items()}
    assert whole == bytes_of_floats(shapes)
    stage = stage_of(method="low_rank", target=f"{share * whole / 1e6:.3f} MB")
    method = method_named("low_rank")
    made = method.prepare(Job(stage, Model(config, net, teacher), teacher, None, build))
    exported = method.export(made.state, made.method_conf)
    write_device(for_device(exported.device), tmp_path / "device.npz")
    got = (tmp_path / "device.npz").stat().st_size
    assert 0.98 * stage.target.bytes <= got <= stage.target.bytes
    planned = method.on_device(stage, teacher.params, teacher.params, lambda: net)
    assert 0.98 * got <= planned.bytes <= stage.target.bytes
    assert 0.98 * planned.params <= made.report["effective_params"] <= planned.params


def test_what_cannot_be_is_refused():
    config = teacher_of(20)
    teacher, others = sizes(config), beside(build(config).state_dict(), config)
    with pytest.raises(UserError, match="plan: 99,000,000 bytes of the checkpoint are not fewer"):
        shrink_to_bytes(teacher, 99_000_000, others, "plan")
    with pytest.raises(UserError, match="at most 5,000 bytes .* can be derived; the smallest has"):
        shrink_to_bytes(teacher, 5_000, others, "plan")
    with pytest.raises(UserError) as told:
        teacher.shrink_to(9, "plan")
    least = int(str(told.value).rpartition(" ")[2].replace(",", ""))
    assert teacher.shrink_to(least, "plan").params == least


@pytest.mark.parametrize("blocks", [4, 12])
@pytest.mark.parametrize("share", [0.01, 0.04, 0.08, 0.2, 0.5, 0.8])
def test_deep_keeps_more_blocks_and_gives_up_feed_forward_units_first(share, blocks):
    teacher = sizes(teacher_of(30, blocks=blocks, width=128))
    target = parse_target(share, "plan")
    deep, rule = (
        for_target(teacher, target, teacher.params, NOTHING, "plan", shape=SHAPES[name])
        for name in ("deep", "rule")
    )
    deep.check("plan")
    assert 0.94 * share * teacher.params < deep.params <= share * teacher.params
    assert deep.num_blocks >= rule.num_blocks and not deep.blocks_differ
    # No splinters: where heads are narrow, there is no block more than the rule has.
    assert deep.hidden_size >= teacher.narrowest or deep.num_blocks == rule.num_blocks
    assert deep.linear_size / teacher.linear_size < rule.linear_size / teacher.linear_size
    if deep.num_blocks == rule.num_blocks:
        assert deep.hidden_size >= rule.hidden_size
    assert deep == for_target(
        teacher, target, teacher.params, NOTHING, "plan", shape=SHAPES["deep"]
    )


@pytest.mark.parametrize("unit", ["", " kB"])
def test_a_way_of_many_steps_leaves_no_splinters_either(unit):
    # Each step might halve the width, and kept its blocks: four blocks of width 8, two a head.
    config = teacher_of(30, blocks=4, width=128)
    student = teacher = sizes(config)
    others = beside(build(config).state_dict(), config)
    for share in (0.46, 0.21, 0.1, 0.046, 0.022, 0.01):
        size = int(share * checkpoint_bytes(teacher, others) / 1000)
        target = parse_target(f"{size}{unit}" if unit else share, "plan")
        above = student
        student, rule = (
            for_target(above, target, teacher.params, others, "plan", shape=SHAPES[name])
            for name in ("deep", "rule")
        )
        narrow = student.hidden_size < min(PER_HEAD * student.heads, above.hidden_size)
        assert not narrow or student.num_blocks <= rule.num_blocks


def test_parameters_are_counted_as_they_were():
    config = teacher_of(500)
    teacher, others = sizes(config), beside(build(config).state_dict(), config)
    for share in (0.3, 0.5, 0.8):
        target = parse_target(share, "plan")
        student = for_target(teacher, target, teacher.params, others, "plan")
        assert student == teacher.shrink_to(int(share * teacher.params), "plan")
