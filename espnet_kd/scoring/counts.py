"""Correct, substituted, deleted and inserted tokens of utterances, and their file."""

from dataclasses import dataclass
from typing import Dict, Iterable

from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, atomic_open

HEADER = ("utt", "ref_words", "C", "S", "D", "I")


@dataclass(frozen=True)
class Counts:
    """Counts of one utterance or of many together (tokens; `sentences` in utterances)."""

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    sentences: int = 1
    wrong_sentences: int = 0

    @classmethod
    def of(cls, ops: str) -> "Counts":
        """Count the operations of one aligned utterance (see `align`)."""
        c, s, d, i = (ops.count(op) for op in "CSDI")
        return cls(c, s, d, i, 1, int(s + d + i > 0))

    @classmethod
    def total(cls, parts: Iterable["Counts"]) -> "Counts":
        """Add up counts."""
        parts = list(parts)
        return cls(*(sum(getattr(p, field) for p in parts) for field in cls.__annotations__))

    @property
    def ref_words(self) -> int:
        """Tokens of the reference."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def error_rate(self) -> float:
        """Errors in percent of the reference tokens: WER or CER."""
        return 100.0 * self.errors / self.ref_words


def write_counts(path: PathLike, counts: Dict[str, Counts]) -> None:
    """Write `counts.tsv`: a row an utterance, in the order of `counts`, after a header."""
    with atomic_open(path) as f:
        print(*HEADER, sep="\t", file=f)
        for utt, c in counts.items():
            row = (utt, c.ref_words, c.correct, c.substitutions, c.deletions, c.insertions)
            print(*row, sep="\t", file=f)


def read_counts(path: PathLike) -> Dict[str, Counts]:
    """Read `counts.tsv`.

    Raises:
        UserError: the file is not there, or not what `write_counts` wrote.
    """
    counts: Dict[str, Counts] = {}
    try:
        with open(path, encoding="utf-8") as f:
            if tuple(f.readline().rstrip("\n").split("\t")) != HEADER:
                raise UserError(f"{path}:1: the header is not {' '.join(HEADER)}; score again")
            for n, line in enumerate(f, 2):
                try:
                    utt, _, *numbers = line.rstrip("\n").split("\t")
                    c, s, d, i = map(int, numbers)
                except ValueError:
                    raise UserError(f"{path}:{n}: not a row of counts; score again") from None
                counts[utt] = Counts(c, s, d, i, 1, int(s + d + i > 0))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; score again") from None
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; score this model first (stage 13 for the teacher, the "
            "compression stage for a student, or python -m espnet_kd.bin.score)"
        ) from None
    if not sum(c.ref_words for c in counts.values()):
        raise UserError(f"{path}: no reference words in it; score again")
    return counts
