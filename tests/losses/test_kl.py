"""Distillation losses against loops that read like their definitions."""

import math

import pytest
import torch

from espnet_kd.losses import collapsed_kl, full_kl, reduce_nodes

B, T, U, V = 3, 47, 31, 123
T_LEN, U_LEN = torch.tensor([47, 20, 1]), torch.tensor([31, 0, 7])


def lattices(dtype=torch.float64, size=(B, T, U + 1, V), scale=1.0):
    torch.manual_seed(0)
    labels = torch.randint(1, size[3], (size[0], size[2] - 1))
    student = (scale * torch.randn(size, dtype=dtype)).requires_grad_()
    return student, scale * torch.randn(size, dtype=dtype), labels


def reference_full(student, teacher, temperature):
    """Sum over utterances of the mean over own nodes."""
    total = 0.0
    for b in range(len(T_LEN)):
        p = (teacher[b] / temperature).softmax(-1)
        q = (student[b] / temperature).softmax(-1)
        kl = (p * (p / q).log()).sum(-1) * temperature**2
        total = total + kl[: T_LEN[b], : U_LEN[b] + 1].mean()
    return total


def reference_collapsed(student, teacher, labels, temperature):
    total = 0.0
    for b in range(len(T_LEN)):
        p = (teacher[b] / temperature).softmax(-1)
        q = (student[b] / temperature).softmax(-1)
        nodes = []
        for u in range(int(U_LEN[b]) + 1):
            classes = [0] if u == U_LEN[b] else [0, int(labels[b, u])]
            rest = [v for v in range(V) if v not in classes]
            ps = [p[: T_LEN[b], u, c] for c in classes] + [p[: T_LEN[b], u, rest].sum(-1)]
            qs = [q[: T_LEN[b], u, c] for c in classes] + [q[: T_LEN[b], u, rest].sum(-1)]
            nodes.append(sum(pi * (pi / qi).log() for pi, qi in zip(ps, qs)))
        total = total + torch.stack(nodes).mean() * temperature**2
    return total


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("objective", ["full", "collapsed"])
@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_readable_reference(objective, temperature, dtype, rtol):
    student, teacher, labels = lattices(dtype)
    if objective == "full":
        kl = full_kl(student, teacher, temperature)
        expected = reference_full(student, teacher, temperature)
    else:
        kl = collapsed_kl(student, teacher, labels, U_LEN, temperature)
        expected = reference_collapsed(student, teacher, labels, temperature)
    loss = reduce_nodes(kl, T_LEN, U_LEN, "node").sum()
    torch.testing.assert_close(loss, expected, rtol=rtol, atol=0)
    got = torch.autograd.grad(loss, student)[0]
    want = torch.autograd.grad(expected, student)[0]
    assert (got - want).norm() <= rtol * want.norm()


@pytest.mark.parametrize("objective", ["full", "collapsed"])
def test_gradcheck(objective):
    student, teacher, labels = lattices(size=(2, 3, 4, 6))
    t_len, u_len = torch.tensor([3, 2]), torch.tensor([3, 1])

    def loss(x):
        kl = (
            full_kl(x, teacher) if objective == "full" else collapsed_kl(x, teacher, labels, u_len)
        )
        return reduce_nodes(kl, t_len, u_len)

    assert torch.autograd.gradcheck(loss, (student,))


@pytest.mark.parametrize("objective", ["full", "collapsed"])
def test_padding_has_no_influence(objective):
    student, teacher, labels = lattices()
    results = []
    for filler in (0.0, 1e4, float("nan")):
        s, t = student.detach().clone(), teacher.clone()
        s[1, 20:], t[1, 20:], s[1, :, 1:], t[1, :, 1:] = (filler,) * 4
        kl = full_kl(s, t) if objective == "full" else collapsed_kl(s, t, labels, U_LEN)
        results.append(reduce_nodes(kl, T_LEN, U_LEN))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])


def test_a_padding_label_is_not_the_next_label():
    """The row u = u_len has two classes whatever the padding of the labels is."""
    student, teacher, labels = lattices()
    other = labels.clone()
    other[2, 7:] = 5
    a = reduce_nodes(collapsed_kl(student, teacher, labels, U_LEN), T_LEN, U_LEN)
    b = reduce_nodes(collapsed_kl(student, teacher, other, U_LEN), T_LEN, U_LEN)
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("objective", ["full", "collapsed"])
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_zero_for_equal_models_and_finite_at_extremes(objective, scale):
    student, teacher, labels = lattices(torch.float32, (2, 4, 3, 9), scale)
    t_len, u_len = torch.tensor([4, 3]), torch.tensor([2, 1])
    for t, expected in ((student.detach(), 0.0), (teacher, None)):
        kl = (
            full_kl(student, t) if objective == "full" else collapsed_kl(student, t, labels, u_len)
        )
        loss = reduce_nodes(kl, t_len, u_len).sum()
        (grad,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(grad).all()
        assert float(loss) >= -1e-4
        if expected is not None:
            assert abs(float(loss)) < 1e-4


def test_collapsing_cannot_increase_the_divergence():
    """Data processing inequality: fewer classes, less to tell apart."""
    student, teacher, labels = lattices()
    three = collapsed_kl(student, teacher, labels, torch.full((B,), U))
    assert (three <= full_kl(student, teacher) + 1e-12).all()


def test_normalizations():
    ones = torch.ones(2, 5, 4)
    t_len, u_len = torch.tensor([5, 2]), torch.tensor([3, 1])
    assert reduce_nodes(ones, t_len, u_len, "sum").tolist() == [20, 4]
    assert reduce_nodes(ones, t_len, u_len, "node").tolist() == [1, 1]
    assert reduce_nodes(ones, t_len, u_len, "path").tolist() == [8, 3]
    with pytest.raises(ValueError, match="normalize must be one of"):
        reduce_nodes(ones, t_len, u_len, "mean")


def test_known_value():
    """Teacher (1/2, 1/4, 1/4), student uniform: ln 3 - 1.5 ln 2."""
    teacher = torch.tensor([0.5, 0.25, 0.25]).log().expand(1, 1, 2, 3)
    kl = collapsed_kl(torch.zeros(1, 1, 2, 3), teacher, torch.tensor([[1]]), torch.tensor([1]))
    assert kl[0, 0, 0] == pytest.approx(math.log(3) - 1.5 * math.log(2), rel=1e-5)
    # u = U: {blank, rest} = (1/2, 1/2) against (1/3, 2/3)
    expected = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 1.5)
    assert kl[0, 0, 1] == pytest.approx(expected, rel=1e-5)
