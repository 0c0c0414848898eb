"""The paired bootstrap."""

import numpy as np
import pytest
from scipy import stats

from espnet_kd.scoring import bootstrap
from espnet_kd.scoring.bootstrap import (
    Interval,
    interval_of_seeds,
    paired_interval,
    paired_intervals,
    stretch,
)


def naive(errors, baseline, words, draws, seed):
    rng = np.random.default_rng(seed)
    n = len(words)
    diffs = []
    for _ in range(draws):
        picks = rng.integers(n, size=n)
        e, b, w = (sum(x[i] for i in picks) for x in (errors, baseline, words))
        diffs.append(100 * e / w - 100 * b / w)
    rate = 100 * (sum(errors) - sum(baseline)) / sum(words)
    return rate + stretch(n) * (np.percentile(diffs, [2.5, 97.5]) - rate)


def test_equals_loop_in_any_chunking(monkeypatch):
    rng = np.random.default_rng(3)
    words = rng.integers(1, 9, 30)
    a, b = rng.integers(0, 3, 30), rng.integers(0, 3, 30)
    low, high = naive(a, b, words, 200, 5)
    for picks in (1, 100, 10**6):
        monkeypatch.setattr(bootstrap, "_MAX_PICKS", picks)
        interval = paired_interval(a, b, words, draws=200, seed=5)
        assert (interval.low, interval.high) == pytest.approx((low, high))
        assert interval.diff == pytest.approx(100 * (a.sum() - b.sum()) / words.sum())


def test_many_pairs_are_each_as_alone():
    rng = np.random.default_rng(8)
    words, (a, b) = rng.integers(1, 9, 30), rng.integers(0, 3, (2, 4, 30))
    together = paired_intervals(a, b, words, draws=200, seed=5)
    for one, x, y in zip(together, a, b):
        alone = paired_interval(x, y, words, draws=200, seed=5)
        assert (one.diff, one.low, one.high) == pytest.approx((alone.diff, alone.low, alone.high))


def test_same_system_has_no_difference():
    interval = paired_interval([1, 0, 2], [1, 0, 2], [3, 3, 3], draws=100)
    assert (interval.diff, interval.low, interval.high) == (0, 0, 0)
    assert not interval.significant


def test_clear_difference_is_significant_and_pairing_helps():
    rng = np.random.default_rng(0)
    baseline = rng.integers(0, 5, 400)
    words = np.full(400, 10)
    worse = paired_interval(baseline + (rng.random(400) < 0.2), baseline, words, draws=2000)
    assert worse.significant and 1 < worse.low < worse.diff < worse.high < 3
    # The same rates from unrelated errors: a far wider interval.
    shuffled = paired_interval(rng.permutation(baseline), baseline, words, draws=2000)
    assert shuffled.high - shuffled.low > 3 * (worse.high - worse.low)


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        extra = rng.random(100) < 0.1
        interval = paired_interval(extra, np.zeros(100), np.full(100, 5), draws=500)
        hits += interval.low <= 2.0 <= interval.high
    assert 0.88 < hits / 200 <= 1.0


def test_bad_shapes():
    with pytest.raises(ValueError, match="groups"):
        paired_interval([1], [1], [3, 4])
    with pytest.raises(ValueError, match="0 words"):
        paired_interval([0], [0], [0])


def test_few_groups_stretch_the_interval():
    assert stretch(40) == pytest.approx(2.0227 / 1.95996 * (40 / 39) ** 0.5, abs=1e-4)
    assert stretch(6) == pytest.approx(2.5706 / 1.95996 * (6 / 5) ** 0.5, abs=1e-4)
    assert stretch(6, 0.9) == pytest.approx(2.0150 / 1.64485 * (6 / 5) ** 0.5, abs=1e-4)
    assert stretch(10**6) == pytest.approx(1, abs=1e-5) and stretch(1) == 1


def test_one_training_is_students_interval_of_the_groups():
    rng = np.random.default_rng(6)
    d, words = rng.normal(3, 2, 12), np.full(12, 50)
    half = stats.t.ppf(0.975, 11) * d.std(ddof=1) / 12**0.5 / 50 * 100
    i = interval_of_seeds(d[None], np.zeros((1, 12)), words)
    assert (i.diff, i.low, i.high) == pytest.approx(
        (2 * d.mean(), 2 * d.mean() - half, 2 * d.mean() + half)
    )
    # And nearly what the bootstrap says.
    drawn = paired_interval(d, np.zeros(12), words)
    assert (drawn.low, drawn.high) == pytest.approx((i.low, i.high), abs=0.2 * half)


def test_seeds_that_agree_add_nothing():
    rng = np.random.default_rng(6)
    words, a, b = np.full(50, 8), rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    one = interval_of_seeds(a[None], b[None], words)
    three = interval_of_seeds(np.stack([a] * 3), np.stack([b] * 3), words)
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_seeds_that_disagree_widen_the_interval():
    """All groups are alike, so groups alone would call the mean of seeds certain."""
    base, words = np.zeros((3, 200)), np.full(200, 10)
    errors = np.array([[3], [0], [0]]) * np.ones((1, 200), dtype=int)
    assert paired_interval(errors.sum(0), base.sum(0), 3 * words).low == pytest.approx(10)
    wide = interval_of_seeds(errors, base, words)
    half = stats.t.ppf(0.975, 2) * np.std([30, 0, 0], ddof=1) / 3**0.5
    assert (wide.diff, wide.high) == pytest.approx((10, 10 + half))
    assert not wide.significant


def test_nothing_differs():
    assert interval_of_seeds(np.ones((2, 3)), np.ones((2, 3)), [1, 1, 1]) == Interval(0, 0, 0)


def test_bad_shapes_of_seeds():
    with pytest.raises(ValueError, match="differences"):
        interval_of_seeds([1], [1], [3])
