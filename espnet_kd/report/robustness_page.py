"""`ROBUSTNESS.md`: what conditions cost each model, and which models more than the teacher."""

from dataclasses import asdict
from typing import Any, Dict, List, Sequence

from espnet_kd.report.comparisons import SIGNIFICANT
from espnet_kd.report.interactions import Heard, Pooled, Under
from espnet_kd.report.tables import table
from espnet_kd.report.words import UNKNOWN, difference, interval, number, p_value, signed
from espnet_kd.scoring.counts import Counts

HEAD = """# Robustness

Does compression cost more under bad conditions than under good ones? *Cost* is the WER under a
condition less that of the same sentences as they were, in points; *interaction* the cost of a
model less that of {teacher}, with its 95 % interval over {drawn}. † marks an interaction that is
significant among all {tests} of this page (Holm). Decoding: `{tag}`.
"""


def robustness_page(rows: Sequence[Under], heard: Sequence[Heard], tag: str) -> str:
    """Write the page of a run.

    Args:
        rows: Models under conditions.
        heard: What they were computed from.
        tag: Name of the directories of decodings.
    """
    teacher = rows[0].model
    tests = sum(r.interaction is not None and not r.interaction.remark for r in rows)
    head = HEAD.format(teacher=teacher, drawn=_drawn(heard), tests=tests, tag=tag)
    lines = [head, *_answer(rows)]
    for test_set in dict.fromkeys(r.test_set for r in rows):
        chosen = [r for r in rows if r.test_set == test_set]
        lines += ["", f"## {test_set}", "", *_table(chosen)]
        lines += ["", "Kinds of errors, in % of the words:", "", *_kinds(chosen)]
    return "\n".join(lines) + "\n"


def _drawn(heard: Sequence[Heard]) -> str:
    """Say what is drawn: once, if it is alike on all test sets."""
    words = {h.test_set: h.grouping.describe() for h in heard}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"on {test_set} {drawn}" for test_set, drawn in words.items())


def _answer(rows: Sequence[Under]) -> List[str]:
    """Say what was found, a line a model."""
    lines = []
    for name in dict.fromkeys(r.model for r in rows if r.interaction):
        tested = [r for r in rows if r.model == name and r.interaction]
        real = [r for r in tested if r.interaction and r.interaction.verdict == SIGNIFICANT]
        worst = max(tested, key=lambda r: r.interaction.interval.diff if r.interaction else 0)
        told = (
            "; ".join(f"{_place(r, rows)} {signed(_diff(r))}" for r in real) or "none significant"
        )
        lines.append(
            f"- **{name}**: {told}; largest: {_place(worst, rows)} {signed(_diff(worst))} points."
        )
        barred: Dict[str, List[str]] = {}
        for r in tested:
            if r.interaction and r.interaction.remark:
                barred.setdefault(r.interaction.remark, []).append(_place(r, rows))
        lines += [f"  {', '.join(places)}: {why}." for why, places in barred.items()]
    return lines


def _diff(row: Under) -> float:
    assert row.interaction is not None
    return row.interaction.interval.diff


def _place(row: Under, rows: Sequence[Under]) -> str:
    several = len({r.test_set for r in rows}) > 1
    return f"{row.condition} ({row.test_set})" if several else row.condition


def _table(rows: Sequence[Under]) -> List[str]:
    fitted = any(r.residual is not None for r in rows)
    head = ["Condition", "Model", "WER %", "as they were", "Cost", "times the teacher's"]
    head += ["Interaction", "p, Holm"] + ["Beyond the line"] * fitted
    body = []
    for r in rows:
        cells = [r.condition, r.model, f"{r.counts.error_rate:.2f}", f"{r.clean.error_rate:.2f}"]
        cells += [signed(r.degradation, 2), number(r.relative, 2)]
        c = r.interaction
        cells += [difference(c) if c else UNKNOWN]
        cells += [UNKNOWN if c is None or c.remark else p_value(c.p_holm)]
        cells += [UNKNOWN if r.residual is None else signed(r.residual, 2)] * fitted
        body.append(cells)
    return table(head, body, left=2)


def _kinds(rows: Sequence[Under]) -> List[str]:
    body = []
    for r in rows:
        cells = [r.condition, r.model]
        for part in ("substitutions", "deletions", "insertions"):
            now, before = (_share(c, part) for c in (r.counts, r.clean))
            cells.append(f"{now:.2f} ({signed(now - before, 2)})")
        body.append(cells)
    head = ["Condition", "Model", "Substitutions", "Deletions", "Insertions"]
    return table(head, body, left=2)


def _share(counts: Counts, part: str) -> float:
    return 100.0 * getattr(counts, part) / counts.ref_words


def pooled_json(
    rows: Sequence[Pooled], heard: Sequence[Heard], runs: Sequence[str]
) -> Dict[str, Any]:
    """Return what `pooled_page` says as plain containers; see there."""
    return {
        "runs": list(runs),
        "drawn": {h.test_set: h.grouping.to_json() for h in heard},
        "pooled": [{**row._asdict(), "interval": asdict(row.interval)} for row in rows],
    }


def pooled_page(rows: Sequence[Pooled], heard: Sequence[Heard], runs: Sequence[str]) -> str:
    """Write the page of several runs.

    Args:
        rows: Interactions over all runs.
        heard: What the models of one of them made of the sets, for what was drawn.
        runs: Their folders.
    """
    body = []
    for r in rows:
        mark = " †" if r.significant else ""
        text = f"{signed(r.interval.diff, 2)} ({interval(r.interval, 2)}){mark}"
        if r.remark:
            text = f"{signed(r.interval.diff, 2)}; {r.remark}"
        body.append([r.test_set, r.condition, r.model, text])
    listed = ", ".join(f"`{run}`" for run in runs)
    return "\n".join(
        [
            "# Robustness over several trainings",
            "",
            f"Runs: {listed}. Interaction: what a condition costs a model less what it costs the "
            "teacher, in points of WER, with its 95 % interval over trainings and what is "
            f"independent ({_drawn(heard)}). † marks one that excludes 0 among all "
            f"{len(rows)} of this page (Bonferroni).",
            "",
            *table(["Test set", "Condition", "Model", "Interaction"], body, left=3),
            "",
        ]
    )
