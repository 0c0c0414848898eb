"""Is one system worse than another, or is the test set small? A paired bootstrap."""

from dataclasses import dataclass
from typing import Sequence

import numpy as np

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
    errors: Sequence[int],
    baseline: Sequence[int],
    words: Sequence[int],
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
    delta = np.asarray(errors, dtype=np.int64) - np.asarray(baseline, dtype=np.int64)
    words = np.asarray(words, dtype=np.int64)
    if not len(delta) == len(words) or not words.sum():
        raise ValueError(f"{len(delta)} differences, {len(words)} utterances, {words.sum()} words")
    random = np.random.default_rng(seed)
    chunk = max(1, _MAX_PICKS // len(words))
    drawn = []
    for start in range(0, draws, chunk):
        picks = random.integers(len(words), size=(min(chunk, draws - start), len(words)))
        # An all-empty draw has no rate; it can only happen on a handful of utterances.
        drawn.append(delta[picks].sum(1) / np.maximum(words[picks].sum(1), 1))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(100.0 * np.concatenate(drawn), [tail, 100.0 - tail])
    return Interval(float(100.0 * delta.sum() / words.sum()), float(low), float(high))
