"""Makes `fixture/`: random transcripts and what the real sclite says about them.

    python tests/scoring/make_fixture.py      # needs sclite (Debian: apt install sctk)

Few distinct words, many repetitions: that is where alignments tie.
"""

import random
import re
from pathlib import Path

from espnet_kd.scoring.sclite import find_sclite, run_sclite

FIXTURE = Path(__file__).parent / "fixture"
WORDS = ["a", "A", "the", "THE", "The", "cat", "cats", "ÄÖÜ", "äöü", "wor-", "it's", "1", "<unk>"]
MARKED = ["@", "cat*", "c\\at", "*", "(uh)", "/"]


def corrupt(words, rng):
    """Return `words` with substitutions, deletions, insertions and repetitions."""
    out = []
    for word in words:
        kind = rng.random()
        if kind < 0.55:
            out.append(word)
        elif kind < 0.7:
            out.append(rng.choice(WORDS))
        elif kind < 0.8:
            out += [word, word]
        elif kind < 0.9:
            out += [rng.choice(WORDS), word]
    return out


def utterances(seed=7, number=400):
    """Yield (trn id, reference words, hypothesis words)."""
    rng = random.Random(seed)
    for n in range(number):
        few = rng.sample(WORDS, rng.randint(1, 5)) + (MARKED if n % 10 == 0 else [])
        ref = [rng.choice(few) for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 12, 20]))]
        style = rng.random()
        if style < 0.1:
            hyp = []
        elif style < 0.4:  # unrelated: the alignment is all ties
            hyp = [rng.choice(few) for _ in range(rng.randint(0, 15))]
        else:
            hyp = corrupt(ref, rng)
        # One speaker with no reference word, one whose name holds a hyphen.
        speaker = rng.choice(["spk1", "Spk2", "long-name"])
        if not ref and n % 3 == 0:
            speaker = "silent"
        yield f"{speaker}-utt{n:03d}", ref, hyp


def main():
    """Write the fixture."""
    FIXTURE.mkdir(exist_ok=True)
    lines = list(utterances())
    for k, name in ((1, "ref.trn"), (2, "hyp.trn")):
        rows = [f"{' '.join(u[k])}\t({u[0]})\n" for u in lines]
        (FIXTURE / name).write_text("".join(rows), encoding="utf-8")
    result = run_sclite(find_sclite(), FIXTURE / "ref.trn", FIXTURE / "hyp.trn")
    keep = [line for line in result.splitlines() if re.match(r" *[|,`]|id:|Scores:", line)]
    # The title is the path of the hypotheses on this machine.
    keep = [line.replace(str(FIXTURE / "hyp.trn"), "hyp.trn") for line in keep]
    (FIXTURE / "sclite.txt").write_text("\n".join(keep) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
