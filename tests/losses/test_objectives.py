"""Distillation objectives against loops that read like their definitions."""

import math

import pytest
import torch

from espnet_kd.lattice import Joint, node_stats
from espnet_kd.losses import FullKL, TopKKL, collapsed_kl, divergence, reduce_nodes
from tests.lattice.materialised import logits_of, random_joint, random_labels, three_of

B, T, U, V = 3, 47, 31, 123
T_LEN, U_LEN = torch.tensor([47, 20, 1]), torch.tensor([31, 0, 7])
LABELS = random_labels(B, U, V)
CASES = [(o, k) for o in ("full", "collapsed") for k in ("forward", "reverse", "symmetric")]


def distil(objective, kind, student, teacher, temperature=1.0, lattice=None):
    """What the model does: divergence of every node. (B, T, U + 1)"""
    lattice = lattice or (LABELS, T_LEN, U_LEN)
    student, teacher = student.tempered(temperature), teacher.tempered(temperature)
    if objective == "full":
        return node_stats(student, *lattice, FullKL(teacher, kind))[..., 3]
    return collapsed_kl(node_stats(student, *lattice), node_stats(teacher, *lattice), kind)


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


def reference(objective, kind, student, teacher, temperature):
    """Mean over each utterance's own nodes, summed over utterances."""
    total = 0.0
    s, t = logits_of(student) / temperature, logits_of(teacher).detach() / temperature
    if objective == "collapsed":
        s, t = three_of(s, LABELS, U_LEN).exp(), three_of(t, LABELS, U_LEN).exp()
    else:
        s, t = s.softmax(-1), t.softmax(-1)
    for b in range(B):
        nodes = []
        for u in range(int(U_LEN[b]) + 1):
            p, q = t[b, : T_LEN[b], u], s[b, : T_LEN[b], u]
            if objective == "collapsed" and u == U_LEN[b]:
                p, q = p[:, [0, 2]], q[:, [0, 2]]  # no next label
            both = {"forward": kl(p, q), "reverse": kl(q, p)}
            both["symmetric"] = (both["forward"] + both["reverse"]) / 2
            nodes.append(both[kind])
        total = total + torch.stack(nodes).mean()
    return total


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("objective, kind", CASES)
def test_equals_the_readable_reference(objective, kind, dtype, rtol, temperature):
    student, teacher = random_joint(dtype=dtype), random_joint(dtype=dtype, D=24, seed=1)
    exact = random_joint()
    nodes = distil(objective, kind, student, teacher, temperature)
    loss = reduce_nodes(nodes, T_LEN, U_LEN, "node").sum()
    # The reference is float64 always: float32 is what is judged.
    expected = reference(objective, kind, exact, random_joint(D=24, seed=1), temperature)
    torch.testing.assert_close(loss.double(), expected, rtol=rtol, atol=0)
    got = torch.autograd.grad(loss, student[:4])
    want = torch.autograd.grad(expected, exact[:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize("objective, kind", CASES)
def test_gradcheck(objective, kind):
    student, teacher = (random_joint(2, 3, 3, 6, 4, seed=s) for s in (0, 1))
    lattice = (random_labels(2, 3, 6), torch.tensor([3, 2]), torch.tensor([3, 1]))

    def loss(*parts):
        nodes = distil(objective, kind, Joint(*parts), teacher, lattice=lattice)
        return reduce_nodes(nodes, *lattice[1:])

    assert torch.autograd.gradcheck(loss, student[:4], fast_mode=True)


@pytest.mark.parametrize("objective, kind", CASES)
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_zero_for_equal_models_and_finite_at_extremes(objective, kind, scale):
    student = random_joint(dtype=torch.float32, scale=scale)
    other = random_joint(dtype=torch.float32, scale=scale, seed=1)
    for teacher, same in ((student, True), (other, False)):
        nodes = distil(objective, kind, student, teacher)
        loss = reduce_nodes(nodes, T_LEN, U_LEN).sum()
        for grad in torch.autograd.grad(loss, student[:4]):
            assert torch.isfinite(grad).all()
        assert loss.item() > -1e-3
        if same:
            assert abs(loss.item()) < 1e-2 * (T_LEN + U_LEN).sum()


@pytest.mark.parametrize("objective, kind", CASES)
def test_a_padding_label_is_not_the_next_label(objective, kind):
    """The row u = u_len has two classes whatever the padding of the labels is."""
    student, teacher = random_joint(), random_joint(seed=1)
    other = LABELS.clone()
    other[2, 7:], other[1] = 5, 0
    a = distil(objective, kind, student, teacher)
    b = distil(objective, kind, student, teacher, lattice=(other, T_LEN, U_LEN))
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_collapsing_cannot_increase_the_divergence():
    """Data processing inequality: fewer classes, less to tell apart."""
    student, teacher = random_joint(), random_joint(seed=1)
    three = distil("collapsed", "forward", student, teacher)
    assert (three <= distil("full", "forward", student, teacher) + 1e-12).all()


def test_normalizations():
    ones = torch.ones(2, 5, 4)
    t_len, u_len = torch.tensor([5, 2]), torch.tensor([3, 1])
    assert reduce_nodes(ones, t_len, u_len, "sum").tolist() == [20, 4]
    assert reduce_nodes(ones, t_len, u_len, "node").tolist() == [1, 1]
    assert reduce_nodes(ones, t_len, u_len, "path").tolist() == [8, 3]
    with pytest.raises(ValueError, match="normalize must be one of"):
        reduce_nodes(ones, t_len, u_len, "mean")
    ones[1, 2:], ones[1, :, 2:] = float("nan"), float("inf")
    assert reduce_nodes(ones, t_len, u_len, "node").tolist() == [1, 1]


def test_known_values():
    """Teacher (1/2, 1/4, 1/4), student uniform: ln 3 - 1.5 ln 2."""
    teacher = torch.tensor([0.5, 0.25, 0.25]).log()
    student = torch.full((3,), 1 / 3).log()
    expected = math.log(3) - 1.5 * math.log(2)
    assert divergence(teacher, student).item() == pytest.approx(expected, rel=1e-5)
    # u = U: {blank, rest} = (1/2, 1/2) against (1/3, 2/3)
    teacher = torch.tensor([0.5, 0.0, 0.5]).log()
    student = torch.tensor([1 / 3, 0.0, 2 / 3]).log()
    expected = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 1.5)
    assert divergence(teacher, student).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="kind must be one of"):
        divergence(teacher, student, "backward")


