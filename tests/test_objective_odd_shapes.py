"""Every objective at odd sizes, where no path can be enumerated, against loops over nodes.

`test_objective.py` has the paths, one by one; here the numbers are those of a real batch:
ragged lengths, an empty transcript, one frame alone, more labels than frames.
"""

import pytest
import torch

from espnet_kd.lattice import Joint
from espnet_kd.objective import distillation_losses
from tests.lattice.materialised import logits_of, random_joint, random_labels, three_of
from tests.test_objective import IDS, OBJECTIVES

B, T, U, V = 3, 47, 31, 123
T_LEN, U_LEN = torch.tensor([47, 20, 1]), torch.tensor([31, 0, 7])
LABELS = random_labels(B, U, V)
LATTICE = (LABELS, T_LEN, U_LEN)
DTYPES = [(torch.float64, 1e-9), (torch.float32, 1e-5)]
FASTEMIT = 0.3


def joints(dtype=torch.float64):
    return random_joint(dtype=dtype), random_joint(D=9, seed=1, dtype=dtype)


def forward_variables(two):
    """log P of all ways to (t, u), node by node, differentiable. (T, U + 1, 2) -> list"""
    frames, rows, _ = two.shape
    alpha = [[None] * rows for _ in range(frames)]
    for t in range(frames):
        for u in range(rows):
            ways = [alpha[t - 1][u] + two[t - 1, u, 0]] if t else []
            ways += [alpha[t][u - 1] + two[t, u - 1, 1]] if u else []
            alpha[t][u] = torch.stack(ways).logsumexp(0) if ways else two.new_zeros(())
    return alpha


def arcs_of(two):
    """log P(y | x) and the probability that a path takes each arc. (), (T, U + 1, 2)"""
    two = two.detach().requires_grad_()
    log_p = forward_variables(two)[-1][-1] + two[-1, -1, 0]
    (occupancy,) = torch.autograd.grad(log_p, two)
    return log_p.detach(), occupancy


def best_nodes(two):
    """Viterbi, by loops over plain numbers. (T, U + 1, 2) -> (T, U + 1)"""
    scores = two.tolist()
    frames, rows, _ = two.shape
    best = {(0, 0): (0.0, None)}
    for t in range(frames):
        for u in range(rows):
            ways = []
            if t:
                ways.append((best[t - 1, u][0] + scores[t - 1][u][0], (t - 1, u)))
            if u:
                ways.append((best[t, u - 1][0] + scores[t][u - 1][1], (t, u - 1)))
            if ways:
                best[t, u] = max(ways)
    visited, node = torch.zeros(frames, rows, dtype=two.dtype), (frames - 1, rows - 1)
    while node is not None:
        visited[node] = 1
        node = best[node][1]
    return visited


def distributions(objective, student, teacher, three):
    """p and q over the classes that the objective tells apart. (T, U + 1, C) each"""
    tau = objective.temperature
    p, q = (teacher / tau).softmax(-1), (student / tau).softmax(-1)
    if objective.objective == "full":
        return p, q
    if objective.objective == "collapsed":
        return three[1].exp(), three[0].exp()
    own = teacher.topk(objective.top_k, dim=-1).indices
    rest = torch.ones_like(p).scatter(-1, own, 0.0)
    return tuple(
        torch.cat([x.gather(-1, own), (x * rest).sum(-1, keepdim=True)], -1) for x in (p, q)
    )


