"""Students of different arms compared: runs that differ in more than their seed."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from espnet_kd.common.records import RESULTS, experiment
from espnet_kd.errors import UserError, check_name
from espnet_kd.report.seeds import (
    PooledDifference,
    Runs,
    check_same_way,
    pooled_differences,
    read_runs,
    scores_of,
)
from espnet_kd.report.seeds_markdown import of_two, warnings_of
from espnet_kd.report.tables import table
from espnet_kd.report.words import interval, signed
from espnet_kd.scoring.counts import read_counts
from espnet_kd.scoring.grouping import AUTO
from espnet_kd.scoring.references import same_references

SEED = re.compile(r"seed(\d+)")


@dataclass(frozen=True)
class Place:
    """A student of an arm.

    Attributes:
        arm: Folder of the arm, which holds `seed<K>/results.json`.
        model: Name in its reports.
    """

    arm: Path
    model: str

    def __str__(self) -> str:
        return f"{self.arm.name}/{self.model}"


Pair = Tuple[Place, Place]


def parse_pairs(options: Sequence[str]) -> List[Pair]:
    """Parse `--pair ARM/STUDENT=ARM/STUDENT` options.

    Raises:
        UserError: an option is of another form, or names one student twice.
    """
    result = []
    for option in options:
        sides = [Path(side) for side in option.split("=")]
        if len(sides) != 2 or any(len(side.parts) < 2 for side in sides):
            raise UserError(f"--pair {option}: not of the form ARM/STUDENT=ARM/STUDENT")
        first, second = (Place(side.parent, side.name) for side in sides)
        if (first.arm.resolve(), first.model) == (second.arm.resolve(), second.model):
            raise UserError(f"--pair {option}: one student on both sides; name another one")
        if (first, second) not in result:
            result.append((first, second))
    return result


@dataclass(frozen=True)
class Arms:
    """Arms that were run with the same seeds.

    Attributes:
        seeds: Names of the folders of the runs, those that all arms have.
        runs: Runs of each arm, by its folder.
        left_out: Folders of further runs, which other arms lack.
        one_teacher: Whether all arms have the same first teacher, seed by seed.
    """

    seeds: List[str]
    runs: Dict[Path, Runs]
    left_out: List[str]
    one_teacher: bool

    def differences(self, pairs: Sequence[Pair], draws: int, seed: int) -> List[PooledDifference]:
        """Compare the students of each pair, over speakers and trainings.

        Args:
            pairs: The pairs.
            draws: Draws of the bootstrap.
            seed: Seed of the bootstrap.
        """
        some = next(iter(self.runs.values()))
        errors = {
            (str(place), s): self.runs[place.arm].errors[place.model, s]
            for pair in pairs
            for place in pair
            for s in some.test_sets
        }
        compared = [(str(a), str(b)) for a, b in pairs]
        return [
            difference
            for s in some.test_sets
            for difference in pooled_differences(
                compared, s, errors, some.words[s], some.groupings[s], draws, seed
            )
        ]

    def is_sound(self, test_set: str, place: Place) -> bool:
        """Say whether differences of a student allow a verdict of significance."""
        return self.runs[place.arm].is_sound(test_set, place.model)

    def params(self, place: Place) -> int:
        """Return the parameters of a student, in the first run."""
        return next(m.params for m in self.runs[place.arm].models if m.name == place.model)

    def wer(self, place: Place, test_set: str) -> float:
        """Return the WER of a student, the mean over all runs, in percent."""
        return float(self.runs[place.arm].wer(place.model, test_set).mean())


def read_arms(pairs: Sequence[Pair], drawn_by: str = AUTO) -> Arms:
    """Read the runs of all arms that pairs name.

    Args:
        pairs: Students to compare.
        drawn_by: See `grouping.group`.

    Raises:
        UserError: arms have not two seeds in common, were scored on other references or decoded
            otherwise, or an arm has no student of the name; see `read_runs`, too.
    """
    arms = list(dict.fromkeys(place.arm for pair in pairs for place in pair))
    names = {arm.name: arm for arm in arms}
    for arm in arms:
        if names[arm.name].resolve() != arm.resolve():
            raise UserError(f"--pair: {names[arm.name]} and {arm} have one name; rename a folder")
    seeds, left_out = _common_seeds(arms)
    runs = {arm: read_runs([arm / seed for seed in seeds], drawn_by) for arm in arms}
    first, *others = arms
    for arm in others:
        _check_alike(arm, first, seeds[0])
    for place in (place for pair in pairs for place in pair):
        known = [m.name for m in runs[place.arm].models]
        check_name(f"--pair: {place.arm}: no student in all its runs", place.model, known)
    teachers = {tuple(_first_teacher(arm / seed) for seed in seeds) for arm in arms}
    return Arms(seeds, runs, left_out, len(teachers) == 1)


def _first_teacher(folder: Path) -> Path:
    return experiment(folder, RESULTS.read(folder)["models"][0]).resolve()


def _common_seeds(arms: Sequence[Path]) -> Tuple[List[str], List[str]]:
    """Return the folders of the seeds that all arms have, and those of further ones."""
    reported: Dict[Path, Dict[int, str]] = {}
    for arm in arms:
        reports = sorted(arm.glob(f"seed*/{RESULTS.file}"))
        matches = [SEED.fullmatch(report.parent.name) for report in reports]
        reported[arm] = {int(match[1]): match[0] for match in matches if match}
    common = set.intersection(*(set(seeds) for seeds in reported.values()))
    if len(common) < 2:
        has = "; ".join(f"{arm}: {', '.join(s.values()) or 'none'}" for arm, s in reported.items())
        raise UserError(f"--pair: arms need two seeds in common that are reported, not {has}")
    further = [
        f"{arm.name}/{name}"
        for arm, seeds in reported.items()
        for number, name in sorted(seeds.items())
        if number not in common
    ]
    return [reported[arms[0]][number] for number in sorted(common)], further


def _check_alike(arm: Path, first: Path, seed: str) -> None:
    folders = [folder / seed for folder in (arm, first)]
    reports = [RESULTS.read(folder) for folder in folders]
    check_same_way(folders[0], reports[0], folders[1], reports[1], "compare arms")
    for test_set in reports[1]["test_sets"]:
        ours, theirs = (
            scores_of(folder, report["models"][0], report, test_set)
            for folder, report in zip(folders, reports)
        )
        counts = [read_counts(scores / "counts.tsv") for scores in (ours, theirs)]
        if not same_references(ours, counts[0], theirs, counts[1]):
            raise UserError(
                f"{arm}: was scored on other references of {test_set} than {first}; score both "
                "on the same set"
            )


def arms_md(
    arms: Arms, pairs: Sequence[Pair], differences: Sequence[PooledDifference], draws: int
) -> str:
    """Write the table of pairs.

    Args:
        arms: The arms.
        pairs: The pairs.
        differences: Their differences (`Arms.differences`).
        draws: Draws of the bootstrap.
    """
    places = {str(place): place for pair in pairs for place in pair}
    head = ["Test set", "Student", "against", "Parameters", "WER %", "difference"]
    head += ["95 %, other speech", "95 %, and seeds", "wins"]
    body = []
    for d in differences:
        both = places[d.model], places[d.against]
        sound = all(arms.is_sound(d.test_set, place) for place in both)
        marks = [f"{interval(i, 2)}{' †' * (i.significant and sound)}"
                 for i in (d.interval, d.with_seeds)]  # fmt: skip
        body.append(
            [
                *(d.test_set, d.model, d.against),
                " against ".join(f"{arms.params(place):,}" for place in both),
                " against ".join(f"{arms.wer(place, d.test_set):.2f}" for place in both),
                signed(d.interval.diff, 2),
                *marks,
                f"{d.wins} of {len(arms.seeds)}" + (f", {d.ties} tied" if d.ties else ""),
            ]
        )
    cautions = _cautions(arms, pairs)
    lines = ["# Arms compared", "", *cautions, *[""] * bool(cautions)]
    lines += [*table(head, body, left=3), "", *_legend(arms, draws)]
    return "\n".join(lines) + "\n"


def _cautions(arms: Arms, pairs: Sequence[Pair]) -> List[str]:
    """Say what a reader of the table has to know before."""
    lines = [f"- left out, not in every arm: {', '.join(arms.left_out)}"] * bool(arms.left_out)
    if not arms.one_teacher:
        teachers = {arm: Place(arm, runs.models[0].name) for arm, runs in arms.runs.items()}
        told = "; ".join(
            f"{arm.name}, {arms.params(teacher):,} parameters, WER "
            + ", ".join(f"{arms.wer(teacher, s):.2f} % on {s}" for s in arms.runs[arm].words)
            for arm, teacher in teachers.items()
        )
        lines.append(f"- the arms' first teachers are different experiments: {told}")
    places = dict.fromkeys(place for pair in pairs for place in pair)
    warnings = [
        sentence
        for arm, runs in arms.runs.items()
        for sentence in warnings_of(
            runs, {place.model: str(place) for place in places if place.arm == arm}, arms.seeds
        )
    ]
    return [*lines, *(f"- **{sentence}**" for sentence in dict.fromkeys(warnings))]


def _legend(arms: Arms, draws: int) -> List[str]:
    some = next(iter(arms.runs.values()))
    drawn = "; ".join(f"for {s}, {g.describe()}" for s, g in some.groupings.items())
    return [
        f"- Means over {', '.join(arms.seeds)}, which all arms have. *Difference*: WER minus that "
        "of the student it stands *against*, in points; below 0 is better. *Wins*: seeds in which "
        "it has the lower WER.",
        f"- *95 %, other speech*: paired bootstrap ({draws:,} draws) of the errors summed over "
        f"seeds. Drawn are, {drawn}. *95 %, and seeds*: trainings vary, too (docs/results.md)"
        f"{of_two(len(arms.seeds)).replace(' (docs/results.md)', '')}. † "
        "marks an interval without 0, each looked at alone.",
    ]
