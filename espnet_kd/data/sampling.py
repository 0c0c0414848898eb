"""A part of a set's utterances to measure on: the same in every run, and of all its conditions."""

import hashlib
from typing import List, Sequence


def by_name(names: Sequence[str], count: int) -> List[str]:
    """Choose utterances by a digest of their names.

    Evenly spaced ones may be of one condition: strings are often there under each, one after the
    other (of 960 digit strings at four noise levels, 40 evenly spaced are all at one). And what is
    chosen is chosen again where more are wanted.

    Args:
        names: Names of utterances.
        count: Number of them, at most.

    Returns:
        So many of the names, in their order.
    """
    if count >= len(names):
        return list(names)
    chosen = set(ranked(names)[:count])
    return [name for name in names if name in chosen]


def ranked(names: Sequence[str]) -> List[str]:
    """Return the names in the order in which they are chosen."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
