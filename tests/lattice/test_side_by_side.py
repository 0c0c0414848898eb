"""The walk in threads of its own: the same numbers, and nothing is left behind."""

import threading
import time

import pytest
import torch

from espnet_kd.lattice import Joint, stats
from espnet_kd.lattice.side_by_side import alone, shares, side_by_side
from espnet_kd.objective import Objective, distillation_losses
from tests.lattice.materialised import random_joint, random_labels

B, T, U, V = 4, 47, 31, 123
T_LEN, U_LEN = torch.tensor([47, 20, 1, 33]), torch.tensor([31, 0, 7, 30])
LABELS = random_labels(B, U, V)


@pytest.fixture
def threads():
    """Set torch's threads; they are put back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradients(objective, budget=150_000):
    student, teacher = random_joint(B, T, U, V), random_joint(B, T, U, V, seed=3)
    student = student._replace(activation=torch.nn.PReLU(dtype=torch.float64))
    losses = distillation_losses(student, teacher, LABELS, T_LEN, U_LEN, objective, 0.0, budget)
    inputs = [*student[:4], student.activation.weight]
    return losses.rnnt, losses.kd, *torch.autograd.grad((losses.rnnt + losses.kd).sum(), inputs)


@pytest.mark.parametrize(
    "objective",
    [Objective(), Objective("full"), Objective("top_k"), Objective(lattice="band")],
    ids=lambda x: f"{x.objective}-{x.lattice}",
)
def test_threads_give_the_numbers_of_one(objective, threads, monkeypatch):
    threads(1)
    want = gradients(objective)
    threads(3)
    seen = set()
    hidden = Joint.hidden
    monkeypatch.setattr(
        Joint,
        "hidden",
        lambda self, nodes: (
            seen.add((threading.get_ident(), torch.get_num_threads())) or hidden(self, nodes)
        ),
    )
    for a, b in zip(gradients(objective), want):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert len(seen) > 2
    small = threading.get_ident(), 3  # the band's walk may be one chunk: it has torch's threads
    assert {number for _, number in seen - {small}} == {1}
    assert torch.get_num_threads() == 3 and threading.active_count() < 10


def test_work_for_one_chunk_stays_in_its_thread(threads, monkeypatch):
    threads(3)
    monkeypatch.setattr(threading, "Thread", None)
    gradients(Objective(), budget=None)


def test_an_error_in_a_thread_is_raised_and_threads_are_put_back(threads):
    threads(2)

    def work(part):
        if part == 1:
            raise ValueError("no good")
        return part

    with pytest.raises(ValueError, match="no good"):
        side_by_side(work, [0, 1])
    assert torch.get_num_threads() == 2


def test_no_thread_outlives_one_that_cannot_begin(threads, monkeypatch):
    threads(3)
    begin, begun, done = threading.Thread.start, [], []

    def start(thread):
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="start new thread"):
        side_by_side(lambda part: done.append(time.sleep(0.05)), [0, 1, 2])
    assert done == [None] and not begun[0].is_alive()
    assert torch.get_num_threads() == 3


def test_what_is_small_is_computed_alone(threads):
    threads(3)

    @alone
    def numbers(fails):
        if fails:
            raise ValueError
        return torch.get_num_threads()

    assert numbers(False) == 1 and torch.get_num_threads() == 3
    with pytest.raises(ValueError):
        numbers(True)
    assert torch.get_num_threads() == 3


def test_inference_mode_holds_in_all_threads(threads):
    threads(2)
    with torch.inference_mode():
        joint = random_joint(B, T, U, V)
        walked = stats.node_stats(joint, LABELS, T_LEN, U_LEN, budget=150_000)
    assert walked.is_inference()


def test_shares_are_about_equal_and_in_order():
    pieces = [stats.Chunk(0, t, t + 1, rows) for t, rows in enumerate([5, 1, 1, 3, 7, 2, 2, 9])]
    for most in (1, 2, 3, 8, 20):
        cut = shares(pieces, most)
        assert [piece for share in cut for piece in share] == pieces
        assert len(cut) <= most and all(cut)
    assert [sum(p.rows for p in share) for share in shares(pieces, 2)] == [17, 13]
