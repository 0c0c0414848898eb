"""Is one system worse than another, or is the test set small? A paired bootstrap."""

from dataclasses import dataclass
from typing import Iterator, List, Tuple

import numpy as np
from numpy.typing import ArrayLike

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

    Utterances are drawn with replacement, as many as there are; both systems are scored on
    the same draw, so what is hard for both cancels. The interval holds the middle `level`
    of the differences over all draws (percentiles).

    Args:
        errors: (utterances,) errors of the system.
        baseline: (utterances,) errors of the one it is compared with, same order.
        words: (utterances,) reference tokens, the same for both.
        draws: Number of draws.
        seed: Fixes the draws: the same numbers come out again.
        level: Share of draws inside the interval.

    Returns:
        Difference `errors` minus `baseline` in points; above 0 the system is worse.

    Source: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR
    performance evaluation", ICASSP 2004. Utterances are taken as independent; those of one
    speaker are not quite, so with few speakers the truth is wider.
    """
    pair = np.asarray(errors)[None], np.asarray(baseline)[None]  # (1, utterances) each
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
        errors: (pairs, utterances).
        baselines: (pairs, utterances).
        words: (utterances,), the same for all.
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
    return [_interval(diff, rate, level) for diff, rate in zip(diffs, rates.T)]


def paired_interval_of_seeds(
    errors: ArrayLike,
    baseline: ArrayLike,
    words: ArrayLike,
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = 0.95,
) -> Interval:
    """Estimate how sure a difference is, over utterances and over trainings.

    Every draw takes utterances with replacement, the same for all trainings, and
    independently of them trainings with replacement, each with its own baseline; it pools
    their errors. `paired_interval` of the errors summed over trainings draws the very same
    utterances, but keeps the trainings as they are.

    Args:
        errors: (trainings, utterances) errors of the system.
        baseline: (trainings, utterances) of the one it is compared with.
        words: (utterances,) reference tokens.
        draws: Number of draws.
        seed: Fixes the draws.
        level: Share of draws inside the interval.

    Returns:
        Mean difference over trainings, in points.

    Source: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007: both
    factors are resampled independently. With S trainings the bootstrap sees (S - 1) / S of
    the variance between them, so with two or three the interval is still too narrow.
    """
    delta, tokens = _differences(errors, baseline, words)
    # A stream of its own: the utterances drawn do not depend on the number of trainings.
    random = np.random.default_rng([seed, 1])
    drawn = []
    for times in _draw(len(tokens), draws, seed):
        rates = times @ delta.T / _words(times, tokens)  # (draws, trainings)
        trainings = random.integers(len(delta), size=rates.shape)
        drawn.append(np.take_along_axis(rates, trainings, axis=1).mean(1))
    return _interval(delta.sum() / (len(delta) * tokens.sum()), np.concatenate(drawn), level)


def _differences(
    errors: ArrayLike, baselines: ArrayLike, words: ArrayLike
) -> Tuple[np.ndarray, np.ndarray]:
    """Return (rows, utterances) differences and (utterances,) words; float64 is exact here."""
    delta = np.asarray(errors, dtype=float) - np.asarray(baselines, dtype=float)
    tokens = np.asarray(words, dtype=float)
    if delta.ndim != 2 or delta.shape[1] != len(tokens) or not tokens.sum():
        raise ValueError(
            f"differences {delta.shape}, {len(tokens)} utterances, {tokens.sum():.0f} words"
        )
    return delta, tokens


def _draw(utterances: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (some draws, utterances): how often each was drawn, in chunks that fit."""
    random = np.random.default_rng(seed)
    chunk = max(1, _MAX_PICKS // utterances)
    for start in range(0, draws, chunk):
        size = (min(chunk, draws - start), utterances)
        picks = random.integers(utterances, size=size) + utterances * np.arange(size[0])[:, None]
        times = np.bincount(picks.ravel(), minlength=size[0] * utterances)
        yield times.reshape(size).astype(float)


def _words(times: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return (draws, 1) reference tokens of each draw.

    An all-empty draw has no rate; it can only happen on a handful of utterances.
    """
    return np.maximum(times @ words, 1.0)[:, None]


def _interval(diff: float, drawn: np.ndarray, level: float) -> Interval:
    """Take the middle `level` of the drawn differences; all are shares, not points."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(100.0 * drawn, [tail, 100.0 - tail])
    return Interval(float(100.0 * diff), float(low), float(high))
