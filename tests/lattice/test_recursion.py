"""The recursion against path enumeration, torchaudio and finite differences."""

import itertools

import pytest
import torch

from espnet_kd.lattice import Grid, Joint, node_stats, rnnt_loss
from espnet_kd.lattice.visits import occupancy
from espnet_kd.lattice.windows import follow
from espnet_kd.objective import Objective, distillation_losses


def random_log_probs(B, T, U, V=5, dtype=torch.float64, seed=0):
    """log p(blank) and log p(label) of a vocabulary of V. (B, T, U + 1, 2)"""
    torch.manual_seed(seed)
    logits = torch.randn(B, T, U + 1, V, dtype=dtype)
    return logits.log_softmax(-1)[..., :2].contiguous()


def enumerate_paths(log_probs, t_len, u_len):
    """-log of the sum over every path, one utterance: T blanks, the last one at the end."""
    total = torch.tensor(float("-inf"), dtype=log_probs.dtype)
    steps = t_len - 1 + u_len
    for where in itertools.combinations(range(steps), u_len):
        t = u = 0
        score = torch.zeros((), dtype=log_probs.dtype)
        for step in range(steps):
            if step in where:
                score = score + log_probs[t, u, 1]
                u += 1
            else:
                score = score + log_probs[t, u, 0]
                t += 1
        total = torch.logaddexp(total, score + log_probs[t_len - 1, u_len, 0])
    return -total


@pytest.mark.parametrize("T, U", [(1, 0), (1, 1), (1, 4), (4, 0), (3, 2), (2, 5), (5, 4)])
def test_equals_the_sum_over_all_paths(T, U):
    log_probs = random_log_probs(1, T, U).requires_grad_()
    loss = rnnt_loss(log_probs, torch.tensor([T]), torch.tensor([U]))
    expected = enumerate_paths(log_probs[0], T, U)
    torch.testing.assert_close(loss[0], expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss.sum(), log_probs)[0]
    want = torch.autograd.grad(expected, log_probs)[0]
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_equals_torchaudio_on_ragged_odd_shapes():
    pytest.importorskip("torchaudio")
    from tools.torchaudio_recursion import torchaudio_rnnt_loss

    t_len, u_len = torch.tensor([47, 20, 1]), torch.tensor([31, 0, 31])
    log_probs = random_log_probs(3, 47, 31, V=123, dtype=torch.float32)
    mine, theirs = log_probs.clone().requires_grad_(), log_probs.clone().requires_grad_()
    a, b = rnnt_loss(mine, t_len, u_len), torchaudio_rnnt_loss(theirs, t_len, u_len)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
    a.sum().backward()
    b.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_gradcheck():
    t_len, u_len = torch.tensor([4, 2, 1]), torch.tensor([2, 3, 0])
    log_probs = random_log_probs(3, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rnnt_loss(x, t_len, u_len), (log_probs,))


def test_padding_has_no_influence_and_no_gradient():
    t_len, u_len = torch.tensor([3, 5]), torch.tensor([2, 4])
    log_probs = random_log_probs(2, 5, 4)
    alone = rnnt_loss(log_probs[:1, :3, :3], t_len[:1], u_len[:1])
    for filler in (0.0, -1e4, float("-inf"), float("nan")):
        padded = log_probs.clone()
        padded[0, 3:] = filler
        padded[0, :, 3:] = filler
        padded[0, :, 2, 1] = filler  # the row u = U has no label arc
        padded.requires_grad_()
        loss = rnnt_loss(padded, t_len, u_len)
        torch.testing.assert_close(loss[0], alone[0])
        loss.sum().backward()
        assert padded.grad[0, 3:].abs().max() == 0
        assert padded.grad[0, :, 3:].abs().max() == 0
        assert torch.isfinite(padded.grad).all()


def test_batch_order_does_not_matter():
    t_len, u_len = torch.tensor([5, 3, 4]), torch.tensor([1, 4, 0])
    log_probs = random_log_probs(3, 5, 4)
    order = torch.tensor([2, 0, 1])
    a = rnnt_loss(log_probs, t_len, u_len)[order]
    b = rnnt_loss(log_probs[order], t_len[order], u_len[order])
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_occupancies_are_probabilities():
    """Each path has T blanks and U labels, and crosses every frame and every row once."""
    T, U = 6, 3
    log_probs = random_log_probs(1, T, U).requires_grad_()
    rnnt_loss(log_probs, torch.tensor([T]), torch.tensor([U])).sum().backward()
    occupancy = -log_probs.grad[0]  # (T, U + 1, 2)
    torch.testing.assert_close(occupancy[..., 0].sum(1), torch.ones(T, dtype=torch.float64))
    torch.testing.assert_close(occupancy[:, :U, 1].sum(0), torch.ones(U, dtype=torch.float64))


def test_fastemit_scales_label_arcs_only():
    t_len, u_len = torch.tensor([4]), torch.tensor([2])
    plain = random_log_probs(1, 4, 2).requires_grad_()
    fast = plain.detach().clone().requires_grad_()
    a, b = rnnt_loss(plain, t_len, u_len), rnnt_loss(fast, t_len, u_len, 0.01)
    torch.testing.assert_close(a, b)
    a.sum().backward()
    b.sum().backward()
    torch.testing.assert_close(fast.grad[..., 0], plain.grad[..., 0])
    torch.testing.assert_close(fast.grad[..., 1], 1.01 * plain.grad[..., 1])


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_log_probs_stay_finite(size):
    log_probs = torch.zeros(1, 4, 3, 2)
    log_probs[..., 0] = min(size, 0)
    log_probs[..., 1] = min(-size, 0)
    log_probs.requires_grad_()
    rnnt_loss(log_probs, torch.tensor([4]), torch.tensor([2])).sum().backward()
    assert torch.isfinite(log_probs.grad).all()


def test_an_utterance_without_any_path_has_infinite_loss_and_no_gradient():
    log_probs = torch.full((2, 3, 2, 2), -1.0)
    log_probs[0, :, :, 1] = float("-inf")  # its label can never be said
    log_probs.requires_grad_()
    loss = rnnt_loss(log_probs, torch.tensor([3, 3]), torch.tensor([1, 1]))
    assert loss[0] == float("inf") and torch.isfinite(loss[1])
    loss.sum().backward()
    assert log_probs.grad[0].abs().max() == 0 and torch.isfinite(log_probs.grad).all()


@pytest.mark.parametrize("t_len, u_len", [([0], [1]), ([5], [1]), ([2], [3]), ([2], [-1])])
def test_lengths_outside_the_lattice_are_refused(t_len, u_len):
    with pytest.raises(ValueError, match="must lie in"):
        rnnt_loss(torch.zeros(1, 4, 3, 2), torch.tensor(t_len), torch.tensor(u_len))


def test_a_batch_without_utterances_is_refused_in_words():
    none = torch.zeros(0, dtype=torch.long)
    labels, log_probs = torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 4, 3, 2)
    joint = Joint(torch.zeros(0, 4, 2), torch.zeros(0, 3, 2), torch.zeros(5, 2), torch.zeros(5))
    for compute in (
        lambda: rnnt_loss(log_probs, none, none),
        lambda: node_stats(joint, labels, none, none),
        lambda: follow(joint, labels, none, none),
        lambda: occupancy(log_probs, none, none),
        lambda: distillation_losses(joint, joint, labels, none, none),
        lambda: distillation_losses(joint, None, labels, none, none, Objective(lattice="band")),
        lambda: Grid(labels, none, none).stats(joint),
    ):
        with pytest.raises(ValueError, match="the batch holds no utterance"):
            compute()
