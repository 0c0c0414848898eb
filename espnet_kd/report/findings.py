"""All that a report says, before it is written down: `results.json`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.common.json_file import rounded
from espnet_kd.common.records import DELAY, SPEED, Delay, Speed, seen_from
from espnet_kd.report.breakdowns import Breakdown, break_down
from espnet_kd.report.caveats import FEW
from espnet_kd.report.comparisons import TEACHER, Comparison, compare
from espnet_kd.report.costs import Cost, cost_of
from espnet_kd.report.models import Model
from espnet_kd.report.rows import Row, collect
from espnet_kd.report.scores import Scores, read_scores
from espnet_kd.report.size_family import (
    FamilyResult,
    Margin,
    compare_family,
    families,
    family_to_json,
    trainings_of,
)
from espnet_kd.report.variants import Variant, collect_variants
from espnet_kd.scoring.grouping import AUTO, Grouping


@dataclass(frozen=True)
class Content:
    """The figures of a run.

    Attributes:
        inference_tag: Name of the decoding directory.
        test_sets: Names of the test sets, in order.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
        groupings: Test set -> groups of utterances that are drawn.
        rows: The models, first teacher first.
        comparisons: Comparisons with the first teacher, and of the paths with each other.
        breakdowns: WER by length and by condition.
        speed: Circumstances of the real-time factors: what `speed.json` holds, or None.
        decoding: Decoding of chunks: `aligned`, `stock`; None: whole utterances, or unknown.
        stock_tag: Name of the directory of ESPnet's own streaming; None: it is not reported.
        variants: The models in all formats.
        delay: What `delay.json` holds, or None.
        margin: Margin of non-inferiority.
        families: Comparisons of families of sizes.
        family_costs: Other way -> cost of the steps, and of that way.
        drawn_by: Kind of the groups that are drawn, as it was asked for.
    """

    inference_tag: str
    test_sets: Sequence[str]
    draws: int
    seed: int
    groupings: Dict[str, Grouping]
    rows: List[Row]
    comparisons: List[Comparison]
    breakdowns: List[Breakdown]
    speed: Optional[Speed]
    decoding: Optional[str] = None
    stock_tag: Optional[str] = None
    variants: Sequence[Variant] = ()
    delay: Optional[Delay] = None
    margin: Margin = Margin()
    families: Sequence[FamilyResult] = ()
    family_costs: Mapping[str, Tuple[Cost, Cost]] = field(default_factory=dict)
    drawn_by: str = AUTO

    @property
    def to_teacher(self) -> Dict[Tuple[str, str], Comparison]:
        """Map (model, test set) to the comparison with the first teacher."""
        return {(c.model, c.test_set): c for c in self.comparisons if c.family == TEACHER}

    def to_json(self, folder: Path) -> Dict[str, Any]:
        """Return plain containers; experiments are also named as seen from `folder`."""
        models = [row.to_json() for row in self.rows]
        for model in models:
            model["relative_dir"] = seen_from(folder, Path(model["dir"]))
        return {
            "inference_tag": self.inference_tag,
            "decoding": self.decoding,
            "stock_tag": self.stock_tag,
            "test_sets": list(self.test_sets),
            "method": {
                "interval": "paired bootstrap, stretched for the number of groups",
                "drawn": {s: g.to_json() for s, g in self.groupings.items()},
                "level": 0.95,
                "draws": self.draws,
                "seed": self.seed,
                "test": "matched pairs, Student's t, segments: groups",
                "correction": "Holm, within each family of comparisons",
                "margin": self.margin.points,
                "margin_set_by": self.margin.where,
            },
            "models": models,
            "speed": {key: value for key, value in (self.speed or {}).items() if key != "models"},
            "variants": self._variants(folder),
            "delay": {
                key: value
                for key, value in (self.delay or {}).items()
                if key not in ("models", "words", "speakers", "sources")
            },
            "comparisons": rounded([c.to_json() for c in self.comparisons]),
            "families": rounded(self._families()),
            "breakdowns": rounded([b.to_json() for b in self.breakdowns]),
        }

    def _families(self) -> List[Dict[str, Any]]:
        results: Dict[str, List[FamilyResult]] = {}
        for result in self.families:
            results.setdefault(result.family.against, []).append(result)
        return [
            family_to_json(of_one[0].family, of_one, self.family_costs[against], self.margin)
            for against, of_one in results.items()
        ]

    def _variants(self, folder: Path) -> List[Dict[str, Any]]:
        variants = [variant.to_json() for variant in self.variants]
        for variant in variants:
            variant["relative_dir"] = seen_from(folder, Path(variant["dir"]))
        return variants


@dataclass(frozen=True)
class Sources:
    """What a report reads beside the scores of the models; None, or empty: it is not there.

    Attributes:
        speed: `speed.json`.
        decoding: See `Content`.
        stock_tag: See `Content`.
        windows: Directories of decodings by length of their chunks, in milliseconds.
        exported: Exported folders by `<model>/<format>`.
        delay: `delay.json`.
        also_on: Further paths of models, by name of the model; see `rows.Row`.
        watts: Power in watts while models are trained.
    """

    speed: Optional[Path] = None
    decoding: Optional[str] = None
    stock_tag: Optional[str] = None
    windows: Mapping[str, str] = field(default_factory=dict)
    exported: Mapping[str, Path] = field(default_factory=dict)
    delay: Optional[Path] = None
    also_on: Mapping[str, List[str]] = field(default_factory=dict)
    watts: Optional[float] = None


def read_content(
    models: Sequence[Model],
    inference_tag: str,
    test_sets: Sequence[str],
    draws: int,
    seed: int,
    sources: Optional[Sources] = None,
    drawn_by: str = AUTO,
    margin: Optional[Margin] = None,
) -> Content:
    """Read and compare everything.

    Raises:
        UserError: a file is missing or not what it should be; the message names it.
    """
    # Scores first: reading them is cheap, and they are what is missing most often.
    scores = read_scores(models, inference_tag, test_sets, draws, seed, drawn_by)
    breakdowns = break_down(models, inference_tag, test_sets, scores)
    also = sources or Sources()
    speed = SPEED.read_path(also.speed) if also.speed else None
    delay = DELAY.read_path(also.delay) if also.delay else None
    about = models, inference_tag, test_sets
    rows = collect(*about, scores, speed, also.stock_tag, also.windows, also.also_on, also.watts)
    variants = collect_variants(rows, also.exported, speed, delay, scores)
    return Content(
        inference_tag,
        test_sets,
        draws,
        seed,
        scores.groupings,
        rows,
        compare(rows, test_sets, scores),
        breakdowns,
        speed,
        also.decoding,
        also.stock_tag,
        variants,
        delay,
        margin or Margin(),
        *_families(rows, test_sets, scores, also.watts),
        drawn_by,
    )


def _families(
    rows: Sequence[Row], test_sets: Sequence[str], scores: Scores, watts: Optional[float]
) -> Tuple[List[FamilyResult], Dict[str, Tuple[Cost, Cost]]]:
    """Compare the families of sizes, and count what they cost."""
    first, *students = rows
    results, costs = [], {}
    past = {row.name: row.trainings for row in students}
    for family in families(students):
        a, b = (
            cost_of(
                trainings_of(past, [pair[k] for pair in family.sizes]),
                Path(first.dir),
                first.params,
            ).at_power(watts)
            for k in range(2)
        )
        costs[family.against] = a, b
        names = [name for pair in family.sizes for name in pair]
        for s in test_sets:
            sums = scores.groupings[s].sums
            counts = scores.counts[first.name, "wer", s].values()
            words = sums([c.ref_words for c in counts])
            errors = {name: sums(scores.errors(name, "wer", s)[None]) for name in names}
            faulty = any(row.faults.get(s) for row in students if row.name in names)
            sound = len(counts) >= FEW and scores.groupings[s].count > 1 and not faulty
            bootstrap = scores.draws, scores.seed
            results.append(compare_family(family, s, errors, words, sound, *bootstrap))
    return results, costs
