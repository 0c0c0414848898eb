"""Which utterances belong together: those of a speaker, or of one recording.

Errors of one person's utterances rise and fall together, and so do those of one recording that
was scored under several conditions. A test that takes them for independent finds differences
where there are none: with speakers that differ as those of LibriSpeech's test-clean do, in 30 of
100 trials instead of 5 (tests/scoring/test_false_alarms.py).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.scoring.conditions import CONDITION, LABELS, SOURCE

SPEAKERS, RECORDINGS, UTTERANCES = "speakers", "recordings", "utterances"
AUTO = "auto"
DRAWN_BY = (AUTO, SPEAKERS, RECORDINGS, UTTERANCES)
# With fewer, other people are out of reach: the quantile of Student's distribution makes an
# interval of 4 speakers 1.9 times as wide as one of many, and one of 3 speakers 2.7 times.
LEAST_SPEAKERS = 5
_READER_AND_CHAPTER = re.compile(r"(\d+)-\d+")  # a "speaker" in Kaldi's LibriSpeech


@dataclass(frozen=True)
class Grouping:
    """Groups of utterances that are drawn together.

    Attributes:
        by: `speakers`, `recordings` or `utterances`: kind of the groups.
        index: Number of each utterance's group, from 0. (utterances,)
        speakers: Number of speakers.
        chosen: Kind of group that somebody has asked for; empty: nobody has.
    """

    by: str
    index: np.ndarray
    speakers: int
    chosen: str = ""

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.index.max()) + 1

    def sums(self, values: ArrayLike) -> np.ndarray:
        """Add up the values of each group. (..., utterances) -> (..., groups)."""
        array = np.asarray(values, dtype=float)
        order = np.argsort(self.index, kind="stable")
        starts = np.searchsorted(self.index[order], np.arange(self.count))
        return np.add.reduceat(array[..., order], starts, axis=-1)

    def describe(self) -> str:
        """Say what is drawn, and of whom the interval says something."""
        people = f"{self.speakers} speaker{'s' * (self.speakers != 1)}"
        if self.by == SPEAKERS:
            return f"its {people}, each with all utterances"
        why = "as asked for" if self.chosen else f"{people} would be too few to draw"
        if self.chosen not in ("", self.by):
            why = f"{self.chosen} were asked for, and no two are known to be of one"
        if not self.chosen and self.speakers == len(self.index):
            versions = ", each with all versions" if self.by == RECORDINGS else ""
            label = "each utterance has a speaker label of its own"
            return f"its {self.count:,} {self.by}{versions} ({label})"
        what = f"{self.count:,} {self.by}" + ", each with all versions" * (self.by == RECORDINGS)
        return f"its {what} ({why}): that holds for these speakers, not for other people"

    def to_json(self) -> Dict[str, object]:
        """Return what `results.json` says of it."""
        return {"by": self.by, "groups": self.count, "speakers": self.speakers}


def group(
    utterances: Sequence[str],
    speakers: Mapping[str, str],
    sources: Mapping[str, str],
    by: str = AUTO,
) -> Grouping:
    """Choose groups of utterances.

    Args:
        utterances: Names of the utterances.
        speakers: Speaker of each utterance.
        sources: Recording that each utterance was made of; may be empty.
        by: Kind of the groups; `auto`: speakers if there are `LEAST_SPEAKERS`, or else
            recordings.
    """
    people = people_of([speakers[utt] for utt in utterances])
    number = len(set(people))
    chosen = by if by != AUTO else ""
    if not chosen:
        by = SPEAKERS if number >= LEAST_SPEAKERS else RECORDINGS
        if number == len(utterances):  # no speaker was named, or there are no two of one
            by = RECORDINGS
    if by == RECORDINGS:
        names = [sources.get(utt, utt) for utt in utterances]
        by = RECORDINGS if len(set(names)) < len(names) else UTTERANCES
    else:
        names = people if by == SPEAKERS else list(utterances)
    order = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return Grouping(by, np.array([order[name] for name in names]), number, chosen)


def people_of(labels: List[str]) -> List[str]:
    """Return readers where all labels are a reader's chapters, as in Kaldi's LibriSpeech."""
    matches = [_READER_AND_CHAPTER.fullmatch(label) for label in labels]
    return [m[1] for m in matches if m] if all(matches) else labels


def read_grouping(folder: Path, utterances: Sequence[str], by: str = AUTO) -> Grouping:
    """Group the utterances of scores by what lies beside them.

    Args:
        folder: Directory of a decoded set, which holds `score_wer`.
        utterances: Names of the utterances.
        by: See `group`.

    Raises:
        UserError: the scores are not of these utterances.
    """
    return group(
        utterances, read_speakers(folder, utterances), read_sources(folder, utterances), by
    )


def read_speakers(folder: Path, utterances: Sequence[str]) -> Dict[str, str]:
    """Read speakers from sclite's references, whose lines end with (speaker-utterance).

    Raises:
        UserError: they are not of these utterances.
    """
    path = folder / "score_wer/ref.trn"
    if not path.is_file():
        raise UserError(f"{path}: no such file, which names the speakers; score again")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    ids = [line.rpartition("\t(")[2].removesuffix(")") for line in lines]
    if len(ids) != len(utterances):
        raise UserError(f"{path}: {len(ids)} utterances, not {len(utterances)}; score again")
    speakers = {}
    for number, (utt, name) in enumerate(zip(utterances, ids), 1):
        if not name.endswith(f"-{utt}"):
            raise UserError(f"{path}:{number}: '{name}' is not of '{utt}'; score again")
        speakers[utt] = name.removesuffix(f"-{utt}")
    return speakers


def read_sources(folder: Path, utterances: Sequence[str]) -> Dict[str, str]:
    """Read what a folder says of recordings: `sources_of`."""
    tables = {name: read_table(folder / name) for name in LABELS if (folder / name).is_file()}
    return sources_of(tables, utterances)


def sources_of(
    tables: Mapping[str, Mapping[str, str]], utterances: Iterable[str]
) -> Dict[str, str]:
    """Return the recordings that utterances were made of, as far as it is known.

    Args:
        tables: `utt2source`; without it, the condition of `utt2condition` is cut from names that
            end with it.
        utterances: Names of the utterances.
    """
    if SOURCE in tables:
        return dict(tables[SOURCE])
    utterances, labels = list(utterances), tables.get(CONDITION, {})
    cut = {utt: utt.removesuffix(f"-{labels[utt]}") for utt in utterances if utt in labels}
    made = len(cut) == len(utterances) and all(name != utt for utt, name in cut.items())
    return cut if made else {}
