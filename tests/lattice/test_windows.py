"""The paths of a teacher, seen through windows: against its whole lattice and enumeration."""

import pytest
import torch

from espnet_kd.lattice import Grid, Joint, node_mask
from espnet_kd.lattice.visits import occupancy
from espnet_kd.lattice.windows import CROWDED, follow
from espnet_kd.objective import Objective, Posteriors, distillation_losses
from tests.lattice.materialised import random_joint, random_labels
from tests.lattice.test_visits import all_paths

B, T, U, V = 3, 40, 25, 30
BAND = Objective(lattice="band")
LENGTHS = torch.tensor([33, 40, 9]), torch.tensor([25, 20, 3])


def aligned_joint(seed=0, D=16, t_len=LENGTHS[0], u_len=LENGTHS[1]):
    """A joint network whose paths follow an alignment, as those of a trained model do."""
    torch.manual_seed(seed)
    weight = torch.randn(V, D, dtype=torch.float64) / D**0.5
    enc, dec = torch.randn(B, T, D).double(), torch.randn(B, U + 1, D).double()
    labels = torch.randint(1, V, (B, U))
    dec[:, :-1] += 2 * D**0.5 * weight[labels]
    enc[..., 0] = 2.0 * (torch.arange(T) / t_len[:, None]) * (u_len[:, None] + 1)
    dec[..., 0] = -2.0 * (torch.arange(U + 1) + 1.0)
    weight[:, 0], weight[0, 0] = 7.0, -7.0
    return Joint(enc, dec, weight, torch.randn(V).double()), labels


def whole_of(joint, labels, t_len, u_len):
    stats = Grid(labels, t_len, u_len).stats(joint).detach()
    return stats, occupancy(stats[..., :2], t_len, u_len)


@pytest.mark.parametrize(
    "rows, frames, budget", [(1, 1, None), (2, 3, 1), (12, 8, None), (99, 4, 1)]
)
def test_paths_that_go_everywhere_are_looked_for_everywhere(rows, frames, budget):
    """Of random weights no window holds the paths: it ends at the whole lattice, exactly."""
    joint, labels = random_joint(B, T, U, V), random_labels(B, U, V)
    joint = Joint(*(x.detach().double() for x in joint[:4]))
    stats, visits = whole_of(joint, labels, *LENGTHS)
    walked = follow(joint, labels, *LENGTHS, budget, rows, frames)
    mask = walked.inside
    assert not (mask & ~node_mask(*LENGTHS, mask.shape)).any()
    torch.testing.assert_close(walked.three[mask], stats[mask])
    assert (visits * ~mask).sum() < 1e-3 * visits.sum()
    torch.testing.assert_close(walked.visits, visits * mask, rtol=0, atol=2 * CROWDED)


