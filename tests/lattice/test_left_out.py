"""Nodes that no likely path comes near are left out of the backward walk, unnoticed."""

import pytest
import torch

from espnet_kd.lattice import node_stats, rnnt_loss
from espnet_kd.lattice.chunks import Chunk
from espnet_kd.lattice.joint import Joint
from tests.lattice.materialised import logits_of, random_joint, random_labels, three_of

B, T, U, V = 2, 150, 40, 20
T_LEN, U_LEN = torch.tensor([150, 90]), torch.tensor([40, 11])
LABELS = random_labels(B, U, V)


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_the_gradient_is_that_of_the_whole_lattice(dtype, rtol, monkeypatch):
    walked = []
    hidden = Joint.hidden
    monkeypatch.setattr(
        Joint, "hidden", lambda self, chunk: walked.append(chunk) or hidden(self, chunk)
    )
    joint, exact = (random_joint(B, T, U, V, dtype=d, scale=5) for d in (dtype, torch.float64))
    stats = node_stats(joint, LABELS, T_LEN, U_LEN, budget=20_000)
    loss = rnnt_loss(stats[..., :2], T_LEN, U_LEN)
    own = sum(map(_nodes, walked))
    assert own == int((T_LEN * (U_LEN + 1)).sum())
    walked.clear()
    got = torch.autograd.grad(loss.sum(), joint[:4])
    assert 0 < sum(map(_nodes, walked)) < 0.8 * own
    whole = rnnt_loss(three_of(logits_of(exact), LABELS, U_LEN)[..., :2], T_LEN, U_LEN)
    want = torch.autograd.grad(whole.sum(), exact[:4])
    for a, b in zip(got, want):
        assert (a - b).norm() <= rtol * b.norm()
    # Frame by frame: none is lost beside larger ones.
    wrong, right = (got[0] - want[0]).norm(dim=-1)[0], want[0].norm(dim=-1)[0]  # (T,)
    assert (wrong <= rtol * right.mean()).all()


def test_no_gradient_at_all():
    joint = random_joint(B, T, U, V)
    loss = 0 * node_stats(joint, LABELS, T_LEN, U_LEN)[..., 0].sum()
    for grad in torch.autograd.grad(loss, joint[:4]):
        assert grad.abs().max() == 0


def _nodes(chunk: Chunk) -> int:
    return (chunk.t1 - chunk.t0) * chunk.rows
