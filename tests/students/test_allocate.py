"""Sizes by sensitivity: what matters is kept, the target is met, measurements are few."""

import dataclasses

import pytest

from espnet_kd.errors import UserError
from espnet_kd.students.allocate import allocate, axes_of
from espnet_kd.students.architecture import Architecture

TEACHER = Architecture(
    features=80,
    vocab=200,
    num_blocks=8,
    hidden_size=128,
    linear_size=512,
    heads=4,
    kernel_size=15,
    conv_size=64,
    conv_size1=0,
    subsampling=4,
    decoder="rnn",
    rnn_type="lstm",
    rnn_layers=1,
    embed_size=64,
    decoder_size=128,
    joint_size=128,
)


def sensitive_to(field):
    """A loss that only this size has a say in."""
    calls = []

    def loss(student):
        calls.append(student)
        return 10.0 * (getattr(TEACHER, field) - getattr(student, field))

    return loss, calls


@pytest.mark.parametrize("field", ["num_blocks", "hidden_size", "linear_size", "decoder_size"])
@pytest.mark.parametrize("share", [0.9, 0.6])
def test_what_the_loss_needs_is_kept(field, share):
    loss, calls = sensitive_to(field)
    student = allocate(TEACHER, int(share * TEACHER.params), loss, "plan")
    assert getattr(student, field) == getattr(TEACHER, field)
    assert student.params <= share * TEACHER.params
    assert len(calls) <= 40
    assert allocate(TEACHER, int(share * TEACHER.params), loss, "plan") == student


@pytest.mark.parametrize("share", [0.95, 0.5, 0.2, 0.05])
def test_the_target_is_met_closely(share):
    """A loss that grows evenly, in which every axis has a part."""

    def loss(student):
        names = [axis.field for axis in axes_of(TEACHER)]
        return sum(getattr(TEACHER, name) / getattr(student, name) for name in names)

    student = allocate(TEACHER, int(share * TEACHER.params), loss, "plan")
    student.check("plan")
    assert 0.95 * share * TEACHER.params < student.params <= share * TEACHER.params


def test_measurements_are_bounded_and_few_are_warned_of(caplog):
    loss, calls = sensitive_to("hidden_size")
    student = allocate(TEACHER, TEACHER.params // 10, loss, "plan", measurements=12)
    assert len(calls) == 36 and student.params <= TEACHER.params // 10  # of three legs
    assert "was not measured, 12 measurements were too few; look at the sizes" in caplog.text


@pytest.mark.parametrize("share", [0.08, 0.04])
@pytest.mark.parametrize("cheap", ["hidden_size", "decoder_size", "joint_size", "num_blocks"])
def test_what_seems_to_cost_nothing_is_not_cut_to_pieces(share, cheap, caplog):
    """The loss of a model that is past all hope, which one axis does not change."""
    calls = []

    def loss(student):
        calls.append(student.params)
        names = [axis.field for axis in axes_of(TEACHER) if axis.field != cheap]
        return sum(getattr(TEACHER, name) / getattr(student, name) for name in names)

    student = allocate(TEACHER, int(share * TEACHER.params), loss, "plan")
    root = share**0.5
    assert student.hidden_size >= max(32, root * 128 - 8) and student.num_blocks >= 2
    assert student.decoder_size > root * 128 - 8 and student.joint_size > root * 128 - 8
    # Measured all the way down, not on the first third of it alone.
    assert min(calls) < 1.5 * student.params and "was not measured" not in caplog.text
    assert "is large for 'allocate: sensitivity'" in caplog.text


def test_the_rule_keeps_two_blocks_while_they_are_wide_enough():
    four = dataclasses.replace(TEACHER, num_blocks=4, linear_size=256)
    assert four.shrink_to(four.params // 12, "plan").num_blocks == 2
    assert four.shrink_to(four.params // 25, "plan").num_blocks == 1  # heads of 8 channels
    least = dataclasses.replace(four, num_blocks=1, linear_size=8)
    assert least.shrink_to(least.params // 2, "plan").num_blocks == 1


def test_the_cheapest_parameters_go_first():
    """The first step is the one with the least loss a parameter, by exact counts."""
    price = {"linear_size": 1.0, "joint_size": 0.001}

    def loss(student):
        return sum(p * (getattr(TEACHER, f) - getattr(student, f)) for f, p in price.items()) + (
            1e6 * (student.num_blocks < 8)
            + 1e6 * (dataclasses.replace(student, linear_size=512, joint_size=128) != TEACHER)
        )

    student = allocate(TEACHER, TEACHER.params - 1, loss, "plan")
    assert student == dataclasses.replace(TEACHER, joint_size=120)


def test_targets_out_of_reach_are_refused():
    with pytest.raises(UserError, match="no student of at most 10 parameters"):
        allocate(TEACHER, 10, lambda student: 0.0, "plan")
    with pytest.raises(UserError, match="not fewer than the teacher's"):
        allocate(TEACHER, TEACHER.params, lambda student: 0.0, "plan")


def test_other_models_have_other_axes():
    stateless = dataclasses.replace(TEACHER, decoder="stateless", embed_size=128)
    student = allocate(stateless, stateless.params // 2, lambda student: 0.0, "plan")
    assert student.embed_size == student.decoder_size
    vgg = dataclasses.replace(TEACHER, conv_size1=32)
    assert "front end" not in [axis.label for axis in axes_of(vgg)]
