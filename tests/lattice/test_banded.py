"""A band around the teacher's paths: against enumeration of all paths that stay inside."""

import pytest
import torch

from espnet_kd.lattice import Band, Grid, Joint, band_around, node_mask, recursion
from espnet_kd.lattice.banded_recursion import banded_rnnt_loss
from espnet_kd.lattice.recursion import rnnt_loss
from espnet_kd.lattice.visits import best_path, occupancy
from espnet_kd.losses import collapsed_kl
from espnet_kd.objective import Objective, Posteriors, distillation_losses
from tests.lattice.materialised import logits_of, random_joint, random_labels, three_of
from tests.lattice.test_visits import all_paths
from tests.test_objective import IDS, LABELS, LATTICE, OBJECTIVES, T_LEN, U_LEN, joints

# What a band has no use for is refused.
SERVED = [(o, i) for o, i in zip(OBJECTIVES, IDS) if o.frame_shift == 0]


def in_band(objective, **options):
    return objective.changed(lattice="band", **options)


def random_band(seed, B=4, T=5, U1=4, kept=0.7, t_len=(5, 1, 4, 3), u_len=(3, 2, 0, 3)):
    """A band around the paths of a random teacher, and log p of another model."""
    torch.manual_seed(seed)
    teacher, own = (
        torch.randn(B, T, U1, 5, dtype=torch.float64).mul(3).log_softmax(-1)[..., :2]
        for _ in range(2)
    )
    t_len, u_len = torch.tensor(t_len), torch.tensor(u_len)
    visits, best = occupancy(teacher, t_len, u_len), best_path(teacher, t_len, u_len)
    return band_around(visits, best, t_len, u_len, kept), visits, best, own


def mask_of(band):
    mask = torch.zeros(band.size, dtype=torch.bool)
    mask.view(-1)[band.place] = True
    return mask


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kept", [0.5, 0.9, 1.0])
def test_what_a_band_holds(seed, kept):
    band, visits, best, _ = random_band(seed, kept=kept)
    mask = mask_of(band)
    inside = node_mask(band.t_len, band.u_len, band.size)
    assert not (mask & ~inside).any() and mask[best > 0].all()
    total, held = visits.sum(-1), (visits * mask).sum(-1)
    assert (held >= kept * total - 1e-9).all()
    for b, (frames, labels) in enumerate(zip(band.t_len.tolist(), band.u_len.tolist())):
        rows = [mask[b, t].nonzero()[:, 0].tolist() for t in range(frames)]
        assert all(r == list(range(r[0], r[-1] + 1)) for r in rows)  # no holes
        assert rows[0][0] == 0 and rows[-1][-1] == labels
        for a, c in zip(rows, rows[1:]):
            assert a[0] <= c[0] <= a[-1] <= c[-1]  # monotone and connected
        assert band.counts[b] == sum(map(len, rows))


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_band_of_so_many_rows(rows):
    band, visits, best, _ = random_band(0)
    band = band_around(visits, best, band.t_len, band.u_len, rows=rows)
    mask = mask_of(band)
    for b, (frames, labels) in enumerate(zip(band.t_len.tolist(), band.u_len.tolist())):
        assert (mask[b, :frames].sum(-1) >= min(rows, labels + 1)).all()
    assert band.is_whole == (rows == 9)


@pytest.mark.parametrize("seed", range(4))
def test_the_recursion_against_enumeration(seed):
    """Loss and occupancies of the paths that stay inside; padding is never looked at."""
    band, _, _, own = random_band(seed)
    mask = mask_of(band)
    arcs = band.take(own).requires_grad_()
    loss = banded_rnnt_loss(arcs, band, fastemit_lambda=0.5)
    (grad,) = torch.autograd.grad(loss.sum(), arcs)
    want = torch.zeros(*band.size, 2, dtype=torch.float64)
    for b, (frames, labels) in enumerate(zip(band.t_len.tolist(), band.u_len.tolist())):
        paths = [
            (p, nodes)
            for p, nodes in all_paths(own[b], frames, labels)
            if all(mask[b, t, u] for t, u in nodes)
        ]
        total = torch.logsumexp(torch.tensor([p for p, _ in paths], dtype=torch.float64), 0)
        assert loss[b].item() == pytest.approx(-float(total))
        for p, nodes in paths:
            for (t, u), (after, _) in zip(nodes, [*nodes[1:], (frames, labels)]):
                arc = 0 if after > t else 1
                want[b, t, u, arc] -= torch.exp(p - total) * (1.5 if arc else 1)
    torch.testing.assert_close(grad, band.take(want))


