"""Chunks across utterances: the same numbers, and nothing is asked of the device."""

import warnings

import pytest
import torch

from espnet_kd.lattice import Joint, Lengths, stats
from espnet_kd.lattice.packed import packed
from espnet_kd.objective import Objective, Posteriors, distillation_losses
from tests.lattice.host_waits import HostWaits
from tests.lattice.materialised import random_joint, random_labels
from tests.lattice.test_windows import BAND, LENGTHS, aligned_joint

B, T, U, V = 4, 23, 11, 37
T_LEN, U_LEN = torch.tensor([23, 20, 1, 9]), torch.tensor([11, 0, 7, 10])
LABELS = random_labels(B, U, V)
OBJECTIVES = [
    Objective("collapsed"),
    Objective("collapsed", nodes="occupancy", temperature=2.0),
    Objective("collapsed", nodes="one_best"),
    Objective("full", divergence="symmetric"),
    Objective("top_k"),
    Objective("full_sum"),
]


def gradients(objective, budget=None, student=None, lengths=(T_LEN, U_LEN)):
    """Losses, and gradients of the student."""
    student, teacher = student or random_joint(B, T, U, V), random_joint(B, T, U, V, seed=3)
    losses = distillation_losses(student, teacher, LABELS, *lengths, objective, 0.01, budget)
    loss = (losses.rnnt + losses.kd).sum()
    return losses.rnnt, losses.kd, *torch.autograd.grad(loss, student[:4])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda x: f"{x.objective}-{x.nodes}")
@pytest.mark.parametrize("budget", [1, 60_000, 10**9])
def test_they_give_the_numbers_of_utterances_one_by_one(objective, budget, monkeypatch):
    want = gradients(objective, budget)
    monkeypatch.setattr(stats, "packs", lambda device: True)
    for a, b in zip(gradients(objective, budget), want):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_half_precision(monkeypatch):
    halves = random_joint(B, T, U, V, dtype=torch.float32)
    halves = Joint(*(x.detach().bfloat16().requires_grad_() for x in halves[:4]))
    want = gradients(Objective(), student=halves)
    monkeypatch.setattr(stats, "packs", lambda device: True)
    for a, b in zip(gradients(Objective(), student=halves), want):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("blank, label", [(True, False), (False, True), (True, True)])
def test_classes_that_can_never_be_said(blank, label, monkeypatch):
    """Where no GPU is asked whether there are any."""
    student = random_joint(B, T, U, V)
    bias = student.bias.detach().clone()
    bias[0] = float("-inf") if blank else bias[0]
    bias[int(LABELS[0, 0])] = float("-inf") if label else bias[1]
    student = student._replace(bias=bias.requires_grad_())

    def gradient():
        walked = stats.node_stats(student, LABELS, T_LEN, U_LEN)
        there = torch.where(torch.isfinite(walked), walked, 0.0)
        weight = torch.arange(1.0, there.numel() + 1, dtype=there.dtype).view(there.shape)
        return torch.autograd.grad((weight * there).sum() / there.numel(), student[:4])

    want = gradient()
    monkeypatch.setattr(stats, "packs", lambda device: True)
    monkeypatch.setattr("espnet_kd.lattice.change.asks", lambda device: False)
    for a, b in zip(gradient(), want):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_pieces_hold_every_node_once_and_no_more_than_they_may():
    lengths = Lengths(T_LEN, U_LEN, (B, T, U + 1), torch.device("cpu"))
    pieces = list(packed(lengths, 1, 50))
    places = torch.cat([piece.place for piece in pieces])
    inside = (torch.arange(T) < T_LEN[:, None])[:, :, None]
    inside = inside & (torch.arange(U + 1) <= U_LEN[:, None])[:, None]
    assert torch.equal(places, inside.flatten().nonzero()[:, 0])
    assert max(len(piece.frame) for piece in pieces) <= 50
    assert len(pieces) <= lengths.nodes / 50 * 1.5
    assert any(len(piece.parts) > 1 for piece in pieces)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """What hangs on the device alone is as there."""
    monkeypatch.setattr(stats, "packs", lambda device: True)
    monkeypatch.setattr("espnet_kd.lattice.change.asks", lambda device: False)
    monkeypatch.setattr("espnet_kd.lattice.nodes.asks", lambda device: False)
    monkeypatch.setattr("espnet_kd.losses.kl.asks", lambda device: False)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda x: f"{x.objective}-{x.nodes}")
