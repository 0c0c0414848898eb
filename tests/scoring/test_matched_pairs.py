"""The matched-pairs test and Holm's correction."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from espnet_kd.scoring.grouping import Grouping
from espnet_kd.scoring.matched_pairs import holm, matched_pairs


def permuted(d):
    """Return the exact two-sided p value: all exchanges of the systems, equally likely."""
    sums = np.abs(np.array(list(itertools.product((1, -1), repeat=len(d)))) @ d)
    return np.mean(sums >= abs(sum(d)))


def test_by_hand():
    # d = 2, 0, 1, 1: mean 1, variance 2 / 3, z = 1 / sqrt(2 / 3 / 4) = sqrt(6).
    found = matched_pairs([3, 1, 1, 2], [1, 1, 0, 1])
    assert found.z == pytest.approx(math.sqrt(6))
    # Student's tail is 0.092; three differing utterances cannot say more than 1 / 4.
    assert found.p == permuted([2, 1, 1]) == 0.25


def test_the_tail_is_students():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 4, (2, 300))
    d = a - b
    z = d.mean() / math.sqrt(d.var(ddof=1) / 300)
    found = matched_pairs(a, b)
    assert found.z == pytest.approx(z) and found.p == pytest.approx(2 * stats.t.sf(abs(z), 299))
    back = matched_pairs(b, a)
    assert (back.z, back.p) == pytest.approx((-found.z, found.p))


def test_is_the_permutation_test_where_utterances_are_many():
    rng = np.random.default_rng(5)
    signs = rng.choice([-1, 1], size=(10_000, 200))
    for shift in (0.0, 0.1, 0.2):
        d = rng.poisson(0.6 + shift, 200) - rng.poisson(0.6, 200)
        sums = np.abs(signs @ d)
        # Half of the equally extreme ones: a continuous tail cuts a discrete one in between.
        exact = np.mean(sums > abs(d.sum())) + np.mean(sums == abs(d.sum())) / 2
        assert matched_pairs(d, np.zeros(200)).p == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_never_below_the_exact_sign_test(n):
    """All utterances worse by one: the binomial says 2 / 2^n, a normal z would say 0."""
    found = matched_pairs([1] * n, [0] * n)
    assert found.p == pytest.approx(permuted([1] * n)) == 2 / 2**n


def test_groups_are_what_is_independent():
    rng = np.random.default_rng(4)
    speakers = Grouping("speakers", np.arange(60) % 6, 6)
    d = rng.poisson(1, 60) - rng.poisson(1, 60) + (speakers.index == 0)
    sums = np.array([d[speakers.index == k].sum() for k in range(6)])
    t = sums.mean() / (sums.std(ddof=1) / 6**0.5)
    found = matched_pairs(d, np.zeros(60), speakers)
    assert (found.z, found.p) == pytest.approx((t, 2 * stats.t.sf(abs(t), 5)))
    # Every speaker with one error more and one less.
    assert (
        matched_pairs([1, 0, 1, 0], [0, 1, 0, 1], Grouping("s", np.array([0, 0, 1, 1]), 2)).p == 1
    )


def test_no_difference():
    assert matched_pairs([1, 2, 0], [1, 2, 0]).p == 1
    assert matched_pairs([2, 0], [0, 2]) == matched_pairs([0, 2], [2, 0])


def systems(rng, n, extra):
    """Simulate two systems with common hard utterances; one errs more by `extra` a word."""
    hard = rng.beta(1, 9, n)
    words = rng.integers(4, 15, n)
    return rng.binomial(words, np.minimum(1, hard + extra)), rng.binomial(words, hard)


def test_false_alarms_and_power():
    rng = np.random.default_rng(7)
    alarms = [matched_pairs(*systems(rng, 200, 0.0)).p < 0.05 for _ in range(600)]
    assert 0.03 < np.mean(alarms) < 0.07
    found = [matched_pairs(*systems(rng, 200, 0.04)).p < 0.05 for _ in range(100)]
    assert np.mean(found) > 0.9


def test_holm_by_hand():
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 (raised to 0.06), 0.5 * 1.
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([]) == [] and holm([0.7, 0.8]) == [1, 1] and holm([0.03]) == [0.03]


def test_holm_keeps_false_alarms_of_the_family_down():
    rng = np.random.default_rng(2)
    p = rng.random((2000, 10))
    assert np.mean(p.min(1) < 0.05) > 0.35  # what it is needed for
    assert np.mean([min(holm(row.tolist())) < 0.05 for row in p]) < 0.065
