"""Under which condition an utterance is recorded: how many sentences, what pauses, what in them.

People do not begin to speak with the first sample, nor end with the last. A model that never
heard a pause hears words in it, and one that never heard two sentences stops after the first.
"""

import dataclasses
from typing import Dict, Sequence, Tuple

import numpy as np

LONGEST = 2.0  # seconds of a pause
FAINT_DB = (-90.0, -60.0)  # faint noise below full scale; the recordings' own is at -58 to -28
FILLS = ("noise", "faint_noise", "silence")


@dataclasses.dataclass(frozen=True)
class Pauses:
    """Pauses of an utterance, beside the moment at both ends that every sentence has.

    Attributes:
        seconds: Length of each: before the first sentence, between sentences, behind the last.
        fill: Sound in them: `noise` of the recording, which goes on; `faint_noise`, far below
            it; `silence`, digital zeros.
    """

    seconds: Tuple[float, ...]
    fill: str = "noise"


# Condition -> its share of the training and validation sets. Test sets are plain;
# `add_pauses.py` makes others of them.
SHARES: Dict[str, float] = {
    "plain": 0.55,
    "noise": 0.05,
    "faint_noise": 0.10,
    "silence": 0.10,
    "two_sentences": 0.20,
}


def condition(rng: np.random.Generator) -> str:
    """Draw how an utterance is recorded, a key of `SHARES`."""
    return str(rng.choice(list(SHARES), p=list(SHARES.values())))


def sentence_count(name: str) -> int:
    """Number of sentences of an utterance under a condition."""
    return 2 if name == "two_sentences" else 1


def draw(name: str, rng: np.random.Generator) -> Pauses:
    """Draw the pauses of a condition; short ones come more often than long ones."""
    if name == "plain":
        return Pauses((0.0, 0.0))
    seconds: Sequence[float] = LONGEST * rng.random(2) ** 2
    if name == "two_sentences":
        return Pauses((0.0, seconds[0], 0.0), str(rng.choice(FILLS)))
    return Pauses(tuple(seconds), name)
