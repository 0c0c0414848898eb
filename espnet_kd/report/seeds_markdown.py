"""The report over several seeds: one table."""

from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from espnet_kd.report.caveats import FEW
from espnet_kd.report.costs import held_equal
from espnet_kd.report.family_markdown import family_section, family_sentences
from espnet_kd.report.paths import PROGRESSIVE, pairs, spoken
from espnet_kd.report.seeds import PooledDifference, Runs, SeedModel
from espnet_kd.report.size_family import Margin
from espnet_kd.report.tables import COSTS, table
from espnet_kd.report.words import UNKNOWN, interval, made_once, signed
from espnet_kd.scoring.bootstrap import Interval

CAPTIONS = {"family": "WER against size, a dot a run, lines through the means"}


def seeds_md(
    runs: Runs,
    differences: Sequence[PooledDifference],
    draws: int,
    seed: int,
    plots: Sequence[Path] = (),
) -> str:
    """Write the report.

    Args:
        runs: Runs that are pooled.
        differences: Pooled differences of the runs.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
        plots: Files beside the report.
    """
    lines = ["# Several seeds", ""]
    lines += [f"- run {k}: `{name}`" for k, name in enumerate(runs.names, 1)]
    if runs.left_out:
        lines += [f"- left out, not in every run: {', '.join(runs.left_out)}"]
    labels = [f"run {k}" for k in range(1, len(runs.names) + 1)]
    warnings = warnings_of(runs, {m.name: m.name for m in runs.models}, labels)
    lines += [f"- **{sentence}**" for sentence in warnings]
    families, margin = runs.families(), runs.margin or Margin()
    told = family_sentences(families, runs.family_costs, margin, most=len(families))
    lines += [f"- {sentence}" for sentence in [*_held_equal(runs), *told]]
    lines += ["", *_table(runs, differences), "", *_legend(runs, draws, seed), ""]
    sizes = {m.name: _size(*m.range) for m in runs.models}
    first = runs.models[0].params
    lines += family_section(
        families,
        runs.family_costs,
        lambda name: f"{sizes[name]} (−{100 - 100 * _params(runs, name) / first:.0f} %)",
        lambda name, test_set: f"{runs.wer(name, test_set).mean():.2f}",
        margin,
        len(runs.names),
    )
    if any(m.path_cost.updates for m in runs.models):
        text = "Means over the runs; what is counted is explained in each run's `RESULTS.md`."
        lines += ["## What it cost", "", text, "", *_cost_table(runs), ""]
    for plot in plots:
        lines += [
            f"![{CAPTIONS.get(plot.stem.rpartition('_')[2], 'WER of every run')}]({plot.name})",
            "",
        ]
    return "\n".join(lines) + "\n"


def warnings_of(runs: Runs, models: Mapping[str, str], labels: Sequence[str]) -> List[str]:
    """Name what no conclusion can be drawn from.

    Args:
        runs: The runs.
        models: Models that are compared, to their names in the report.
        labels: Names of the runs in the report.
    """
    sentences = []
    for (model, test_set), faults in runs.faults.items():
        runs_by_fault: Dict[str, List[str]] = {}
        for label, what in zip(labels, faults if model in models else ()):
            if what:
                runs_by_fault.setdefault(what, []).append(label)
        sentences += [
            f"{models[model]} {what} on {test_set} ({', '.join(numbers)}): comparisons with it "
            "say nothing."
            for what, numbers in runs_by_fault.items()
        ]
    for m in runs.models:
        if m.name in models and len({*m.epochs} - {None}) > 1:
            each = ", ".join(f"{n} ({label})" for label, n in zip(labels, m.epochs))
            sentences.append(f"{models[m.name]} was not trained alike, its epochs are {each}.")
    for test_set, words in runs.words.items():
        if len(words) < FEW:
            sentences.append(f"{test_set} has {len(words)} utterances, too few for an interval.")
        elif runs.groupings[test_set].count < 2:
            sentences.append(
                f"{test_set} is all of one speaker, or of one recording: no interval."
            )
    return sentences


