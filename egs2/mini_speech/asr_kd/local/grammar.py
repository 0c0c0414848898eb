"""What is said: connected digits and a small command grammar, 32 words in all."""

import itertools
import zlib
from typing import Iterator, List

import numpy as np

DIGITS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE".split()
ROOMS = ["", "KITCHEN ", "BEDROOM ", "GARDEN "]
PLACES = ["", " IN THE KITCHEN", " IN THE BEDROOM", " IN THE GARDEN"]


def _all(pattern: str, *choices) -> List[str]:
    return [pattern.format(*words) for words in itertools.product(*choices)]


# Each kind of command with all it can say. No TWO MINUTES: it sounds like TO.
COMMANDS = [
    _all("TURN {} THE {}{}", ["ON", "OFF"], ROOMS, ["LIGHT", "FAN", "RADIO"]),
    _all("{} THE {}{}", ["OPEN", "CLOSE"], ROOMS, ["DOOR", "WINDOW"]),
    _all("SET THE {}TIMER TO {} MINUTES", ROOMS, DIGITS[3:]),
    _all("{} THE MUSIC{}", ["PLAY", "STOP"], PLACES),
]

# Sentences that training never says. 5 has no factor in common with the numbers of choices
# above, so every word of the commands occurs on both sides.
KEPT_COMMANDS = [kind[2::5] for kind in COMMANDS]
TRAIN_COMMANDS = [[s for s in kind if s not in kind[2::5]] for kind in COMMANDS]
KEPT_DIGITS = 5  # one digit string in so many


def _digits(rng: np.random.Generator, train: bool) -> str:
    while True:
        text = " ".join(DIGITS[i] for i in rng.integers(10, size=rng.integers(2, 6)))
        # A property of the words alone: corpora made with other options stay apart too.
        if (zlib.crc32(text.encode()) % KEPT_DIGITS != 0) == train:
            return text


def sentences(rng: np.random.Generator, train: bool) -> Iterator[str]:
    """Yield sentences without end, half of them digit strings, in upper case.

    Args:
        rng: Draws them.
        train: Whether they are for training. What is said there is never said elsewhere.
    """
    commands = TRAIN_COMMANDS if train else KEPT_COMMANDS
    while True:
        if rng.random() < 0.5:
            yield _digits(rng, train)
        else:
            kind = commands[rng.integers(len(commands))]
            yield kind[rng.integers(len(kind))]
