"""The scores of all models, utterance by utterance, and what compares two of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np

from espnet_kd.errors import UserError
from espnet_kd.report.models import Model
from espnet_kd.scoring.bootstrap import Interval, paired_intervals
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.scoring.grouping import AUTO, Grouping, read_grouping
from espnet_kd.scoring.references import same_references
from espnet_kd.scoring.sclite import sum_row
from espnet_kd.scoring.units import TYPES


@dataclass(frozen=True)
class Scores:
    """Counts of every utterance; all models have the same utterances and references.

    Attributes:
        counts: (model, score type, test set) -> utterance -> counts.
        summaries: The same keys -> sclite's summary line.
        groupings: Test set -> groups of utterances that are drawn together.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
        drawn_by: Kind of the groups, as it was asked for.
    """

    counts: Dict[Tuple[str, str, str], Dict[str, Counts]]
    summaries: Dict[Tuple[str, str, str], List[float]]
    groupings: Dict[str, Grouping]
    draws: int
    seed: int
    drawn_by: str = AUTO

    def total(self, model: str, score_type: str, test_set: str) -> Counts:
        """Add up a model's counts on a test set."""
        return Counts.total(self.counts[model, score_type, test_set].values())

    def errors(self, model: str, score_type: str, test_set: str) -> np.ndarray:
        """Return (utterances,) errors."""
        return np.array([c.errors for c in self.counts[model, score_type, test_set].values()])

    def intervals(
        self, pairs: Sequence[Tuple[str, str]], score_type: str, test_set: str
    ) -> List[Interval]:
        """Return, for each pair of models, first minus second with its interval, in points."""
        if not pairs:
            return []
        sums = self.groupings[test_set].sums
        words = [c.ref_words for c in self.counts[pairs[0][0], score_type, test_set].values()]
        first, second = (
            sums(np.stack([self.errors(pair[k], score_type, test_set) for pair in pairs]))
            for k in range(2)
        )
        return paired_intervals(first, second, sums(words), self.draws, self.seed)


def read_scores(
    models: Sequence[Model],
    inference_tag: str,
    test_sets: Sequence[str],
    draws: int,
    seed: int,
    drawn_by: str = AUTO,
) -> Scores:
    """Read the scores of all models; `drawn_by` is what the bootstrap draws (`grouping.group`).

    Raises:
        UserError: a score is missing, or two models were scored on different references.
    """
    counts, summaries = {}, {}
    for m in models:
        for t in TYPES:
            for s in test_sets:
                folder = m.dir / inference_tag / s / f"score_{t}"
                counts[m.name, t, s] = read_counts(folder / "counts.tsv")
                first = models[0].dir / inference_tag / s / f"score_{t}"
                theirs = counts[models[0].name, t, s]
                if not same_references(folder, counts[m.name, t, s], first, theirs):
                    raise UserError(
                        f"{s}: {m.name} and {models[0].name} were scored on different "
                        "references; score both again"
                    )
                summaries[m.name, t, s] = _summary(folder / "result.txt")
    groupings = {
        s: read_grouping(
            models[0].dir / inference_tag / s, list(counts[models[0].name, "wer", s]), drawn_by
        )
        for s in test_sets
    }
    return Scores(counts, summaries, groupings, draws, seed, drawn_by)


def _summary(path: Path) -> List[float]:
    """Read the Sum/Avg line, as ESPnet's show_asr_result.sh does."""
    row = sum_row(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    if row is None:
        raise UserError(f"{path}: no line 'Sum/Avg'; score this model again")
    return row
