"""The report over several seeds: one table."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence

from espnet_kd.report.caveats import FEW
from espnet_kd.report.seeds import PooledDifference, Runs
from espnet_kd.report.tables import table
from espnet_kd.report.words import UNKNOWN, interval, signed
from espnet_kd.scoring.bootstrap import Interval


def seeds_md(
    runs: Runs,
    differences: Sequence[PooledDifference],
    draws: int,
    seed: int,
    plot: Optional[Path] = None,
) -> str:
    """Write the report.

    Args:
        runs: Runs that are pooled.
        differences: Pooled differences of the runs.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
        plot: File beside the report.
    """
    lines = ["# Several seeds", ""]
    lines += [f"- run {k}: `{name}`" for k, name in enumerate(runs.names, 1)]
    if runs.left_out:
        lines += [f"- left out, not in every run: {', '.join(runs.left_out)}"]
    lines += [f"- **{sentence}**" for sentence in _warnings(runs)]
    lines += ["", *_table(runs, differences), "", *_legend(draws, seed, len(runs.names))]
    if plot:
        lines += ["", f"![WER of every run]({plot.name})"]
    return "\n".join(lines) + "\n"


def _warnings(runs: Runs) -> List[str]:
    """Name what no conclusion can be drawn from."""
    sentences = []
    for (model, test_set), faults in runs.faults.items():
        runs_by_fault: Dict[str, List[str]] = {}
        for k, what in enumerate(faults, 1):
            if what:
                runs_by_fault.setdefault(what, []).append(f"run {k}")
        sentences += [
            f"{model} {what} on {test_set} ({', '.join(numbers)}): comparisons with it say "
            "nothing."
            for what, numbers in runs_by_fault.items()
        ]
    for test_set, words in runs.words.items():
        if len(words) < FEW:
            sentences.append(f"{test_set} has {len(words)} utterances, too few for an interval.")
    return sentences


def _table(runs: Runs, differences: Sequence[PooledDifference]) -> List[str]:
    numbers = range(1, len(runs.names) + 1)
    head = ["Test set", "Model", "against", "Parameters"]
    head += [f"WER % run {k}" for k in numbers] + ["mean", "deviation"]
    head += ["difference", "95 %, utterances", "95 %, and seeds", "wins"]
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


def _legend(draws: int, seed: int, number: int) -> List[str]:
    return [
        "- *Difference*: mean over runs of WER minus that of the model it stands *against* in the "
        "same run, in points; below 0 is better. Students are compared with the first teacher, "
        "and across paths where they have the same size. *Deviation*: standard deviation of the "
        "WER over runs. *Wins*: runs in which the model has the lower WER.",
        f"- *95 %, utterances*: paired bootstrap ({draws:,} draws, seed {seed}; Bisani and Ney, "
        "ICASSP 2004) of the errors summed over runs; every draw takes the same utterances for "
        "all runs and models. It says how these trainings compare on other utterances.",
        "- *95 %, and seeds*: every draw also takes runs with replacement, independently of the "
        "utterances (Owen, Annals of Applied Statistics 2007), each with the teacher it has: how "
        "other trainings may compare. The bootstrap sees "
        f"only {number - 1}/{number} of the variance between {number} runs, so this interval is "
        "still too narrow; what all runs share (a teacher, the data) it takes as given.",
        "- † marks an interval without 0, each looked at alone: of many, one in twenty bears it "
        "by chance; none stands where a model does not recognise speech or a set has fewer than "
        f"{FEW} utterances. A missing † does not show that two models are equal.",
    ]