def reference(objective, student, teacher):
    """Each utterance's distillation loss as the docstring of `Objective` says it."""
    s, t = logits_of(student), logits_of(teacher).detach()
    tau, shift = objective.temperature, objective.frame_shift
    two = [three_of(x, LABELS, U_LEN)[..., :2] for x in (s, t)]
    three = [three_of(x / tau, LABELS, U_LEN) for x in (s, t)]
    losses = []
    for b in range(B):
        frames, labels = int(T_LEN[b]), int(U_LEN[b])
        own = (b, slice(frames), slice(labels + 1))
        if objective.objective == "full_sum":
            log_q, log_p = (forward_variables(x[own])[-1][-1] + x[own][-1, -1, 0] for x in two)
            losses.append((log_p - log_q).square() / (frames + labels))
            continue
        weight = torch.ones(frames, labels + 1, dtype=s.dtype)
        if objective.nodes == "occupancy":
            weight = arcs_of(two[1][own])[1].sum(-1)
        elif objective.nodes == "one_best":
            weight = best_nodes(two[1][own])
        pairs = [(t0 + shift, t0) for t0 in range(frames) if 0 <= t0 + shift < frames]
        if not pairs:
            losses.append(0.0 * s.sum())
            continue
        at_s, at_t = (torch.tensor(frame) for frame in zip(*pairs))
        here = [three[0][own][at_s], three[1][own][at_t]]
        p, q = distributions(objective, s[own][at_s], t[own][at_t], here)
        kl = {}
        for kind, (x, y) in {"forward": (p, q), "reverse": (q, p)}.items():
            there = x > 0
            ratio = torch.where(there, x, 1.0).log() - torch.where(there, y, 1.0).log()
            kl[kind] = (x * ratio).sum(-1)
        kl["symmetric"] = (kl["forward"] + kl["reverse"]) / 2
        weight = weight[at_t]
        total, mass = (weight * kl[objective.divergence]).sum(), weight.sum()
        scale = {"sum": 1.0, "node": 1 / mass, "path": (frames + labels) / mass}
        losses.append(tau**2 * total * scale[objective.normalize])
    return torch.stack(losses)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
@pytest.mark.parametrize("dtype, rtol", DTYPES, ids=["float64", "float32"])
def test_equals_the_readable_reference(objective, dtype, rtol):
    student, teacher = joints(dtype)
    exact = joints()
    kd = distillation_losses(student, teacher, *LATTICE, objective).kd
    expected = reference(objective, *exact)
    torch.testing.assert_close(kd.double(), expected, rtol=rtol, atol=rtol)
    got = torch.autograd.grad(kd.sum(), student[:4])
    want = torch.autograd.grad(expected.sum(), exact[0][:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize("dtype, rtol", DTYPES, ids=["float64", "float32"])
def test_fastemit_scales_the_arcs_of_labels(dtype, rtol):
    """The gradient is that of sum(occupancy * log p), label arcs 1 + lambda times."""
    student, (exact, _) = joints(dtype)[0], joints()
    rnnt = distillation_losses(student, None, *LATTICE, fastemit_lambda=FASTEMIT).rnnt
    two = three_of(logits_of(exact), LABELS, U_LEN)[..., :2]
    pull, expected = 0.0, []
    for b in range(B):
        own = two[b, : T_LEN[b], : U_LEN[b] + 1]
        log_p, arcs = arcs_of(own)
        arcs = arcs * torch.tensor([1.0, 1.0 + FASTEMIT], dtype=arcs.dtype)
        pull = pull - torch.where(arcs > 0, arcs * own, 0.0).sum()
        expected.append(-log_p)
    torch.testing.assert_close(rnnt.double(), torch.stack(expected), rtol=rtol, atol=0)
    got = torch.autograd.grad(rnnt.sum(), student[:4])
    want = torch.autograd.grad(pull, exact[:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_the_size_of_chunks_does_not_matter(objective):
    student, teacher = joints()
    found = []
    for budget in (None, 30_000):
        losses = distillation_losses(student, teacher, *LATTICE, objective, budget=budget)
        grads = torch.autograd.grad((losses.rnnt + losses.kd).sum(), student[:4])
        found.append([losses.rnnt, losses.kd, *grads])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=IDS)
def test_half_precision_stays_finite_and_close(objective):
    """As under autocast, where the projections are half precision."""
    student, teacher = joints(torch.float32)
    half = [Joint(*(x.detach().bfloat16() for x in joint[:4])) for joint in (student, teacher)]
    half[0] = Joint(*(x.requires_grad_() for x in half[0][:4]))
    losses = distillation_losses(*half, *LATTICE, objective)
    expected = distillation_losses(student, teacher, *LATTICE, objective)
    for a, b in zip(losses[:3], expected[:3]):
        assert a.dtype == torch.float32
        # The path of a teacher that is sure of nothing may be another one after rounding.
        rtol = 1.0 if objective.nodes == "one_best" else 0.1
        torch.testing.assert_close(a, b, rtol=rtol, atol=0.05)
    for grad in torch.autograd.grad((losses.rnnt + losses.kd).sum(), half[0][:4]):
        assert grad.dtype == torch.bfloat16 and torch.isfinite(grad).all()