@pytest.mark.parametrize("seed", range(3))
def test_whole_lattices_with_no_way_outside_give_the_same(seed, monkeypatch):
    """As on a GPU, where a kernel goes over them; with an utterance that has no path, too."""
    band, _, _, own = random_band(seed)
    mask = mask_of(band)
    mask[0, 2] = False
    for b in (band, Band.of(mask, band.t_len, band.u_len)):
        results = []
        for by_kernels in (False, True):
            arcs = b.take(own).requires_grad_()
            with monkeypatch.context() as patch:
                patch.setattr(recursion, "by_kernels", lambda device, answer=by_kernels: answer)
                patch.setattr(recursion, "kernel_ways", lambda: None)
                loss = banded_rnnt_loss(arcs, b, fastemit_lambda=0.5)
            (grad,) = torch.autograd.grad(loss.nan_to_num(0, 0).sum(), arcs)
            results.append([loss.detach(), grad])
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_a_band_without_a_path_has_an_infinite_loss_and_no_gradient():
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[0, 1] = False
    band = Band.of(mask, torch.tensor([3, 3]), torch.tensor([2, 2]))
    arcs = torch.full((len(band.place), 2), -1.0, requires_grad=True)
    loss = banded_rnnt_loss(arcs, band)
    assert loss[0] == float("inf") and torch.isfinite(loss[1])
    (grad,) = torch.autograd.grad(loss.sum(), arcs)
    assert torch.isfinite(grad).all() and (grad[: band.counts[0]] == 0).all()


def test_all_nodes_as_a_band_give_the_same_numbers():
    """Walk and recursion over the nodes one by one, float32 and larger lattices."""
    B, T, U, V = 3, 47, 31, 123
    labels, lengths = random_labels(B, U, V), (torch.tensor([47, 20, 1]), torch.tensor([31, 0, 7]))
    joint = random_joint(B, T, U, V)
    whole = Grid(labels, *lengths)
    band = Band.of(torch.ones(B, T, U + 1, dtype=torch.bool), *lengths)
    assert band.is_whole
    results = []
    for grid in (whole, whole.inside(band)):
        stats = grid.stats(joint)
        loss = grid.loss(stats, 0.1)
        rest = stats[..., 2].exp().sum() if grid.band else None
        if rest is None:
            rest = torch.where(node_mask(*lengths, band.size), stats[..., 2].exp(), 0.0).sum()
        results.append([loss, *torch.autograd.grad(loss.sum() + rest, joint[:4])])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    two = whole.stats(joint).detach()[..., :2]
    assert torch.equal(banded_rnnt_loss(band.take(two), band), rnnt_loss(two, *lengths))


@pytest.mark.parametrize("objective, name", SERVED, ids=[i for _, i in SERVED])
def test_a_band_of_the_whole_lattice_gives_the_same_bits(objective, name):
    student, teacher = joints(torch.float32)
    plain = distillation_losses(student, teacher, *LATTICE, objective)
    other = distillation_losses(student, teacher, *LATTICE, in_band(objective, band_rows=99))
    assert float(other.band.kept) == float(other.band.nodes) == 1.0
    torch.testing.assert_close(other.band.inside, torch.ones(3))
    for a, b in zip(plain[:3], other[:3]):
        assert torch.equal(a, b)
    both = [torch.autograd.grad((x.rnnt + x.kd).sum(), student[:4]) for x in (plain, other)]
    assert all(torch.equal(a, b) for a, b in zip(*both))


