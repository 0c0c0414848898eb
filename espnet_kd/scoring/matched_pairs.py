"""Is the difference of two systems more than chance? Matched pairs, and many of them."""

import math
from dataclasses import dataclass
from typing import List, Sequence

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class MatchedPairs:
    """Outcome of a matched-pairs test.

    Attributes:
        z: Mean difference in units of its standard error; above 0 the system is worse.
        p: Two-sided p value: how often chance alone gives such a |z| or a larger one.
    """

    z: float
    p: float


def matched_pairs(errors: ArrayLike, baseline: ArrayLike) -> MatchedPairs:
    """Test whether two systems make equally many errors.

    Args:
        errors: (utterances,) errors of the system.
        baseline: (utterances,) errors of the one it is compared with, same order.

    Returns:
        z = mean(d) / sqrt(var(d) / n), d the differences of errors, and its p value.

    Source: L. Gillick and S. J. Cox, "Some statistical issues in the comparison of speech
    recognition algorithms", ICASSP 1989; NIST's MAPSSWE. NIST cuts utterances where both
    systems are right for two words; here the segments are whole utterances. z is taken as
    normal, which wants about 50 utterances or more. With m utterances on which the systems
    differ, no exchange of the two can be rarer than 2^(1 - m): p is never below that (ours).
    """
    d = np.asarray(errors, dtype=np.int64) - np.asarray(baseline, dtype=np.int64)
    differing = int(np.count_nonzero(d))
    if len(d) < 2 or not differing:
        return MatchedPairs(0.0, 1.0)
    mean, deviation = float(d.mean()), float(d.std(ddof=1))
    if not deviation:  # every utterance differs by the same
        return MatchedPairs(math.copysign(math.inf, mean), 2.0 ** (1 - differing))
    z = mean / (deviation / math.sqrt(len(d)))
    p = math.erfc(abs(z) / math.sqrt(2.0))
    return MatchedPairs(z, max(p, 2.0 ** (1 - differing)))


def holm(p_values: Sequence[float]) -> List[float]:
    """Correct p values of comparisons that are read together.

    Calling those below a level significant keeps the chance of even one false alarm among
    all of them below that level, whatever their dependence.

    Returns:
        Adjusted p values in the order given.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6, 1979.
    """
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted
