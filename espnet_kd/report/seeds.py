"""Runs that differ in their seed, read from their `results.json` and pooled."""

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from espnet_kd.common.records import FACTS, RESULTS, ReportedModel, Results, experiment
from espnet_kd.errors import UserError
from espnet_kd.report.caveats import FEW
from espnet_kd.report.costs import Cost
from espnet_kd.report.paths import PROGRESSIVE, pairs
from espnet_kd.report.size_family import FamilyResult, Margin, compare_family, families
from espnet_kd.scoring.bootstrap import Interval, interval_of_seeds, paired_intervals
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.scoring.faults import fault
from espnet_kd.scoring.grouping import AUTO, Grouping, read_grouping
from espnet_kd.scoring.references import same_references

SAME_SIZE = 0.02  # sizes chosen by measurement may differ by this part between seeds


@dataclass(frozen=True)
class SeedModel:
    """A model that all runs have.

    Attributes:
        name: Name in every run.
        path: See `paths.Lineage`; None for the first teacher.
        params: Parameters that decoding uses, in the first run.
        range: The fewest and the most over all runs: sizes that were chosen by measurement
            may differ a little.
        steps: Trainings since the first teacher, in the first run.
        cost: Cost of its own training, the mean over all runs.
        path_cost: Cost of all trainings on its path, the mean over all runs.
        device_bytes: Bytes on a device, in the first run; None: it has no form for one.
        also_on: Further paths of which it is a student, in any run.
        stepwise: See `paths.Lineage`; in any run.
        epochs: Epochs in each run; None: not recorded.
    """

    name: str
    path: Optional[str]
    params: int
    range: Tuple[int, int]
    steps: Optional[int] = None
    cost: Cost = Cost()
    path_cost: Cost = Cost()
    device_bytes: Optional[float] = None
    also_on: Tuple[str, ...] = ()
    stepwise: bool = False
    epochs: Tuple[Optional[int], ...] = ()


@dataclass(frozen=True)
class PooledDifference:
    """WER of `model` minus that of `against`, over all runs.

    Attributes:
        model: Name of a student.
        against: Name of the first teacher or of a student of the same size.
        test_set: Name of the test set.
        interval: Mean difference; speakers are drawn, the trainings are those made.
        with_seeds: The same; trainings vary, too.
        wins: Runs in which `model` has the lower WER.
        ties: Runs in which both have the same.
    """

    model: str
    against: str
    test_set: str
    interval: Interval
    with_seeds: Interval
    wins: int
    ties: int


@dataclass(frozen=True)
class Runs:
    """Runs of one recipe.

    Attributes:
        names: Names of the runs, as given.
        test_sets: Names of the test sets.
        models: Models that all runs have, first teacher first.
        left_out: Names of models that only some runs have.
        errors: (model, test set) -> (runs, utterances).
        words: Test set -> (utterances,) reference words.
        groupings: Test set -> groups of utterances that are drawn together.
        faults: (model, test set) -> for each run why the model does not recognise speech.
        family_costs: Other way -> cost of the steps and of that way, means over all runs.
        margin: Margin of non-inferiority; None: the runs' reports are older than that.
    """

    names: List[str]
    test_sets: List[str]
    models: List[SeedModel]
    left_out: List[str]
    errors: Dict[Tuple[str, str], np.ndarray]
    words: Dict[str, np.ndarray]
    groupings: Dict[str, Grouping]
    faults: Dict[Tuple[str, str], List[Optional[str]]]
    family_costs: Dict[str, Tuple[Cost, Cost]] = field(default_factory=dict)
    margin: Optional[Margin] = None

    def is_sound(self, test_set: str, *models: str) -> bool:
        """Say whether differences of models allow a verdict of significance."""
        enough = len(self.words[test_set]) >= FEW and self.groupings[test_set].count > 1
        return enough and not any(any(self.faults[m, test_set]) for m in models)

    def wer(self, model: str, test_set: str) -> np.ndarray:
        """Return (runs,) WER in percent."""
        return 100.0 * self.errors[model, test_set].sum(1) / self.words[test_set].sum()

    def differences(self, draws: int, seed: int) -> List[PooledDifference]:
        """Compare all students with the first teacher, and the paths at each size."""
        first, *students = self.models
        compared = [(m.name, first.name) for m in students]
        if not compared:
            return []
        compared += [(a.name, b.name) for a, b in pairs(students)]
        return [
            difference
            for s in self.test_sets
            for difference in pooled_differences(
                compared, s, self.errors, self.words[s], self.groupings[s], draws, seed
            )
        ]

    def families(self) -> List[FamilyResult]:
        """Compare the families of sizes, over speakers and trainings."""
        results = []
        for family in families(self.models[1:]):
            names = [name for pair in family.sizes for name in pair]
            for s in self.test_sets:
                sums = self.groupings[s].sums
                errors = {name: sums(self.errors[name, s]) for name in names}
                sound = self.is_sound(s, *names)
                results.append(compare_family(family, s, errors, sums(self.words[s]), sound))
        return results


