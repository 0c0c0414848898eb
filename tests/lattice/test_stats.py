"""The walk against a materialised lattice."""

import pytest
import torch

from espnet_kd.lattice import Joint, node_mask, node_stats, rnnt_loss
from tests.lattice.materialised import logits_of, random_joint, random_labels, three_of

T_LEN, U_LEN = torch.tensor([47, 20, 1]), torch.tensor([31, 0, 7])
LABELS = random_labels(3, 31, 123)


def random_loss(stats, labels_mask=True, seed=3):
    """A loss of all three numbers of every node that belongs to an utterance."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.rand(stats.shape[:3] + (3,), generator=g, dtype=torch.float64).to(stats.dtype)
    mask = node_mask(T_LEN, U_LEN, stats.shape)[..., None] & torch.isfinite(stats[..., :3])
    values = torch.where(mask, stats[..., :3], 0.0)
    return (weight * values).sum()


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_materialised_lattice(dtype, rtol):
    joint = random_joint(dtype=dtype)
    stats = node_stats(joint, LABELS, T_LEN, U_LEN)
    expected = three_of(logits_of(joint), LABELS, U_LEN)
    mask = node_mask(T_LEN, U_LEN, stats.shape)
    torch.testing.assert_close(stats[mask], expected[mask], rtol=rtol, atol=rtol)
    got = torch.autograd.grad(random_loss(stats), joint[:4])
    want = torch.autograd.grad(random_loss(expected), joint[:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= rtol * b.norm()


def test_the_rnnt_loss_through_the_walk():
    """float32 against the whole lattice in float64, and against torchaudio's own kernel."""
    from torchaudio.functional import rnnt_loss as torchaudio_loss

    joint, exact = random_joint(dtype=torch.float32), random_joint()
    loss = rnnt_loss(node_stats(joint, LABELS, T_LEN, U_LEN)[..., :2], T_LEN, U_LEN)
    two = three_of(logits_of(exact), LABELS, U_LEN)[..., :2]
    expected = rnnt_loss(two, T_LEN, U_LEN)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    got = torch.autograd.grad(loss.sum(), joint[:4])
    want = torch.autograd.grad(expected.sum(), exact[:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= 1e-5 * b.norm()
    theirs = torchaudio_loss(
        logits_of(joint), LABELS.int(), T_LEN.int(), U_LEN.int(), blank=0, reduction="none"
    )
    torch.testing.assert_close(loss, theirs, rtol=1e-5, atol=1e-4)


def test_gradcheck():
    joint = random_joint(B=2, T=3, U=2, V=5, D=3)
    labels, t_len, u_len = random_labels(2, 2, 5), torch.tensor([3, 2]), torch.tensor([2, 1])

    def loss(*parts):
        stats = node_stats(Joint(*parts), labels, t_len, u_len, budget=1)
        rest = torch.where(node_mask(t_len, u_len, stats.shape), stats[..., 2].exp(), 0.0)
        return rnnt_loss(stats[..., :2], t_len, u_len).sum() + rest.sum()

    assert torch.autograd.gradcheck(loss, joint[:4])


@pytest.mark.parametrize("budget", [1, 40_000, 10**9])
def test_the_size_of_chunks_does_not_matter(budget):
    joint = random_joint()
    reference = node_stats(joint, LABELS, T_LEN, U_LEN)
    stats = node_stats(joint, LABELS, T_LEN, U_LEN, budget=budget)
    torch.testing.assert_close(stats, reference, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(random_loss(stats), joint[:4])
    want = torch.autograd.grad(random_loss(reference), joint[:4])
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_padding_has_no_influence_and_no_gradient():
    results = []
    for filler in (0.0, 1e6, float("nan")):
        joint = random_joint()
        enc, dec = joint.enc.detach().clone(), joint.dec.detach().clone()
        enc[1, 20:], enc[2, 1:], dec[1, 1:], dec[2, 8:] = (filler,) * 4
        joint = joint._replace(enc=enc.requires_grad_(), dec=dec.requires_grad_())
        stats = node_stats(joint, LABELS, T_LEN, U_LEN)
        grads = torch.autograd.grad(random_loss(stats), joint[:4])
        assert grads[0][1, 20:].abs().max() == 0 and grads[1][2, 8:].abs().max() == 0
        results.append((stats, *grads))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_batch_order_does_not_matter():
    joint, order = random_joint(), torch.tensor([2, 0, 1])
    a = node_stats(joint, LABELS, T_LEN, U_LEN)[order]
    moved = joint._replace(enc=joint.enc[order], dec=joint.dec[order])
    b = node_stats(moved, LABELS[order], T_LEN[order], U_LEN[order])
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_more_labels_than_frames_and_a_vocabulary_of_two():
    joint = random_joint(B=1, T=2, U=6, V=2)
    labels, t_len, u_len = torch.ones(1, 6, dtype=torch.long), torch.tensor([2]), torch.tensor([6])
    stats = node_stats(joint, labels, t_len, u_len)
    assert (stats[0, :, :6, 2] == float("-inf")).all()  # nothing is left for the rest
    loss = rnnt_loss(stats[..., :2], t_len, u_len).sum()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, joint[:4]))


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_extreme_logits_give_no_nan_and_the_right_gradient(scale):
    """A student that is wrong beyond doubt is still told so."""
    joint = random_joint(scale=scale)
    stats = node_stats(joint, LABELS, T_LEN, U_LEN)
    logits = logits_of(joint)
    assert logits.abs().max() > scale
    # The reference in log space: exp would underflow.
    log_p = logits.log_softmax(-1)
    rest = log_p.clone()
    rest[..., 0] = float("-inf")
    label = torch.nn.functional.pad(LABELS, (0, 1))[:, None, :, None].expand(3, 47, 32, 1)
    has_label = (torch.arange(32) < U_LEN[:, None])[:, None, :, None]
    rest = rest.scatter(-1, label.masked_fill(~has_label, 0), float("-inf")).logsumexp(-1)
    mask = node_mask(T_LEN, U_LEN, stats.shape)
    torch.testing.assert_close(stats[..., 2][mask], rest[mask])
    got = torch.autograd.grad(torch.where(mask, stats[..., 2], 0.0).sum(), joint[:4])
    want = torch.autograd.grad(torch.where(mask, rest, 0.0).sum(), joint[:4])
    for a, b in zip(got, want):
        assert torch.isfinite(a).all()
        assert (a - b).norm() <= 1e-8 * b.norm()


def test_another_activation():
    joint = random_joint()._replace(activation=torch.nn.functional.silu)
    stats = node_stats(joint, LABELS, T_LEN, U_LEN)
    expected = three_of(logits_of(joint), LABELS, U_LEN)
    got = torch.autograd.grad(random_loss(stats), joint[:4])
    want = torch.autograd.grad(random_loss(expected), joint[:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= 1e-10 * b.norm()


def test_half_precision_is_finite_and_close():
    joint = random_joint(dtype=torch.float32)
    half = Joint(*(part.detach().bfloat16().requires_grad_() for part in joint[:4]))
    stats = node_stats(half, LABELS, T_LEN, U_LEN)
    assert stats.dtype == torch.float32
    loss = rnnt_loss(stats[..., :2], T_LEN, U_LEN).sum()
    reference = node_stats(joint, LABELS, T_LEN, U_LEN)
    expected = rnnt_loss(reference[..., :2], T_LEN, U_LEN).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    for grad in torch.autograd.grad(loss, half[:4]):
        assert grad.dtype == torch.bfloat16 and torch.isfinite(grad).all()
