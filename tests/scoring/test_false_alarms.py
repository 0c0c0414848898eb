"""Simulated test sets: how often do interval and test call a difference real that is none?

Two systems that are equally good, each better for some people: the logarithm of their ratio
of error rates differs between speakers with a standard deviation of 0.25. That is what makes
utterances depend on each other. Every draw of a test set has other speakers.
"""

import numpy as np
import pytest

from espnet_kd.scoring.bootstrap import interval_of_seeds, paired_intervals
from espnet_kd.scoring.grouping import Grouping
from espnet_kd.scoring.matched_pairs import matched_pairs

TEST_CLEAN = (40, 65)  # speakers, utterances of each; 20 words in the mean
DIGITS = (6, 40)  # with versions of each


def simulated(shape, apart, trials=400, versions=1, seed=0):
    """Return errors (trials, utterances) of two systems, words and speakers (utterances,)."""
    rng = np.random.default_rng(seed)
    people, each = shape
    words = np.repeat(rng.integers(5, 36, people * each), versions)
    speakers = np.repeat(np.arange(people), each * versions)
    recordings = np.repeat(np.arange(people * each), versions)
    rate = 0.05 * np.exp(rng.normal(0, 0.5, (trials, people)))
    better = np.exp(rng.normal(0, apart, (trials, people)) / 2)
    # A recording has its own, too, under all conditions alike.
    hard = rng.gamma(2, 0.5, (trials, people * each))[:, recordings]
    ratio = np.exp(rng.normal(0, apart if versions > 1 else 0, hard.shape[:1] + (people * each,)))
    for_one = better[:, speakers] * np.sqrt(ratio)[:, recordings]
    both = words * rate[:, speakers] * hard
    a, b = rng.poisson(both * for_one), rng.poisson(both / for_one)
    return a, b, words, speakers, recordings


def alarms(a, b, words, index, draws=400):
    """Return the shares of trials in which the interval, and the test, find a difference."""
    grouping = Grouping("x", index, 0)
    sums = grouping.sums
    intervals = paired_intervals(sums(a), sums(b), sums(words), draws=draws)
    p = [matched_pairs(x, y, grouping).p for x, y in zip(a, b)]
    return np.mean([i.significant for i in intervals]), np.mean(np.array(p) < 0.05)


def test_utterances_of_one_speaker_are_not_independent():
    a, b, words, speakers, _ = simulated(TEST_CLEAN, 0.25)
    wrong = alarms(a, b, words, np.arange(len(words)))
    assert min(wrong) > 0.2  # 26 to 33 in 100 with other seeds, where 5 are promised
    assert max(alarms(a, b, words, speakers)) < 0.08


@pytest.mark.parametrize("people", [3, 5, 6, 10])
def test_few_speakers(people):
    a, b, words, speakers, _ = simulated((people, 240 // people), 0.25, 800, seed=people)
    assert max(alarms(a, b, words, speakers)) < 0.075


@pytest.mark.parametrize("shape", [TEST_CLEAN, (10, 24), DIGITS])
def test_intervals_hold_a_real_difference_as_often_as_they_say(shape):
    """One system makes 15 % more errors, on people whom it suits more or less."""
    a, b, words, speakers, _ = simulated(shape, 0.25, 400, seed=7)
    a = a + np.random.default_rng(8).poisson(0.15 * a)
    true = 100 * np.mean((a - b).sum(1) / words.sum())  # over other speakers
    covered = []
    for index in (speakers, np.arange(len(words))):
        sums = Grouping("x", index, 0).sums
        intervals = paired_intervals(sums(a), sums(b), sums(words), draws=400)
        covered.append(np.mean([i.low <= true <= i.high for i in intervals]))
    assert 0.92 < covered[0] <= 0.985 and covered[1] < 0.9  # of utterances too few do


@pytest.mark.parametrize("groups", [6, 40])
def test_intervals_over_seeds_hold_a_real_difference_as_often_as_they_say(groups):
    rng = np.random.default_rng(groups)
    words = rng.integers(80, 120, groups)
    covered = []
    for _ in range(600):
        # A difference of 5 points, speakers and trainings apart by 3 and 2.
        rates = 0.05 + rng.normal(0, 0.03, groups) + rng.normal(0, 0.02, (3, 1))
        d = words * (rates + rng.normal(0, 0.02, (3, groups)))
        interval = interval_of_seeds(d, np.zeros_like(d), words)
        covered.append(interval.low <= 5.0 <= interval.high)
    assert 0.905 < np.mean(covered) <= 0.99


def test_where_speakers_are_alike_speakers_find_as_little():
    a, b, words, speakers, _ = simulated(TEST_CLEAN, 0.0)
    assert max(alarms(a, b, words, speakers)) < 0.08


def test_percentiles_alone_are_too_narrow_for_six_speakers(monkeypatch):
    a, b, words, speakers, _ = simulated(DIGITS, 0.25, 800)
    monkeypatch.setattr("espnet_kd.scoring.bootstrap.stretch", lambda groups, level: 1.0)
    assert alarms(a, b, words, speakers)[0] > 0.09


def test_versions_of_a_recording_are_not_independent():
    """Three speakers are too few to be drawn; their recordings stand there four times each."""
    rng = np.random.default_rng(3)
    words, recordings = np.full(960, 5), np.repeat(np.arange(240), 4)
    better = np.exp(rng.normal(0, 0.8, (400, 240)) / 2)[:, recordings]
    a, b = rng.poisson(0.6 * better), rng.poisson(0.6 / better)
    assert min(alarms(a, b, words, np.arange(960))) > 0.1
    assert max(alarms(a, b, words, recordings)) < 0.08


@pytest.mark.parametrize("groups", [6, 40])
@pytest.mark.parametrize("seeds_apart", [0.0, 0.02, 0.05])
def test_seeds_and_speakers_together(groups, seeds_apart):
    rng = np.random.default_rng(groups)
    words = rng.integers(50, 150, groups)
    found = []
    for _ in range(600):
        rates = rng.normal(0, 0.03, groups) + rng.normal(0, seeds_apart, (3, 1))
        d = words * (rates + rng.normal(0, 0.02, (3, groups)))
        found.append(interval_of_seeds(d, np.zeros_like(d), words).significant)
    assert np.mean(found) < 0.095


@pytest.mark.parametrize("trainings", [1, 3])
def test_speakers_of_unequal_length_together_with_seeds(trainings):
    """Ten speakers, some with ten times the words of others: 8 to 9 in 100."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(1000):
        words = np.round(rng.lognormal(np.log(600), 1.0, 10)) + 20
        d = words * (rng.normal(0, 0.02, 10) + rng.normal(0, 0.003, (trainings, 10)))
        found.append(interval_of_seeds(d, np.zeros_like(d), words).significant)
    assert np.mean(found) < 0.1  # 12 to 14 with n / (n - 1) for the speakers