def pooled_differences(
    compared: Sequence[Tuple[str, str]],
    test_set: str,
    errors: Mapping[Tuple[str, str], np.ndarray],
    words: np.ndarray,
    grouping: Grouping,
    draws: int,
    seed: int,
) -> List[PooledDifference]:
    """Compare pairs of models on a test set.

    Args:
        compared: Names of the two models of each pair.
        test_set: Name of the test set.
        errors: (model, test set) -> errors. (runs, utterances)
        words: Reference words. (utterances,)
        grouping: Utterances that are drawn together.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
    """
    sums = grouping.sums
    words = sums(words)
    # (comparisons, runs, groups)
    ours, theirs = (sums(np.stack([errors[c[k], test_set] for c in compared])) for k in range(2))
    pooled = paired_intervals(ours.sum(1), theirs.sum(1), ours.shape[1] * words, draws, seed)
    results = []
    for k, (model, against) in enumerate(compared):
        with_seeds = interval_of_seeds(ours[k], theirs[k], words)
        change = (ours[k] - theirs[k]).sum(1)
        wins, ties = int((change < 0).sum()), int((change == 0).sum())
        results.append(
            PooledDifference(model, against, test_set, pooled[k], with_seeds, wins, ties)
        )
    return results


def read_runs(
    folders: Sequence[Path], drawn_by: str = AUTO, margin: Optional[Margin] = None
) -> Runs:
    """Read `results.json` of each run and the `counts.tsv` it refers to.

    Args:
        folders: Folders of the runs.
        drawn_by: See `grouping.group`.
        margin: Margin of non-inferiority; None: that of the runs' reports.

    Raises:
        UserError: fewer than two runs, one without a report, two with one training or seed, or
            runs that cannot be pooled: other test sets, decoding, references, or models of
            other sizes.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UserError("--run: name two runs or more, each once")
    runs = {folder: RESULTS.read(folder) for folder in folders}
    where, first = folders[0], runs[folders[0]]
    for folder, run in runs.items():
        check_same_way(folder, run, where, first, "pool runs")
    _check_own_trainings(runs)
    entries = {folder: {m["name"]: m for m in run["models"]} for folder, run in runs.items()}
    models = _shared_models(entries, runs)
    shared = {m.name for m in models}
    left_out = dict.fromkeys(n for named in entries.values() for n in named if n not in shared)
    errors, words, faults, groupings = {}, {}, {}, {}
    for s in first["test_sets"]:
        scores = {
            (m.name, folder): scores_of(folder, entries[folder][m.name], first, s)
            for m in models
            for folder in folders
        }
        counts = {key: read_counts(place / "counts.tsv") for key, place in scores.items()}
        reference, scored_in = counts[models[0].name, where], scores[models[0].name, where]
        for (name, folder), scored in counts.items():
            if not same_references(scores[name, folder], scored, scored_in, reference):
                raise UserError(
                    f"{folder}: {name} was scored on other references of {s} than "
                    f"{models[0].name} of {where}; score both on the same set"
                )
        groupings[s] = read_grouping(scored_in.parent, list(reference), drawn_by)
        words[s] = np.array([c.ref_words for c in reference.values()])
        for m in models:
            errors[m.name, s] = np.array(
                [[c.errors for c in counts[m.name, folder].values()] for folder in folders]
            )
            faults[m.name, s] = [
                fault(Counts.total(counts[m.name, folder].values())) for folder in folders
            ]
    names = [str(folder) for folder in folders]
    return Runs(
        names,
        first["test_sets"],
        models,
        list(left_out),
        errors,
        words,
        groupings,
        faults,
        _family_costs(list(runs.values()), models),
        margin or _margin(runs),
    )


def scores_of(folder: Path, model: ReportedModel, run: Results, test_set: str) -> Path:
    """Return the folder of a model's word errors.

    Args:
        folder: Folder of a run.
        model: Entry of the model in its report.
        run: The report, or that of a run decoded the same way.
        test_set: Name of the test set.
    """
    return experiment(folder, model) / run["inference_tag"] / test_set / "score_wer"


def check_same_way(folder: Path, run: Results, where: Path, first: Results, what: str) -> None:
    """Refuse a run that was tested on other sets than another, or decoded otherwise.

    Args:
        folder: Folder of the run.
        run: Its report.
        where: Folder of the other run.
        first: Report of that.
        what: Whatever is done with both, for messages.

    Raises:
        UserError: that is so.
    """
    for key in ("test_sets", "inference_tag"):
        if _sorted(run[key]) != _sorted(first[key]):
            raise UserError(
                f"{folder}/results.json: {key}: {run[key]}, but {where} has {first[key]}; "
                f"{what} of the same test sets and decoding"
            )
    # A name that was given with --inference_tag does not say it.
    ways = ["aligned" if r.get("decoding") == "aligned" else "other" for r in (run, first)]
    if ways[0] != ways[1]:
        raise UserError(
            f"{folder}/results.json: {ways[0]} decoding, but {where} has {ways[1]} decoding; "
            f"{what} of the same decoding"
        )


def _check_own_trainings(runs: Dict[Path, Results]) -> None:
    """Refuse runs that count one training twice; the first teacher may be shared."""
    exps: Dict[Path, Path] = {}
    seeds: Dict[Tuple[str, Any], Path] = {}
    for folder, run in runs.items():
        for model in run["models"][1:]:
            exp = experiment(folder, model).resolve()
            other = exps.setdefault(exp, folder)
            if other != folder:
                raise UserError(f"--run {other} and --run {folder}: both report {exp}")
            seed = (FACTS.read_if_there(exp) or {}).get("seed")
            other = seeds.setdefault((model["name"], seed), folder)
            if seed is not None and other != folder:
                raise UserError(
                    f"--run {other} and --run {folder}: {model['name']} was trained with seed "
                    f"{seed} in both (facts.json); pool runs of different seeds"
                )


def _shared_models(
    entries: Dict[Path, Dict[str, ReportedModel]], runs: Dict[Path, Results]
) -> List[SeedModel]:
    """Return what all runs have, in the order of the first."""
    (where, first), *others = entries.items()
    models = [_model(first, name) for name in first if all(name in run for _, run in others)]
    teacher = next(iter(first))
    if teacher not in (m.name for m in models):
        missing = next(folder for folder, run in others if teacher not in run)
        raise UserError(f"{missing}: no model '{teacher}', the first teacher of {where}")
    for k, m in enumerate(models):
        for folder, run in others:
            same = _model(run, m.name)
            if same.path != m.path or abs(same.params / m.params - 1) > SAME_SIZE:
                raise UserError(
                    f"{folder}: {m.name} has {same.params:,} parameters (path {same.path}), in "
                    f"{where} {m.params:,} (path {m.path}); pool runs of the same plan"
                )
        sizes = [run[m.name]["params"] for run in entries.values()]
        alone = [Cost.from_json(run[m.name].get("cost")) for run in entries.values()]
        path = [Cost.from_json(run[m.name].get("path_cost")) for run in entries.values()]
        also = [_also_on(runs[folder], run[m.name]) for folder, run in entries.items()]
        models[k] = replace(
            m,
            range=(min(sizes), max(sizes)),
            steps=first[m.name]["stage"],
            cost=Cost.mean(alone),
            path_cost=Cost.mean(path),
            also_on=tuple(dict.fromkeys(itertools.chain(*also))),
            stepwise=any(run[m.name].get("stepwise", False) for run in entries.values()),
            epochs=tuple(run[m.name].get("epochs") for run in entries.values()),
        )
    return models


def _also_on(run: Results, model: ReportedModel) -> List[str]:
    """Return the further paths of a model; of older reports those that have it as shared."""
    both = [model["name"]] * 2
    shared = [f["against"] for f in run.get("families", []) if both in f.get("shared", [])]
    return model.get("also_on", shared)


def _model(run: Dict[str, ReportedModel], name: str) -> SeedModel:
    # Reports before there were paths knew one.
    path = None if name == next(iter(run)) else run[name].get("path", PROGRESSIVE)
    params, taken = run[name]["params"], run[name].get("device_mb")
    size = None if taken is None else 1e6 * taken
    return SeedModel(name, path, params, (params, params), device_bytes=size)


def _family_costs(
    runs: Sequence[Results], models: Sequence[SeedModel]
) -> Dict[str, Tuple[Cost, Cost]]:
    """Return the mean cost of each family that all runs report, of the sizes that all have."""
    by_run = [{f["against"]: f for f in run.get("families", [])} for run in runs]
    pooled = {f.against: [pair[0] for pair in f.sizes] for f in families(models[1:])}
    shared = [
        against
        for against, sizes in pooled.items()
        if all(
            against in named and [pair[0] for pair in named[against]["sizes"]] == sizes
            for named in by_run
        )
    ]
    return {
        against: (
            Cost.mean([Cost.from_json(named[against]["cost"]) for named in by_run]),
            Cost.mean([Cost.from_json(named[against]["cost_against"]) for named in by_run]),
        )
        for against in shared
    }


def _margin(runs: Dict[Path, Results]) -> Optional[Margin]:
    """Return the margin of the runs' reports; None: they are older."""
    margins = {folder: run["method"].get("margin") for folder, run in runs.items()}
    (where, points), *others = margins.items()
    for folder, other in others:
        if other != points:
            names = ["none (an older report)" if x is None else f"{x:g}" for x in (other, points)]
            raise UserError(
                f"{folder}/results.json: method.margin: {names[0]}, but {where} has {names[1]}; "
                "run stage 17 again for each, or name the margin with --margin"
            )
    set_by = runs[where]["method"].get("margin_set_by", "the default")
    return None if points is None else Margin(points, set_by)


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value
