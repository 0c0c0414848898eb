"""Is the difference of two systems more than chance? Matched pairs, and many of them."""

import math
from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from espnet_kd.scoring.grouping import Grouping


@dataclass(frozen=True)
class MatchedPairs:
    """Outcome of a matched-pairs test.

    Attributes:
        z: Student's t: mean difference in units of its standard error; above 0 it is worse.
        p: Two-sided p value: how often chance alone gives such a |t| or a larger one.
    """

    z: float
    p: float


def matched_pairs(
    errors: ArrayLike, baseline: ArrayLike, grouping: Optional[Grouping] = None
) -> MatchedPairs:
    """Test whether two systems make equally many errors.

    Args:
        errors: (utterances,) errors of the system.
        baseline: (utterances,) errors of the one it is compared with, same order.
        grouping: Groups that are independent of each other; None: every utterance is.

    Returns:
        t = mean(d) / sqrt(var(d) / n), d the differences of errors of n groups, and its p value
        by Student's distribution with n - 1 degrees of freedom.

    Source: L. Gillick and S. J. Cox, "Some statistical issues in the comparison of speech
    recognition algorithms", ICASSP 1989, whose segments must be independent; NIST's MAPSSWE.
    NIST cuts utterances where both systems are right for two words; here a segment is all that
    was said by a speaker. R. Ibragimov and U. K. Mueller, Journal of Business and Economic
    Statistics 28, 2010: with few groups of unlike variance the test finds too little, if
    anything. With m utterances on which the systems differ, no exchange of the two can be rarer
    than 2^(1 - m): p is never below that (ours).
    """
    d = np.asarray(errors, dtype=np.int64) - np.asarray(baseline, dtype=np.int64)
    differing = int(np.count_nonzero(d))
    if grouping is not None:
        d = grouping.sums(d)
    if len(d) < 2 or not differing:
        return MatchedPairs(0.0, 1.0)
    mean, deviation = float(d.mean()), float(d.std(ddof=1))
    if not deviation:  # every group differs by the same
        t = math.copysign(math.inf, mean) if mean else 0.0
        return MatchedPairs(t, 2.0 ** (1 - differing) if mean else 1.0)
    t = mean / (deviation / math.sqrt(len(d)))
    p = 2 * float(stdtr(len(d) - 1, -abs(t)))
    return MatchedPairs(t, max(p, 2.0 ** (1 - differing)))


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
