"""Visits of nodes against enumeration of all paths."""

import itertools

import pytest
import torch

from espnet_kd.lattice.visits import best_path, occupancy


def all_paths(log_probs, frames, labels):
    """Yield (log probability, visited nodes) of every path of one utterance."""
    steps = frames - 1 + labels
    for where in itertools.combinations(range(steps), labels):
        t = u = 0
        score, nodes = 0.0, [(0, 0)]
        for step in range(steps):
            if step in where:
                score, u = score + float(log_probs[t, u, 1]), u + 1
            else:
                score, t = score + float(log_probs[t, u, 0]), t + 1
            nodes.append((t, u))
        yield score + float(log_probs[t, u, 0]), nodes


@pytest.mark.parametrize("seed", range(5))
def test_against_enumeration(seed):
    torch.manual_seed(seed)
    t_len, u_len = torch.tensor([4, 1, 3, 2]), torch.tensor([3, 2, 0, 3])
    log_probs = torch.randn(4, 4, 4, 5, dtype=torch.float64).log_softmax(-1)[..., :2]
    visits, best = occupancy(log_probs, t_len, u_len), best_path(log_probs, t_len, u_len)
    for b in range(4):
        paths = list(all_paths(log_probs[b], int(t_len[b]), int(u_len[b])))
        total = torch.logsumexp(torch.tensor([p for p, _ in paths], dtype=torch.float64), 0)
        expected = torch.zeros(4, 4, dtype=torch.float64)
        for p, nodes in paths:
            for t, u in nodes:
                expected[t, u] += torch.exp(p - total)
        torch.testing.assert_close(visits[b], expected)
        likeliest = max(paths, key=lambda path: path[0])[1]
        assert {tuple(n) for n in best[b].nonzero().tolist()} == set(likeliest)


def test_a_path_visits_frames_plus_labels_nodes():
    t_len, u_len = torch.tensor([30, 7]), torch.tensor([11, 0])
    log_probs = torch.randn(2, 30, 12, 20).log_softmax(-1)[..., :2]
    length = (t_len + u_len).float()
    torch.testing.assert_close(occupancy(log_probs, t_len, u_len).sum((1, 2)), length)
    torch.testing.assert_close(best_path(log_probs, t_len, u_len).sum((1, 2)), length)


def test_a_lattice_without_any_path_has_a_best_path_all_the_same():
    nothing = torch.full((1, 4, 3, 2), float("-inf"))
    assert best_path(nothing, torch.tensor([4]), torch.tensor([2])).sum() == 6


def test_a_long_utterance_is_added_up_exactly():
    """A label is nearly as likely some frames later, after some thousands of nats of blanks.

    float32 keeps 2e-4 of such a sum, and of paths that seem alike takes the latest.
    """
    torch.manual_seed(0)
    t_len, u_len, peak = torch.tensor([6000, 5000]), torch.tensor([1, 1]), 4000
    log_probs = torch.empty(2, 6000, 2, 2)
    log_probs[..., 0] = -0.5 - torch.rand(2, 6000, 1)  # the same before and after the label
    log_probs[..., 1] = -3 - 1e-6 * (torch.arange(6000) - peak)[:, None].square()
    expected = torch.zeros(2, 6000, 2)
    for b, n in enumerate(t_len):
        expected[b, : peak + 1, 0] = expected[b, peak:n, 1] = 1
    assert torch.equal(best_path(log_probs, t_len, u_len), expected)
