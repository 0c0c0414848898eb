"""Is one system worse than another, or is the test set small? A paired bootstrap.

What is drawn are groups of utterances that are independent of each other: speakers, as a rule
(`scoring/grouping.py`), whose errors and words have been added up.
"""

import math
from dataclasses import dataclass
from typing import Iterator, List, Tuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

DRAWS = 10_000
SEED = 0
_MAX_PICKS = 4_000_000  # random indices held at a time: 32 MB


@dataclass(frozen=True)
class Interval:
    """A difference of error rates and its interval, in points (percent of ref. tokens)."""

    diff: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def paired_interval(
    errors: ArrayLike,
    baseline: ArrayLike,
    words: ArrayLike,
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = 0.95,
) -> Interval:
    """Estimate how sure the difference of two error rates is.

    Groups of utterances are drawn with replacement, as many as there are, each as a whole; both
    systems are scored on the same draw, so what is hard for both cancels. The middle `level` of
    the differences over all draws (percentiles) is the interval, once it is stretched for the
    number of groups, see `stretch`.

    Args:
        errors: (groups,) errors of the system.
        baseline: (groups,) errors of the one it is compared with, same order.
        words: (groups,) reference tokens, the same for both.
        draws: Number of draws.
        seed: Fixes the draws: the same numbers come out again.
        level: Share of draws inside the interval.

    Returns:
        Difference `errors` minus `baseline` in points; above 0 the system is worse.

    Source: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR
    performance evaluation", ICASSP 2004, who draw speakers where utterances depend on them.
    """
    pair = np.asarray(errors)[None], np.asarray(baseline)[None]  # (1, groups) each
    return paired_intervals(*pair, words, draws, seed, level)[0]


def paired_intervals(
    errors: ArrayLike,
    baselines: ArrayLike,
    words: ArrayLike,
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = 0.95,
) -> List[Interval]:
    """Do what `paired_interval` does for many pairs of systems, in the time of one.

    Args:
        errors: (pairs, groups).
        baselines: (pairs, groups).
        words: (groups,), the same for all.
        draws: Number of draws.
        seed: Fixes the draws.
        level: Share of draws inside the interval.

    Returns:
        One interval a pair.
    """
    delta, tokens = _differences(errors, baselines, words)
    drawn = [times @ delta.T / _words(times, tokens) for times in _draw(len(tokens), draws, seed)]
    rates = np.concatenate(drawn)  # (draws, pairs)
    diffs = delta.sum(1) / tokens.sum()
    tail = 50.0 * (1.0 - level)
    bounds = np.percentile(rates, [tail, 100.0 - tail], axis=0)  # (2, pairs)
    low, high = 100.0 * (diffs + stretch(len(tokens), level) * (bounds - diffs))
    return [Interval(*map(float, three)) for three in zip(100.0 * diffs, low, high)]


def stretch(groups: int, level: float = 0.95) -> float:
    """Return how many times wider an interval must be than a bootstrap of few groups says.

    A bootstrap of n groups has (n - 1) / n of the variance, and its percentiles are nearly those
    of a normal distribution, where Student's with n - 1 degrees of freedom is needed: 1.03 of 40
    groups, 1.44 of 6. One group says nothing of others, and is left as it is.

    Source: T. C. Hesterberg, "What teachers should know about the bootstrap", The American
    Statistician 69, 2015, who takes percentiles further out instead; those of five groups do
    not reach that far (10 false alarms in 100, stretched 5: tests/scoring/test_false_alarms.py).
    """
    if groups < 2:
        return 1.0
    quantile = 0.5 + level / 2
    ratio = stdtrit(groups - 1, quantile) / ndtri(quantile)
    return float(ratio * math.sqrt(groups / (groups - 1)))


