"""Who speaks: espeak-ng's accents and variants, drawn as speakers with habits of their own."""

import dataclasses
from typing import List

import numpy as np

from espnet_kd.errors import UserError

ACCENTS = "en-us en en-gb-x-rp en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-029".split()
NEW_ACCENT = "en-us-nyc"  # heard in test_new only

# Variants that one takes for a person; robots, whispering and croaking are left out, and
# Alicia and shelby, whose words lie nearer to other words than to the same in other voices.
# Near copies (rob of robert, klatt4 of klatt5, michel of Hugo) do not make a voice new, so
# test_new has none of a training variant.
VARIANTS = {
    "train": """plain m1 m2 m4 m5 m6 m8 f1 f2 f4 f5 Alex Andy Gene Henrique Hugo Jacky Mario Mike
        Reed adam anika belinda benjamin boris edward grandma grandpa gustave ian john klatt
        klatt2 klatt3 klatt5 max norbert paul pedro quincy robert sandro steph travis
        victor""".split(),
    "dev": "Nguyen linda klatt4 mike2 rob Marco".split(),
    "test_new": """m3 m7 f3 Andrea Annie Denis Michael antonio aunty david ed iven3
        pablo""".split(),
}
FIRST_ID = {"train": 100, "dev": 600, "test_new": 800}


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A voice and its habits.

    Attributes:
        id: LibriSpeech's speaker number.
        voice: espeak-ng's name, `accent` or `accent+variant`.
        rate: Words per minute.
        pitch: 0 to 100, 50 is the voice's own.
        pitch_range: 0 (monotone) to 100.
        tract: Length of the vocal tract against the voice's own: below 1 all formants rise
            (and, by as much, pitch and rate).
    """

    id: int
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    tract: float


def speakers(group: str, count: int, seed: int) -> List[Speaker]:
    """Draw `count` speakers of `train`, `dev` or `test_new`, each with a voice of its own.

    Every variant comes once before one comes twice, and each time with another accent. The
    groups have no variant in common. Fewer speakers are the first of more.

    Raises:
        UserError: there are not so many voices.
    """
    rng = np.random.default_rng([seed, FIRST_ID[group]])
    variants = [str(v) for v in rng.permutation(VARIANTS[group])]
    accents = [str(a) for a in rng.permutation(ACCENTS + [NEW_ACCENT] * (group == "test_new"))]
    most = len(variants) * len(accents)
    if not 1 <= count <= most:
        raise UserError(f"{count} voices asked for {group}; there are 1 to {most}")
    result = []
    for i in range(count):
        turn, v = divmod(i, len(variants))
        accent = accents[(v + turn) % len(accents)]
        result.append(
            Speaker(
                id=FIRST_ID[group] + i,
                voice=accent if variants[v] == "plain" else f"{accent}+{variants[v]}",
                rate=int(rng.integers(155, 206)),
                pitch=int(rng.integers(35, 66)),
                pitch_range=int(rng.integers(35, 66)),
                tract=round(float(rng.uniform(0.94, 1.06)), 3),
            )
        )
    return result
