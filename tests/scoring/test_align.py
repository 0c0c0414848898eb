"""The batched alignment against the textbook recursion."""

import random

import pytest

from espnet_kd.scoring import align as module
from espnet_kd.scoring.align import align


def naive(ref, hyp):
    """Return the operations of one pair by the recursion itself, ties as sclite breaks them."""
    best = {}
    for r in range(len(ref) + 1):
        for h in range(len(hyp) + 1):
            options = []  # (cost, preference, operations)
            if r and h:
                cost, ops = best[r - 1, h - 1]
                same = ref[r - 1] == hyp[h - 1]
                options.append((cost + (0 if same else 4), 0, ops + ("C" if same else "S")))
            if h:
                cost, ops = best[r, h - 1]
                options.append((cost + 3, 1, ops + "I"))
            if r:
                cost, ops = best[r - 1, h]
                options.append((cost + 3, 2, ops + "D"))
            cost, _, ops = min(options, default=(0, 0, ""))
            best[r, h] = (cost, ops)
    return best[len(ref), len(hyp)][1]


@pytest.mark.parametrize("max_cells", [1, 500, 4_000_000])
def test_equals_recursion_in_any_batching(monkeypatch, max_cells):
    monkeypatch.setattr(module, "_MAX_CELLS", max_cells)
    rng = random.Random(1)
    refs = [[rng.choice("abc") for _ in range(rng.randint(0, 12))] for _ in range(200)]
    hyps = [[rng.choice("abc") for _ in range(rng.randint(0, 12))] for _ in range(200)]
    assert align(refs, hyps) == [naive(r, h) for r, h in zip(refs, hyps)]


@pytest.mark.parametrize(
    "ref, hyp, ops",
    [
        ("", "", ""),
        ("ab", "", "DD"),
        ("", "ab", "II"),
        ("ab", "ab", "CC"),
        ("a", "b", "S"),
        ("a", "aa", "IC"),
    ],
)
def test_small(ref, hyp, ops):
    assert align([ref], [hyp]) == [ops]


def test_no_utterances():
    assert align([], []) == []