@pytest.mark.parametrize("rows, frames", [(4, 1), (5, 3), (8, 4), (12, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_paths_of_a_trained_teacher_are_seen_in_few_rows(seed, rows, frames):
    joint, labels = aligned_joint(seed)
    stats, visits = whole_of(joint, labels, *LENGTHS)
    walked = follow(joint, labels, *LENGTHS, None, rows, frames)
    mask = walked.inside
    torch.testing.assert_close(walked.three[mask], stats[mask])
    assert not walked.three[~mask].any() and not walked.visits[~mask].any()
    assert (visits * ~mask).sum() < 1e-3 * visits.sum()
    torch.testing.assert_close(walked.visits, visits * mask, rtol=0, atol=2 * CROWDED)
    assert mask.sum() < 0.7 * node_mask(*LENGTHS, mask.shape).sum()


@pytest.mark.parametrize("seed", range(4))
def test_visits_against_enumeration_of_the_paths_inside(seed):
    """Exact, whatever was left out."""
    t_len, u_len = torch.tensor([7, 5]), torch.tensor([5, 3])
    torch.manual_seed(seed)
    enc, dec = torch.randn(2, 7, 3).double(), torch.randn(2, 6, 3).double()
    enc[..., 0], dec[..., 0] = 1.4 * torch.arange(7.0), -2.0 * (torch.arange(6.0) + 1)
    weight = torch.randn(9, 3).double()
    weight[:, 0], weight[0, 0] = 6.0, -6.0
    joint, labels = Joint(enc, dec, weight, torch.zeros(9).double()), torch.randint(1, 9, (2, 5))
    walked = follow(joint, labels, t_len, u_len, None, 3, 2)
    arcs = whole_of(joint, labels, t_len, u_len)[0][..., :2]
    for b, (frames, rows) in enumerate(zip(t_len.tolist(), u_len.tolist())):
        inside = [
            (p, nodes)
            for p, nodes in all_paths(arcs[b], frames, rows)
            if all(walked.inside[b, t, u] for t, u in nodes)
        ]
        total = torch.logsumexp(torch.tensor([p for p, _ in inside], dtype=torch.float64), 0)
        want = torch.zeros(7, 6, dtype=torch.float64)
        for p, nodes in inside:
            for t, u in nodes:
                want[t, u] += torch.exp(p - total)
        torch.testing.assert_close(walked.visits[b], want)


def test_padding_and_batch_order_do_not_matter():
    joint, labels = aligned_joint()
    walked = follow(joint, labels, *LENGTHS)
    enc, dec = joint.enc.clone(), joint.dec.clone()
    for b, (frames, rows) in enumerate(zip(*(x.tolist() for x in LENGTHS))):
        enc[b, frames:], dec[b, rows + 1 :] = float("nan"), float("nan")
    padded = follow(joint._replace(enc=enc, dec=dec), labels, *LENGTHS)
    for a, b in zip(walked, padded):
        torch.testing.assert_close(a, b)
    order = torch.tensor([2, 0, 1])
    moved = joint._replace(enc=joint.enc[order], dec=joint.dec[order])
    moved = follow(moved, labels[order], *(x[order] for x in LENGTHS))
    for a, b in zip(walked, moved):
        torch.testing.assert_close(a[order], b)


@pytest.mark.parametrize("objective", ["collapsed", "full", "full_sum"])
def test_losses_are_those_of_a_cached_teacher_and_their_gradients_right(objective):
    teacher, labels = aligned_joint(1)
    student = Joint(*(x[..., :9].contiguous() for x in teacher[:3]), teacher.bias)
    student = Joint(*((x + 0.1).requires_grad_() for x in student[:4]))
    options = Objective(objective, lattice="band")
    got = distillation_losses(student, teacher, labels, *LENGTHS, options)
    assert 0 < got.band.nodes < 0.7 and got.band.kept > 0.999
    measured = distillation_losses(student, teacher, labels, *LENGTHS, options, measure_band=True)
    assert measured.band.nodes == got.band.nodes  # the same band, measured
    assert measured.band.kept == pytest.approx(float(got.band.kept), abs=1e-4)
    if objective != "full":
        three = whole_of(teacher, labels, *LENGTHS)[0]
        want = distillation_losses(student, Posteriors(three), labels, *LENGTHS, options)
        torch.testing.assert_close(got[:2], want[:2], rtol=1e-3, atol=1e-3)

    def loss(*parts):
        losses = distillation_losses(Joint(*parts), teacher, labels, *LENGTHS, options)
        return losses.rnnt, losses.kd

    assert torch.autograd.gradcheck(loss, student[:4], fast_mode=True)


@pytest.mark.parametrize("measure", [False, True])
def test_inference_mode_gives_the_same_losses(measure):
    teacher, labels = aligned_joint(1)
    want = distillation_losses(teacher, teacher, labels, *LENGTHS, BAND, measure_band=measure)
    with torch.inference_mode():
        inside = Joint(*(x + 0 for x in teacher[:4]))
        got = distillation_losses(inside, inside, labels, *LENGTHS, BAND, measure_band=measure)
    torch.testing.assert_close(got[:3], want[:3])
    torch.testing.assert_close(got.band[:3], want.band[:3])
