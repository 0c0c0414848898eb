"""What does a condition cost a compressed model more than the first teacher?

For condition c, model m and teacher T: degradation D_m(c) = WER_m(c) - WER_m(clean), interaction
I_m(c) = D_m(c) - D_T(c). All four are of the same sentences, so speakers (or recordings) are drawn
with all of them, as everywhere in the report, and p values are corrected by Holm's method for all
models, conditions and test sets together.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.report.caveats import remark
from espnet_kd.report.comparisons import Comparison
from espnet_kd.report.models import Model
from espnet_kd.scoring.bootstrap import Interval, interval_of_seeds, paired_interval
from espnet_kd.scoring.conditions import CONDITION
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.scoring.grouping import AUTO, Grouping, group, read_sources, read_speakers
from espnet_kd.scoring.matched_pairs import holm, matched_pairs
from espnet_kd.scoring.references import read_texts

FAMILY = "robustness"
FOLDER = "robustness"
LEAST_MODELS = 5  # of a line through error rates
PerUtterance = Dict[str, Counts]
Texts = Dict[str, List[str]]


@dataclass(frozen=True)
class Under:
    """A model under a condition.

    Attributes:
        model: Name of the model.
        test_set: Name of the test set.
        condition: Name of the condition.
        counts: Its errors.
        clean: Its errors in the same sentences as they were.
        interaction: The comparison of its degradation with the first teacher's; None: it is that.
        relative: Its degradation divided by the teacher's; None: that is not above 0.
        residual: WER less what a line through all models' WERs foretells of the clean one; None:
            there are too few models.
    """

    model: str
    test_set: str
    condition: str
    counts: Counts
    clean: Counts
    interaction: Optional[Comparison] = None
    relative: Optional[float] = None
    residual: Optional[float] = None

    @property
    def degradation(self) -> float:
        """Points of WER that the condition costs."""
        return self.counts.error_rate - self.clean.error_rate

    def to_json(self) -> Dict[str, Any]:
        """Return it for `robustness.json`."""
        data = asdict(self)
        data["interaction"] = self.interaction and self.interaction.to_json()
        return {
            **data,
            "wer": self.counts.error_rate,
            "wer_clean": self.clean.error_rate,
            "degradation": self.degradation,
        }


@dataclass(frozen=True)
class Heard:
    """What models made of a test set under a condition, and of its sentences as they were.

    Attributes:
        test_set: Name of the test set.
        condition: Name of the condition.
        counts: Model -> counts under the condition, and clean, in the same order of sentences.
        grouping: Sentences that are drawn together.
    """

    test_set: str
    condition: str
    counts: Dict[str, Tuple[List[Counts], List[Counts]]]
    grouping: Grouping


def read_heard(
    models: Sequence[Model], tag: str, test_sets: Sequence[str], drawn_by: str = AUTO
) -> List[Heard]:
    """Read the scores of all models under all conditions.

    Args:
        models: The models, the first teacher first.
        tag: Name of the directories of decodings.
        test_sets: Names of the test sets.
        drawn_by: Kind of what is drawn (`grouping.group`).

    Raises:
        UserError: a score is missing, or is of other sentences.
    """
    heard = []
    for s in test_sets:
        teacher = models[0].dir / tag
        clean = {m.name: read_counts(m.dir / tag / s / "score_wer/counts.tsv") for m in models}
        made = {
            m.name: read_counts(m.dir / tag / FOLDER / s / "score_wer/counts.tsv") for m in models
        }
        whole = list(clean[models[0].name])
        spoken = {m.name: _texts(m.dir / tag, s, made[m.name], clean[m.name]) for m in models}
        speakers, sources = (read(teacher / s, whole) for read in (read_speakers, read_sources))
        labels = read_table(teacher / FOLDER / s / CONDITION)
        for condition in dict.fromkeys(labels.values()):
            names = [utt for utt in labels if labels[utt] == condition]
            sentences = [utt.removesuffix(f"-{condition}") for utt in names]
            counts = {}
            for m in models:
                pair = (
                    _chosen(made[m.name], names, m.dir / tag / FOLDER / s),
                    _chosen(clean[m.name], sentences, m.dir / tag / s),
                )
                texts = spoken[m.name] or ({}, {})
                same = [texts[0].get(u) for u in names] == [texts[1].get(u) for u in sentences]
                if not same or [c.ref_words for c in pair[0]] != [c.ref_words for c in pair[1]]:
                    raise UserError(
                        f"{m.dir / tag / FOLDER / s}: scored on other references than {s}; run "
                        "stage 22 again"
                    )
                counts[m.name] = pair
            heard.append(
                Heard(s, condition, counts, group(sentences, speakers, sources, drawn_by))
            )
    return heard


def _texts(
    decoded: Path, test_set: str, made: PerUtterance, clean: PerUtterance
) -> Optional[Tuple[Texts, Texts]]:
    """Read the references under all conditions and without; None: they are not both there."""
    folders = (decoded / FOLDER / test_set, decoded / test_set)
    noisy, plain = (
        read_texts(folder / "score_wer", counts) for folder, counts in zip(folders, (made, clean))
    )
    return None if noisy is None or plain is None else (noisy, plain)


def _chosen(counts: PerUtterance, names: Sequence[str], where: Path) -> List[Counts]:
    lacking = [utt for utt in names if utt not in counts]
    if lacking:
        raise UserError(f"{where}: no score of '{lacking[0]}'; run stage 22 again")
    return [counts[utt] for utt in names]


def interactions(heard: Sequence[Heard], draws: int, seed: int) -> List[Under]:
    """Compare what each condition costs each model with what it costs the first one.

    Args:
        heard: Counts, condition by condition.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
    """
    rows: List[Under] = []
    for h in heard:
        first, *others = h.counts
        teacher = _under(h, first)
        rows.append(teacher)
        for name in others:
            row = _under(h, name)
            cost = teacher.degradation
            relative = row.degradation / cost if cost > 0 else None
            compared = _compare(h, name, first, draws, seed)
            rows.append(replace(row, interaction=compared, relative=relative))
    return _with_residuals(_corrected(rows))


def _under(h: Heard, name: str) -> Under:
    made, clean = h.counts[name]
    return Under(name, h.test_set, h.condition, Counts.total(made), Counts.total(clean))


def _compare(h: Heard, name: str, first: str, draws: int, seed: int) -> Comparison:
    """Compare two degradations."""
    worse, better, words = _both_sides(h, name, first)
    sums = h.grouping.sums
    interval = paired_interval(sums(worse), sums(better), sums(words), draws, seed)
    test = matched_pairs(worse, better, h.grouping)
    place, why = f"{h.test_set} {h.condition}", _no_conclusion(h, name, first)
    return Comparison(name, first, FAMILY, place, interval, test.z, test.p, test.p, why)


def _no_conclusion(h: Heard, name: str, first: str) -> Optional[str]:
    """Say why an interaction allows no verdict of significance; None if it does."""
    # What fails under the condition has an interaction; what fails without it has none.
    clean = [{str(k): c for k, c in enumerate(h.counts[m][1])} for m in (name, first)]
    why = remark(name, first, clean, h.grouping.count)
    return why if why is not None and why.startswith("no conclusion") else None  # or alike


def _both_sides(h: Heard, name: str, first: str) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return errors of model under c and teacher clean, of the other two, words. (utterances,)"""
    ours, theirs = ([_errors(part) for part in h.counts[m]] for m in (name, first))
    words = np.array([c.ref_words for c in h.counts[name][1]])
    return ours[0] + theirs[1], ours[1] + theirs[0], words


