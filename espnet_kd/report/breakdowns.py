"""Where do the errors come from? WER by length of the utterance and by condition."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterable, List, Mapping, Sequence

from espnet_kd.errors import UserError
from espnet_kd.report.models import Model
from espnet_kd.report.scores import Scores
from espnet_kd.scoring.conditions import CONDITION, in_order, read_labels
from espnet_kd.scoring.counts import Counts

BINS = 4


@dataclass(frozen=True)
class Breakdown:
    """WER of all models on parts of a test set.

    Attributes:
        by: `length` or `condition`.
        test_set: Name of the test set.
        labels: The parts, in order.
        utterances: Number of utterances of each part.
        words: Reference words of each part.
        wer: Model -> WER in percent of each part; None where a part has no words.
    """

    by: str
    test_set: str
    labels: List[str]
    utterances: List[int]
    words: List[int]
    wer: Dict[str, List[Any]]

    def to_json(self) -> Dict[str, Any]:
        """Return it for `results.json`."""
        return asdict(self)


def break_down(
    models: Sequence[Model], inference_tag: str, test_sets: Sequence[str], scores: Scores
) -> List[Breakdown]:
    """Break the WER of every test set down by length and, where labelled, by condition.

    Raises:
        UserError: two models were scored with different labels.
    """
    splits = []
    for s in test_sets:
        lengths = {utt: c.ref_words for utt, c in scores.counts[models[0].name, "wer", s].items()}
        bins = length_bins(lengths.values())
        parts = {utt: bins[n] for utt, n in lengths.items()}
        splits.append(_split("length", s, parts, list(dict.fromkeys(bins.values())), scores))
        labels = _conditions(models, inference_tag, s, list(lengths))
        if labels:
            splits.append(_split("condition", s, labels, in_order(labels.values()), scores))
    return splits


def length_bins(lengths: Iterable[int], bins: int = BINS) -> Dict[int, str]:
    """Name a bin such as `3-5` for each length that occurs, shortest first.

    The bins hold about equally many words; utterances of one length are never torn apart.
    """
    words: Counter[int] = Counter()
    for n in lengths:
        words[n] += n
    total, seen = max(1, sum(words.values())), 0
    members: Dict[int, List[int]] = {}
    for n in sorted(words):
        middle = seen + words[n] / 2
        members.setdefault(min(bins - 1, int(bins * middle / total)), []).append(n)
        seen += words[n]
    return {
        n: f"{group[0]}–{group[-1]}" if len(group) > 1 else str(n)
        for group in members.values()
        for n in group
    }


def _conditions(
    models: Sequence[Model], inference_tag: str, test_set: str, utterances: List[str]
) -> Dict[str, str]:
    """Read the labels beside the scores; models scored before there were any have none."""
    labels: Dict[str, str] = {}
    for m in models:
        folder = m.dir / inference_tag / test_set
        conditions = read_labels(folder, utterances)
        if labels and conditions and conditions != labels:
            raise UserError(
                f"{folder / CONDITION}: not the labels of the other models; score again"
            )
        labels = labels or conditions
    return labels


def _split(
    by: str, test_set: str, parts: Mapping[str, str], labels: List[str], scores: Scores
) -> Breakdown:
    wer: Dict[str, List[Any]] = {}
    for (name, score_type, s), counts in scores.counts.items():
        if (score_type, s) == ("wer", test_set):
            groups: Dict[str, List[Counts]] = {label: [] for label in labels}
            for utt, c in counts.items():
                groups[parts[utt]].append(c)
            totals = [Counts.total(group) for group in groups.values()]
            wer[name] = [t.error_rate if t.ref_words else None for t in totals]
    return Breakdown(
        by, test_set, labels, [t.sentences for t in totals], [t.ref_words for t in totals], wer
    )