@pytest.mark.parametrize("objective, name", SERVED, ids=[i for _, i in SERVED])
def test_gradcheck_and_ragged_lengths(objective, name):
    student, teacher = joints()
    options = in_band(objective, band_kept=0.6)

    def loss(*parts):
        losses = distillation_losses(Joint(*parts), teacher, *LATTICE, options, budget=1)
        assert 0 < losses.band.nodes < 1
        return losses.rnnt, losses.kd

    assert torch.autograd.gradcheck(loss, student[:4], fast_mode=True)


@pytest.mark.parametrize("objective, name", SERVED, ids=[i for _, i in SERVED])
def test_padding_batch_order_and_other_utterances_do_not_matter(objective, name):
    student, teacher = joints()
    options = in_band(objective, band_kept=0.6)
    want = distillation_losses(student, teacher, *LATTICE, options)
    padded = []
    for joint in (student, teacher):
        enc, dec = joint.enc.detach().clone(), joint.dec.detach().clone()
        enc[1, 4:], enc[2, 1:], dec[1, 1:], dec[2, 3:] = (float("nan"),) * 4
        padded.append(joint._replace(enc=enc, dec=dec))
    got = distillation_losses(*padded, *LATTICE, options)
    torch.testing.assert_close(got[:3], want[:3])
    order = torch.tensor([2, 0, 1])
    moved = [j._replace(enc=j.enc[order], dec=j.dec[order]) for j in (student, teacher)]
    got = distillation_losses(*moved, LABELS[order], T_LEN[order], U_LEN[order], options)
    torch.testing.assert_close([x[order] for x in want[:3]], list(got[:3]))


def test_losses_and_shares_inside_against_their_definition():
    student, teacher = joints()
    options = Objective(lattice="band", band_kept=0.6, normalize="sum")
    s, t = (three_of(logits_of(x), LABELS, U_LEN).detach() for x in (student, teacher))
    visits = occupancy(t[..., :2], T_LEN, U_LEN)
    band = band_around(visits, best_path(t[..., :2], T_LEN, U_LEN), T_LEN, U_LEN, 0.6)
    mask = mask_of(band)
    losses = distillation_losses(student, teacher, *LATTICE, options)
    kl = torch.where(mask, collapsed_kl(s, t), 0.0).sum((1, 2))
    torch.testing.assert_close(losses.kd, kl)
    torch.testing.assert_close(losses.band.kept, (visits * mask).sum() / visits.sum())
    assert float(losses.band.rows) == pytest.approx(float(mask.sum() / T_LEN.sum()))
    assert losses.band.inside is None
    # On demand the losses are the whole lattice's, and the share is known.
    whole = distillation_losses(student, teacher, *LATTICE, options, measure_band=True)
    plain = distillation_losses(student, teacher, *LATTICE, Objective(normalize="sum"))
    assert torch.equal(whole.kd, plain.kd) and torch.equal(whole.rnnt, plain.rnnt)
    torch.testing.assert_close(whole.band.inside, (whole.rnnt - losses.rnnt).exp())
    assert (whole.band.inside < 1).any()


def test_a_cache_serves_as_well_as_the_teacher():
    student, teacher = joints()
    options = Objective(lattice="band", band_kept=0.6)
    three = Grid(*LATTICE).stats(teacher).detach()
    want = distillation_losses(student, teacher, *LATTICE, options)
    got = distillation_losses(student, Posteriors(three), *LATTICE, options)
    torch.testing.assert_close(got[:3], want[:3])
    # A cache that holds some rows alone: the band goes through what it holds.
    held = torch.ones(three.shape[:3], dtype=three.dtype)
    held[0, 1:, 0] = 0
    part = Posteriors(three.masked_fill((held == 0)[..., None], 0.0), held)
    losses = distillation_losses(student, part, *LATTICE, options)
    assert torch.isfinite(losses.rnnt).all() and torch.isfinite(losses.kd).all()
