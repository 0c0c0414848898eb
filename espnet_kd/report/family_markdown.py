"""The table of families, in the report of a run and over several seeds."""

from typing import Callable, List, Mapping, Sequence, Tuple

from espnet_kd.report.costs import Cost, held_equal
from espnet_kd.report.paths import ONE_SHOT, OWN, PROGRESSIVE, spoken
from espnet_kd.report.size_family import Family, FamilyResult, Margin, verdict
from espnet_kd.report.tables import COSTS, table
from espnet_kd.report.words import UNKNOWN, interval, signed
from espnet_kd.scoring.bootstrap import Interval

Costs = Mapping[str, Tuple[Cost, Cost]]  # other way -> cost of the steps, and of it


def family_section(
    results: Sequence[FamilyResult],
    costs: Costs,
    size_of: Callable[[str], str],
    rate_of: Callable[[str, str], str],
    margin: Margin,
    runs: int,
) -> List[str]:
    """Write a table a test set and other way; nothing without a family.

    Args:
        results: Differences by family and test set.
        costs: Costs of both ways.
        size_of: Size of a model, in words.
        rate_of: Error rate of a model on a test set.
        margin: Margin of non-inferiority.
        runs: Number of runs that are pooled.
    """
    if not results:
        return []
    lines = ["## The family", ""]
    for result in results:
        family = result.family
        other = spoken(family.against)
        head = ["Size", f"WER % {spoken(PROGRESSIVE)}", f"WER % {other}", "difference", "verdict"]
        body = []
        intervals = iter(result.by_size)
        for pair in family.sizes:
            cells = [size_of(pair[0]), *(rate_of(name, result.test_set) for name in pair)]
            if pair in family.shared:
                body.append([*cells, UNKNOWN, "the same step"])
            else:
                body.append([*cells, *_compared(next(intervals), margin, result.sound)])
        label = f"**mean of {_that_differ(family)}**" if family.shared else "**mean**"
        body.append([label, "", "", *_compared(result.mean, margin, result.sound)])
        lines += [f"{spoken(PROGRESSIVE).capitalize()} against {other}, {result.test_set}:", ""]
        lines += [*table(head, body), ""]
    once = any(result.family.shared for result in results)
    took = _cost_table(results, costs)
    lines += [*took, *[""] * bool(took), *_legend(margin, runs, once, bool(took)), ""]
    return lines


def family_sentences(
    results: Sequence[FamilyResult], costs: Costs, margin: Margin, most: int = 1
) -> List[str]:
    """Say of families what the mean difference is and what both cost, one shot's first.

    Args:
        results: See `family_section`.
        costs: See `family_section`.
        margin: See `family_section`.
        most: Largest number of other ways that are told of.
    """
    others = list(dict.fromkeys(result.family.against for result in results))
    others.sort(key=lambda path: (path not in (ONE_SHOT, OWN), path != ONE_SHOT))
    sentences = []
    for path in others[:most]:
        of_one = [result for result in results if result.family.against == path]
        names, number = (spoken(PROGRESSIVE), spoken(path)), len(of_one[0].family.sizes)
        differ = f" over {_that_differ(of_one[0].family)}"
        changes = "; on ".join(
            f"{r.test_set}, {signed(r.mean.diff, 2)} points ({interval(r.mean, 2)}): "
            + verdict(r.mean, margin, r.sound)
            for r in of_one
        )
        sentences.append(
            f"The family of {number} sizes, {names[0]} against {names[1]}: in the mean"
            f"{differ * bool(of_one[0].family.shared)}, on {changes}."
        )
        if path in costs:
            lead = f"Of all {number} sizes together, between"
            sentences.append(held_equal(*costs[path], (None, None), names, lead))
    return sentences


def _that_differ(family: Family) -> str:
    number = len(family.compared)
    return f"the {number} that differ" if number > 1 else "the one that differs"


def _compared(i: Interval, margin: Margin, sound: bool) -> List[str]:
    return [f"{signed(i.diff, 2)} ({interval(i, 2)})", verdict(i, margin, sound)]


def _cost_table(results: Sequence[FamilyResult], costs: Costs) -> List[str]:
    families: List[Family] = []
    for result in results:
        if result.family not in families and result.family.against in costs:
            families.append(result.family)
    shown = [costs[f.against] for f in families]
    used = [c for c in COSTS if any(getattr(cost, c.field) for both in shown for cost in both)]
    body = []
    for family, both in zip(families, shown):
        for path, cost in zip((PROGRESSIVE, family.against), both):
            made = f"{spoken(path)}, {len(family.sizes)} sizes"
            made += f" (those of {spoken(family.against)})" if path == PROGRESSIVE else ""
            body.append([made, *(c.format(getattr(cost, c.field)) for c in used)])
    return table(["All trainings of a family", *(c.title for c in used)], body) if body else []


def _legend(margin: Margin, runs: int, once: bool, took: bool) -> List[str]:
    seeds = (
        f"over other speakers and other trainings ({runs} of each model were made), as *95 %, and "
        "seeds* above"
        if runs > 1
        else "by the paired bootstrap of the other tables; each model was trained once, and the "
        "luck of that is not in it"
    )
    lines = [
        "- *The same step*: one training, from the first teacher, with which both ways begin; its "
        "cost is in both, and the mean is without it.",
    ]
    costs = [
        "- *All trainings of a family*: those of all sizes that both ways have made, and of the "
        "students between them, each once. *Teacher-epochs*: operations, in epochs of the first "
        "teacher's own training (docs/results.md).",
    ]
    return [
        *(lines if once else []),
        "- *Difference*: WER of the steps minus that of the other way, in points, below 0 is "
        f"better, with its 95 % interval {seeds}.",
        f"- *Verdict*, at a margin of {margin.says()}: *better*: the interval is below 0; "
        "*non-inferior*: it ends below the margin; *worse*: it is above 0, or above the margin; "
        "*not shown*: none of these. Each row is looked at alone; the claim is that of the mean.",
        *(costs if took else []),
    ]
