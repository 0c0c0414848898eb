"""When a WER measures no model, and when a difference of two says nothing."""

from typing import Dict, List, Optional, Sequence

from espnet_kd.report.rows import Row
from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.faults import fault

FEW = 20  # utterances: with fewer neither bootstrap nor normal distribution holds


def remark(
    model: str, against: str, counts: Sequence[Dict[str, Counts]], groups: int
) -> Optional[str]:
    """Say why a difference allows no verdict of significance; None if it does.

    Args:
        model: Name of the first model.
        against: Name of the second one.
        counts: Counts of every utterance, of both models.
        groups: Number of groups that are drawn.
    """
    faults = [fault(Counts.total(c.values())) for c in counts]
    bad = [f"{name} {what}" for name, what in zip((against, model), faults[::-1]) if what]
    if bad:
        return f"no conclusion: {', and '.join(bad)}"
    number = len(counts[0])
    if number < FEW:
        return f"no conclusion: {number} utterance{'s' * (number > 1)}, too few for a test"
    if groups < 2:
        return "no conclusion: all is of one speaker, or of one recording"
    if all(a == b for a, b in zip(*(c.values() for c in counts))):
        return "the same number of errors of each kind in every utterance"
    return None


def warnings(rows: Sequence[Row], test_sets: Sequence[str]) -> List[str]:
    """Name the models whose figures must not be taken at face value, one sentence each."""
    sentences = []
    for row in rows:
        places: Dict[str, List[str]] = {}
        for s in test_sets:
            if row.faults.get(s):
                places.setdefault(row.faults[s], []).append(s)
        sentences += [
            f"{row.name} {what} on {', '.join(sets)}: comparisons with it say nothing, and its "
            "speed is not that of a working model."
            for what, sets in places.items()
        ]
        if row.hit_limit:
            sentences.append(
                f"Decoding with {row.name} was stopped at its limit in {row.hit_limit:,} "
                f"utterance{'s' * (row.hit_limit > 1)}; what was recognised until then is scored."
            )
    return sentences