@pytest.mark.parametrize("kind", ["forward", "reverse", "symmetric"])
def test_close_to_the_teacher_float32_keeps_its_digits(kind):
    """A student within a few percent of every probability: the plain sum would cancel."""
    torch.manual_seed(0)
    p = torch.randn(64, 3, dtype=torch.float64).softmax(-1)
    q = p * (1 + 0.02 * torch.randn_like(p))
    log_p, log_q = p.log().float(), (q / q.sum(-1, keepdim=True)).log().float()
    single = [x.clone().requires_grad_() for x in (log_p, log_q)]
    double = [x.double().requires_grad_() for x in (log_p, log_q)]
    got, want = divergence(*single, kind), divergence(*double, kind)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=0)
    # And what is wanted is what the definition says, which float64 can afford.
    p, q = (x.exp() for x in (double[0], double[1]))
    terms = {"forward": p * (p / q).log() - p + q, "reverse": q * (q / p).log() - q + p}
    terms["symmetric"] = (terms["forward"] + terms["reverse"]) / 2
    torch.testing.assert_close(want, terms[kind].sum(-1), rtol=1e-9, atol=0)
    exact = torch.autograd.grad(terms[kind].sum(), double)
    for a, b, c in zip(
        torch.autograd.grad(got.sum(), single), torch.autograd.grad(want.sum(), double), exact
    ):
        torch.testing.assert_close(a.double(), c, rtol=1e-4, atol=1e-12)
        torch.testing.assert_close(b, c, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("objective", ["full", "top_k", "collapsed"])
@pytest.mark.parametrize("kind", ["forward", "reverse", "symmetric"])
@pytest.mark.parametrize("scale", [30.0, 300.0])
def test_a_student_that_is_sure_keeps_its_digits(objective, kind, scale):
    """Logits beyond 100, held exactly: what float32 loses of the gradient is seen alone.

    Where one token has nearly all, what the gradient of its logit is made of cancels.
    """
    torch.manual_seed(0)
    n, v = 12, 7
    logits = [(scale * torch.randn(n, v)).round() for _ in range(2)]
    labels = torch.ones(1, 1, dtype=torch.long)
    lattice = labels, torch.tensor([n]), torch.tensor([1])

    def joint(table, dtype):
        # Frame t chooses row t of the table: sums of one product are exact.
        enc = 40.0 * torch.eye(n, dtype=dtype)[None] - 20.0  # tanh is -1 or 1
        weight = (table.t() / 2).to(dtype).requires_grad_()
        return Joint(enc, torch.zeros(1, 2, n, dtype=dtype), weight, table.sum(0).to(dtype) / 2)

    grads = []
    for dtype in (torch.float32, torch.float64):
        student, teacher = (joint(table, dtype) for table in logits)
        if objective == "collapsed":
            nodes = collapsed_kl(
                node_stats(student, *lattice), node_stats(teacher, *lattice).detach(), kind
            )
        else:
            kl = FullKL(teacher, kind) if objective == "full" else TopKKL(teacher, 2, kind)
            nodes = node_stats(student, *lattice, kl)[..., 3]
        grads.append(torch.autograd.grad(nodes.sum(), student.weight)[0].double())
    got, want = grads
    assert (got - want).norm() <= 1e-5 * want.norm() + 1e-12


@pytest.mark.parametrize("k", [None, 3, 20])  # all; kept of the first walk; computed again
def test_a_teacher_in_double_precision_leaves_the_student_in_its_own(k):
    lattice = random_labels(2, 3, 40), torch.tensor([4, 2]), torch.tensor([3, 0])
    teacher = random_joint(2, 4, 3, 40, seed=1)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        student = random_joint(2, 4, 3, 40, dtype=dtype)
        kl = FullKL(teacher) if k is None else TopKKL(teacher, k)
        value = node_stats(student, *lattice, kl)[..., 3].sum()
        gradients.append(torch.autograd.grad(value, student.weight)[0])
    assert gradients[0].dtype == torch.float32
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-4, atol=1e-5)
