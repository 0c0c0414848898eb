"""Losses of auxiliary layers: exact values, padding, and what a mask hides."""

import math

import pytest
import torch

from espnet_kd.losses.auxiliary import future_distance, l1_cosine, relation_kl

T_LEN = torch.tensor([6, 3])
EQUAL = math.log(1 + math.exp(-1))  # -log sigmoid(1)


def drawn(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def test_equal_frames_count_what_is_promised():
    x = drawn(2, 6, 8)
    assert l1_cosine(x, x, T_LEN).tolist() == pytest.approx([6 * EQUAL, 3 * EQUAL])
    both = [drawn(2, 6, 8, seed=s) for s in range(3)]
    assert relation_kl(both, both, T_LEN, 2).abs().max() < 1e-6
    # Frame t + 2 of the teacher: four of six frames have one, and one of three.
    moved = torch.roll(x, -2, dims=1)
    expected = [4 * EQUAL, 1 * EQUAL]
    assert future_distance(moved, x, T_LEN, 2).tolist() == pytest.approx(expected, rel=1e-5)
    for frames in (1, 2):  # no frame has one; a gradient, of zeros, is there nevertheless
        short = x[:, :frames].clone().requires_grad_()
        nothing = future_distance(short, x[:, :frames], T_LEN.clamp(max=frames), 2)
        assert nothing.tolist() == [0, 0]
        assert not torch.autograd.grad(nothing.sum(), short)[0].any()


def test_relations_are_those_of_the_formula():
    s, t = drawn(1, 4, 6, seed=1), drawn(1, 4, 8, seed=2)
    expected = 0.0
    for a in range(2):
        ours, theirs = s[0, :, 3 * a : 3 * a + 3], t[0, :, 4 * a : 4 * a + 4]
        for k in range(4):
            q = (ours[k] @ ours.T / 3**0.5).log_softmax(-1)
            p = (theirs[k] @ theirs.T / 4**0.5).log_softmax(-1)
            expected += float((p.exp() * (p - q)).sum()) / 2
    assert relation_kl([s], [t], torch.tensor([4]), 2).item() == pytest.approx(expected, rel=1e-5)


def test_padding_counts_nothing_and_gets_no_gradient():
    s, t = drawn(2, 6, 8, seed=1), drawn(2, 6, 8, seed=2)
    s[1, 3:], t[1, 3:] = math.nan, math.inf
    s.requires_grad_()
    for loss in (
        l1_cosine(s, t, T_LEN),
        future_distance(s, t, T_LEN, 2),
        relation_kl([s], [t], T_LEN, 4),
    ):
        (grad,) = torch.autograd.grad(loss.sum(), s)
        assert torch.isfinite(loss).all() and grad[0].abs().sum() > 0
        assert not grad[1, 3:].any() and torch.isfinite(grad).all()
    one = relation_kl([s[:, :1]], [t[:, :1]], torch.tensor([1, 1]), 4)
    assert one.tolist() == [0, 0]


def test_a_frame_does_not_relate_to_what_is_hidden():
    s, t = (drawn(1, 5, 8, seed=n).requires_grad_() for n in (1, 2))
    frame = torch.arange(5)
    past = frame <= frame[:, None]
    first = relation_kl([s], [t], torch.tensor([5]), 2, past)
    changed = t.detach().clone()
    changed[:, 4] += 1.0  # only the last frame relates to it
    rest = relation_kl([s], [changed], torch.tensor([5]), 2, past) - first
    (grad,) = torch.autograd.grad(rest.sum(), s)
    assert rest.abs() > 1e-4 and grad[0, 4].abs().sum() > 0