def interval_of_seeds(
    errors: ArrayLike, baseline: ArrayLike, words: ArrayLike, level: float = 0.95
) -> Interval:
    """Estimate how sure a difference is, over speakers and over trainings.

    Three trainings are too few to be drawn: a bootstrap sees two thirds of their variance and
    has ten different draws. So the variance is estimated instead, of groups and trainings, which
    are crossed: every training is scored on the same groups. Utterances are not drawn again
    within speakers: the variance between speakers has theirs in it.

    Args:
        errors: (trainings, groups) errors of the system.
        baseline: (trainings, groups) of the one it is compared with, each of the same run.
        words: (groups,) reference tokens.
        level: Chance that the interval holds the difference.

    Returns:
        Mean difference over trainings, in points, and its interval.

    Source: A. C. Cameron, J. B. Gelbach and D. L. Miller, "Robust inference with multiway
    clustering", Journal of Business and Economic Statistics 29, 2011, with n / (n - 1) for the
    trainings and the jackknife of groups, which is that where they are of one size (R. M. Bell
    and D. F. McCaffrey, Survey Methodology 28, 2002); F. E. Satterthwaite, Biometrics Bulletin 2,
    1946, for the degrees of freedom.
    """
    delta, tokens = _differences(errors, baseline, words)  # (S, G), (G,)
    S, G = delta.shape
    total = tokens.sum()
    rates = delta.sum(1) / total  # (S,)
    mean = float(rates.mean())
    of_groups = delta.mean(0) - mean * tokens  # (G,)
    both = delta - delta.mean(0) - (rates - mean)[:, None] * tokens  # (S, G)
    # Without a group that has most of the words the rest says less: each counts by the estimate
    # that leaves it out. With groups of equal size this is the usual variance.
    rest = 1 - tokens / total  # (G,)
    rest[rest <= 0] = 1.0  # all words are of one group
    of_groups, both = of_groups / rest, both / rest
    v_groups = (of_groups**2).sum() / _corrected(G) / total**2
    v_seeds = _corrected(S) * ((rates - mean) ** 2).sum() / S**2
    v_both = _corrected(S) / _corrected(G) * (both**2).sum() / (S * total) ** 2
    variance = max(v_groups + v_seeds - v_both, v_groups, v_seeds)  # v_both is in each
    if not variance:
        return Interval(*[100.0 * mean] * 3)
    freedom = (v_groups + v_seeds) ** 2 / (
        v_groups**2 / max(G - 1, 1) + v_seeds**2 / max(S - 1, 1)
    )
    half = float(stdtrit(freedom, 0.5 + level / 2) * math.sqrt(variance))
    return Interval(*(100.0 * x for x in (mean, mean - half, mean + half)))


def _corrected(number: int) -> float:
    return number / (number - 1) if number > 1 else 1.0


def _differences(
    errors: ArrayLike, baselines: ArrayLike, words: ArrayLike
) -> Tuple[np.ndarray, np.ndarray]:
    """Return (rows, groups) differences and (groups,) words; float64 is exact here."""
    delta = np.asarray(errors, dtype=float) - np.asarray(baselines, dtype=float)
    tokens = np.asarray(words, dtype=float)
    if delta.ndim != 2 or delta.shape[1] != len(tokens) or not tokens.sum():
        raise ValueError(
            f"differences {delta.shape}, {len(tokens)} groups, {tokens.sum():.0f} words"
        )
    return delta, tokens


def _draw(groups: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (some draws, groups): how often each was drawn, in chunks that fit."""
    random = np.random.default_rng(seed)
    chunk = max(1, _MAX_PICKS // groups)
    for start in range(0, draws, chunk):
        size = (min(chunk, draws - start), groups)
        picks = random.integers(groups, size=size) + groups * np.arange(size[0])[:, None]
        times = np.bincount(picks.ravel(), minlength=size[0] * groups)
        yield times.reshape(size).astype(float)


def _words(times: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return (draws, 1) reference tokens of each draw.

    An all-empty draw has no rate; it can only happen on a handful of groups.
    """
    return np.maximum(times @ words, 1.0)[:, None]
