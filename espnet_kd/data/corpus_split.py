"""Training, validation and test sets of a corpus that has none: split by speaker."""

import hashlib
import logging
from typing import Callable, Dict, List, Sequence, TypeVar

from espnet_kd.errors import UserError

Thing = TypeVar("Thing")
SHARE, MOST = 0.1, 2000  # of the utterances, and utterances, that are split off for a set
SPEAKERS = 3  # for each set that is split off: with fewer, too much would be lost to train on


def split_off(
    items: Sequence[Thing],
    speaker_of: Callable[[Thing], str],
    names: Sequence[str],
    where: str,
) -> Dict[str, List[Thing]]:
    """Take sets out of a training set, by speaker where there are enough speakers.

    The choice hangs on the speakers' names only: the same corpus is always split alike.

    Args:
        items: Utterances.
        speaker_of: Speaker of one; empty: unknown.
        names: Names of the sets to take out.
        where: Name of the corpus, for messages.

    Returns:
        Utterances of each of `names`; those of the empty name remain.

    Raises:
        UserError: Too few utterances.
    """
    if len(items) <= len(names):
        raise UserError(
            f"{where}: {len(items)} utterances cannot be split into {len(names) + 1} sets; name "
            f"sets of its own for {' and '.join(names)}"
        )
    groups: Dict[str, List[Thing]] = {}
    for item in items:
        groups.setdefault(speaker_of(item), []).append(item)
    by_speaker = "" not in groups and len(groups) >= SPEAKERS * len(names)
    if not by_speaker:
        groups = {str(n): [item] for n, item in enumerate(items)}
    rest = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())
    wanted = min(MOST, max(1, round(SHARE * len(items))))
    sets: Dict[str, List[Thing]] = {}
    for name in names:
        chosen: List[Thing] = []
        count = 0
        # A speaker must remain for each set that follows, and for training.
        while len(chosen) < wanted and len(rest) > len(names) - len(sets):
            nearest = next((g for g in rest if len(chosen) + len(groups[g]) <= 1.5 * wanted), None)
            if nearest is None:
                nearest = min(rest, key=lambda g: len(groups[g]))
                if chosen:
                    break
            rest.remove(nearest)
            chosen += groups[nearest]
            count += 1
        sets[name] = chosen
        what = f"{count} of {len(groups)} speakers" if by_speaker else "by utterance"
        logging.info(f"{where}: no set '{name}' is given: {len(chosen)} utterances of it, {what}")
    if not by_speaker:
        logging.warning(
            f"{where}: speakers are unknown or too few: the same voices may be in all sets, and "
            "error rates look better than for new ones"
        )
    sets[""] = [item for name in rest for item in groups[name]]
    return sets