def _errors(counts: Sequence[Counts]) -> np.ndarray:
    """Return errors. (utterances,)"""
    return np.array([c.errors for c in counts])


def _corrected(rows: List[Under]) -> List[Under]:
    """Correct the p values of all interactions together."""
    tested = [row.interaction for row in rows if row.interaction]
    corrected = iter(holm([c.p for c in tested if not c.remark]))
    return [
        replace(row, interaction=replace(row.interaction, p_holm=next(corrected)))
        if row.interaction and not row.interaction.remark
        else row
        for row in rows
    ]


def _with_residuals(rows: List[Under]) -> List[Under]:
    """Add effective robustness: what a line from clean to perturbed WER does not foretell.

    Source: R. Taori et al., "Measuring robustness to natural distribution shifts in image
    classification", NeurIPS 2020, of accuracies.
    """
    out = []
    for row in rows:
        alike = [r for r in rows if (r.test_set, r.condition) == (row.test_set, row.condition)]
        x = np.array([r.clean.error_rate for r in alike])  # (models,)
        if len(alike) < LEAST_MODELS or not np.ptp(x):
            out.append(row)
            continue
        slope, start = np.polyfit(x, [r.counts.error_rate for r in alike], 1)
        line = start + slope * row.clean.error_rate
        out.append(replace(row, residual=float(row.counts.error_rate - line)))
    return out


class Pooled(NamedTuple):
    """Interaction of a model over several trainings.

    Attributes:
        model: Name of the model.
        test_set: Name of the test set.
        condition: Name of the condition.
        interval: Mean interaction and its 95 % interval, over speakers and trainings.
        significant: Whether it excludes 0 at 5 % among all that are read together (Bonferroni),
            and there is no remark.
        remark: Why no significance can be claimed, or None.
    """

    model: str
    test_set: str
    condition: str
    interval: Interval
    significant: bool
    remark: Optional[str] = None


def pool(runs: Sequence[Sequence[Heard]]) -> List[Pooled]:
    """Estimate interactions over runs with other seeds.

    Args:
        runs: What the models of each run made of the same sets; the first model is the teacher.

    Raises:
        UserError: two runs have other sets, conditions, sentences or models.
    """
    keys = [[(h.test_set, h.condition, tuple(h.counts)) for h in run] for run in runs]
    for key in keys[1:]:
        if key != keys[0]:
            raise UserError("the runs have other conditions or models; run stage 22 of all alike")
    number = sum(len(models) - 1 for _, _, models in keys[0])
    pooled = []
    for parts in zip(*runs):
        first, *others = parts[0].counts
        for name in others:
            sides = [[h.grouping.sums(x) for x in _both_sides(h, name, first)] for h in parts]
            if any(not np.array_equal(words, sides[0][2]) for *_, words in sides):
                raise UserError(
                    f"{parts[0].test_set} under {parts[0].condition}: the runs have other "
                    "sentences; run stage 22 of all with the same conditions"
                )
            worse, better, words = (np.stack(x) for x in zip(*sides))  # (trainings, groups)
            interval, strict = (
                interval_of_seeds(worse, better, words[0], level)
                for level in (0.95, 1 - 0.05 / number)
            )
            place = parts[0].test_set, parts[0].condition
            remarks = [_no_conclusion(h, name, first) for h in parts]
            why = next((remark for remark in remarks if remark), None)
            sure = strict.significant and why is None
            pooled.append(Pooled(name, *place, interval, sure, why))
    return pooled