def test_the_host_waits_for_nothing(objective, as_on_a_gpu):
    """Lengths are on the host."""
    with HostWaits() as waits:
        gradients(objective)
    assert waits.names == [] and waits.operators > 50


def test_a_cached_teacher_makes_the_host_wait_for_nothing(as_on_a_gpu):
    three = stats.node_stats(random_joint(B, T, U, V), LABELS, T_LEN, U_LEN).detach()
    student = random_joint(B, T, U, V, seed=1)
    with HostWaits() as waits:
        cache = Posteriors(three, torch.ones_like(three[..., 0]))
        losses = distillation_losses(student, cache, LABELS, T_LEN, U_LEN)
        (losses.rnnt + losses.kd).sum().backward()
    assert waits.names == []


@pytest.mark.parametrize("label", [V, -1])
def test_a_label_outside_the_vocabulary_is_told_without_a_wait(label, as_on_a_gpu):
    """By the device: a kernel would read beside the logits, and go on."""
    labels, joint = LABELS.clone(), random_joint(B, T, U, V)
    labels[0, 3] = label
    with HostWaits() as waits, pytest.raises(RuntimeError, match=r"labels must lie in \[0, 36\]"):
        stats.node_stats(joint, labels, T_LEN, U_LEN)
    assert waits.names == []


@pytest.mark.parametrize("cached, most", [(True, 1), (False, 3)])
def test_a_band_makes_the_host_wait_for_its_size_alone(cached, most, as_on_a_gpu, monkeypatch):
    """On-line also for the size of the band that is looked at, and whether that was enough."""
    monkeypatch.setattr("espnet_kd.lattice.windows.CROWDED", 2.0)  # as of longer texts, it is
    (teacher, labels), (student, _) = aligned_joint(), aligned_joint(1)
    if cached:
        teacher = Posteriors(stats.node_stats(teacher, labels, *LENGTHS).detach())
    student = Joint(*(x.requires_grad_() for x in student[:4]))
    with HostWaits() as waits:
        losses = distillation_losses(student, teacher, labels, *LENGTHS, BAND)
        (losses.rnnt + losses.kd).sum().backward()
    assert waits.names == ["tolist"] * most and float(losses.band.nodes) < 0.9


def test_the_counter_counts():
    x = torch.arange(3.0)
    with HostWaits() as waits:
        assert float(x.sum()) == 3.0 and bool((x >= 0).all()) and len(x[x > 0]) == 2
        x.nonzero()
        x.tolist()
    assert waits.names == ["_local_scalar_dense"] * 2 + ["index", "nonzero", "tolist"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda x: f"{x.objective}-{x.nodes}")
def test_a_gpu_is_never_waited_for(objective):
    student, teacher = (
        Joint(*(x.detach().float().cuda().requires_grad_() for x in random_joint(B, T, U, V)[:4]))
        for _ in range(2)
    )
    labels = LABELS.cuda()

    def step():
        losses = distillation_losses(student, teacher, labels, T_LEN, U_LEN, objective)
        (losses.rnnt + losses.kd).sum().backward()

    step()  # kernels are compiled, libraries loaded
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("cached, most", [(True, 1), (False, 3)])
def test_a_gpu_is_waited_for_by_a_band_no_oftener(cached, most, monkeypatch):
    monkeypatch.setattr("espnet_kd.lattice.windows.CROWDED", 2.0)
    (teacher, labels), (student, _) = aligned_joint(), aligned_joint(1)
    labels, teacher = labels.cuda(), Joint(*(x.float().cuda() for x in teacher[:4]))
    if cached:
        teacher = Posteriors(stats.node_stats(teacher, labels, *LENGTHS).detach())
    student = Joint(*(x.float().cuda().requires_grad_() for x in student[:4]))

    def step():
        losses = distillation_losses(student, teacher, labels, *LENGTHS, BAND)
        (losses.rnnt + losses.kd).sum().backward()

    step()  # kernels are compiled, libraries loaded
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(x.filename) + f":{x.lineno}" for x in said if "synchronizing" in str(x.message)]
    assert len(waits) <= most, waits