def _held_equal(runs: Runs) -> List[str]:
    """Say of the smallest size of each other way which costs were equal."""
    smallest: Dict[str, Tuple[SeedModel, SeedModel]] = {}
    for a, b in sorted(pairs(runs.models[1:]), key=lambda pair: -pair[0].params):
        if a.path == PROGRESSIVE and a.path_cost.updates and b.path_cost.updates:
            smallest[str(b.path)] = a, b
    return [
        held_equal(
            a.path_cost,
            b.path_cost,
            (a.cost.updates, b.cost.updates),
            (f"{a.name}, {spoken(PROGRESSIVE)},", f"{b.name}, {spoken(path)},"),
        )
        for path, (a, b) in smallest.items()
    ]


def _cost_table(runs: Runs) -> List[str]:
    both = [cost for m in runs.models[1:] for cost in (m.cost, m.path_cost)]
    used = [c for c in COSTS if any(getattr(cost, c.field) for cost in both)]
    head = ["Model", *(title for c in used for title in (c.title, "of the path"))]
    body = [
        [m.name]
        + [c.format(getattr(cost, c.field)) for c in used for cost in (m.cost, m.path_cost)]
        for m in runs.models
    ]
    return table(head, body)


def _params(runs: Runs, name: str) -> int:
    return next(m.params for m in runs.models if m.name == name)


def _table(runs: Runs, differences: Sequence[PooledDifference]) -> List[str]:
    numbers = range(1, len(runs.names) + 1)
    head = ["Test set", "Model", "against", "Parameters"]
    head += [f"WER % run {k}" for k in numbers] + ["mean", "deviation"]
    head += ["difference", "95 %, other speech", "95 %, and seeds", "wins"]
    params = {m.name: _size(*m.range) for m in runs.models}
    first = runs.models[0].name
    body = []
    for s in runs.test_sets:
        body.append([s, first, UNKNOWN, *_rates(runs, first, s, params), *[UNKNOWN] * 4])
        for d in (d for d in differences if d.test_set == s):
            wins = f"{d.wins} of {len(numbers)}"
            wins += f", {d.ties} tied" if d.ties else ""
            sound = runs.is_sound(s, d.model, d.against)
            body.append(
                [
                    *(s, d.model, d.against, *_rates(runs, d.model, s, params)),
                    signed(d.interval.diff, 2),
                    *(_marked(i, sound) for i in (d.interval, d.with_seeds)),
                    wins,
                ]
            )
    return table(head, body, left=3)


def _size(fewest: int, most: int) -> str:
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _rates(runs: Runs, model: str, test_set: str, params: Dict[str, str]) -> List[str]:
    wer = runs.wer(model, test_set)
    figures = [*wer, wer.mean(), wer.std(ddof=1)]
    return [params[model], *(f"{x:.2f}" for x in figures)]


def _marked(i: Interval, sound: bool) -> str:
    return f"{interval(i, 2)}{' †' if i.significant and sound else ''}"


def of_two(number: int) -> str:
    """Say what intervals over the trainings of two seeds are worth; of more nothing."""
    told = ", and of two the interval misses in up to 13 of 100 cases (docs/results.md)"
    return told * (number == 2)


def _legend(runs: Runs, draws: int, seed: int) -> List[str]:
    number = len(runs.names)
    return [
        "- *Difference*: mean over runs of WER minus that of the model it stands *against* in the "
        "same run, in points; below 0 is better. Students are compared with the first teacher, "
        "and across paths where they have the same size. *Deviation*: standard deviation of the "
        "WER over runs. *Wins*: runs in which the model has the lower WER.",
        f"- *95 %, other speech*: paired bootstrap ({draws:,} draws, seed {seed}; Bisani and Ney, "
        "ICASSP 2004) of the errors summed over runs, stretched where few are drawn (Student's "
        "distribution). Drawn are, "
        + "; ".join(f"for {s}, {g.describe()}" for s, g in runs.groupings.items())
        + ". It says how these trainings compare on other speakers.",
        "- *95 %, and seeds*: trainings vary, too, independently of the speakers, each with the "
        "teacher it has: how other trainings may compare. The variance of both is estimated "
        "(Cameron, Gelbach and Miller, JBES 2011; Student's distribution, Satterthwaite): "
        f"{number} runs are too few to be drawn{of_two(number)}. What all runs share (a teacher, "
        "the data) is taken as given.",
        "- † marks an interval without 0, each looked at alone: of many, one in twenty bears it "
        "by chance; none stands where a model does not recognise speech or a set has fewer than "
        f"{FEW} utterances. A missing † does not show that two models are equal.",
        *made_once({m.name: m.also_on for m in runs.models}),
    ]
