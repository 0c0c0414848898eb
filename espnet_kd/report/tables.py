"""The tables of `RESULTS.md`."""

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from espnet_kd.report.breakdowns import Breakdown
from espnet_kd.report.comparisons import Comparison
from espnet_kd.report.paths import by_path, spoken
from espnet_kd.report.rows import Row
from espnet_kd.report.words import (
    UNKNOWN,
    difference,
    duration,
    interval,
    number,
    p_value,
    signed,
)
from espnet_kd.scoring.bootstrap import Interval

ToTeacher = Mapping[Tuple[str, str], Comparison]  # (model, test set) -> with the first teacher


def table(head: Sequence[str], body: Sequence[Sequence[str]], left: int = 1) -> List[str]:
    """Format a Markdown table; the first `left` columns are text, the others numbers."""
    rule = [":--"] * left + ["--:"] * (len(head) - left)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


def main_table(rows: Sequence[Row], test_sets: Sequence[str], to_teacher: ToTeacher) -> List[str]:
    """One line a model, path by path, the largest first."""
    head = ["Stage", "Model", "Parameters", "Smaller by", "MB"]
    device = any(row.on_device for row in rows)
    head += ["Parameters on a device", "MB on a device"] * device
    for s in test_sets:
        head += [f"WER % {s}", f"difference {s}", f"CER % {s}"]
    energy = any(row.joules_per_hour is not None for row in rows)
    head += ["RTF", *["J per hour"] * energy, "Decoding MiB", "Training", "Training MiB"]
    paths = by_path(rows[1:])
    body = [_main_line(rows[0], test_sets, to_teacher, device, energy)]
    for path, group in paths.items():
        if len(paths) > 1:
            body.append(["", f"*{spoken(path)}*", *[""] * (len(head) - 2)])
        body += [_main_line(row, test_sets, to_teacher, device, energy) for row in group]
    return table(head, body, left=2)


def _main_line(
    row: Row, test_sets: Sequence[str], to_teacher: ToTeacher, device: bool, energy: bool
) -> List[str]:
    cells = [str(row.stage), row.name, f"{row.params:,}"]
    cells += [UNKNOWN if row.wer_diff is None else f"{100 * row.compression:.1f} %"]
    cells += [f"{row.size_mb:.2f}"]
    if device:
        taken = row.on_device
        cells += [f"{taken.params:,}", f"{taken.bytes / 1e6:.3f}"] if taken else [UNKNOWN] * 2
    for s in test_sets:
        compared = to_teacher.get((row.name, s))
        cells += [f"{row.wer[s]:.2f}", difference(compared) if compared else UNKNOWN]
        cells += [f"{row.cer[s]:.2f}"]
    return [
        *cells,
        f"{row.rtf['median']:.3f} ({row.rtf['p95']:.3f})" if row.rtf else UNKNOWN,
        *[number(row.joules_per_hour, 0)] * energy,
        number(row.decode_memory_mb, 0),
        duration(row.train_seconds),
        number(row.peak_memory_mb, 0),
    ]


def stock_table(rows: Sequence[Row], test_sets: Sequence[str]) -> List[str]:
    """One line a model: WER in chunks as trained, and as ESPnet's own streaming has them."""
    head = ["Model"]
    for s in test_sets:
        head += [f"WER % {s}", f"ESPnet's {s}"]
    body = []
    for row in rows:
        cells = [row.name]
        for s in test_sets:
            cells += [f"{row.wer[s]:.2f}", number((row.wer_stock or {}).get(s), 2)]
        body.append(cells)
    return table(head, body)


def comparison_table(comparisons: Sequence[Comparison]) -> List[str]:
    """One line a comparison."""
    head = ["Model", "against", "Test set", "Verdict", "Difference", "95 % interval"]
    body = []
    for c in comparisons:
        tested = [interval(c.interval, 2), p_value(c.p), p_value(c.p_holm)]
        cells = [c.model, c.against, c.test_set, c.verdict, signed(c.interval.diff, 2)]
        body.append(cells + ([UNKNOWN] * 3 if c.remark else tested))
    return table([*head, "p", "p, Holm"], body, left=4)


class CostColumn(NamedTuple):
    """A column of costs: field of `Cost`, title, and how its values are written."""

    field: str
    title: str
    format: Callable[[Optional[float]], str]


COSTS = (
    CostColumn("updates", "Updates", lambda x: number(x, 0)),
    CostColumn("audio_hours", "Hours of audio", number),
    CostColumn("seconds", "Training", duration),
    CostColumn("cpu_seconds", "CPU", duration),
    CostColumn("gpu_seconds", "GPU", duration),
    CostColumn("teacher_epochs", "Teacher-epochs", lambda x: number(x, 2)),
    CostColumn("kwh", "kWh", lambda x: UNKNOWN if x is None else f"{x:.3g}"),
)


def cost_table(rows: Sequence[Row]) -> List[str]:
    """One line a model: its own training and that of its whole path."""
    checked = any(wer_before(row) is not None for row in rows)
    gated = any(row.gate for row in rows)
    used = [
        column
        for column in COSTS
        if any(
            getattr(c, column.field) for row in rows[1:] or rows for c in (row.cost, row.path_cost)
        )
    ]
    head = ["Model", "Path", "Learnt from"]
    head += [title for column in used for title in (column.title, "of the path")]
    head += ["WER % before training"] * checked + ["Gate"] * gated
    body = []
    for row in [rows[0], *(row for group in by_path(rows[1:]).values() for row in group)]:
        learnt_from = row.teacher or UNKNOWN
        if row.taught_by:
            learnt_from = f"{row.taught_by} (weights of {learnt_from})"
        cells = [row.name, spoken(row.path or UNKNOWN), learnt_from]
        for column in used:
            cells += [column.format(getattr(c, column.field)) for c in (row.cost, row.path_cost)]
        cells += [_before(row)] * checked + [_gate(row)] * gated
        body.append(cells)
    return table(head, body, left=3)


def wer_before(row: Row) -> Optional[float]:
    """Return the WER of a student as it was derived, if it was measured."""
    return (row.before_training or {}).get("wer")


def _before(row: Row) -> str:
    before = row.before_training or {}
    if before.get("wer") is None:
        return UNKNOWN
    return f"{number(before['wer'], 2)} ({number(before.get('teacher_wer'), 2)})"


def _gate(row: Row) -> str:
    if row.gate is None:
        return UNKNOWN
    student, teacher = row.gate.get("student_wer"), row.gate.get("teacher_wer")
    both = student is not None and teacher is not None
    return row.gate["verdict"] + (f" ({student:.2f} against {teacher:.2f})" if both else "")


def error_table(rows: Sequence[Row], test_sets: Sequence[str], to_teacher: ToTeacher) -> List[str]:
    """Substitutions, deletions and insertions of words and characters."""
    head = ["Model", "Test set", "Words", "Correct", "Sub", "Del", "Ins", "WER %"]
    head += ["Characters", "Sub", "Del", "Ins", "CER %", "CER difference"]
    body = []
    for row in rows:
        for s in test_sets:
            w, c = row.errors["wer"][s], row.errors["cer"][s]
            cells = [w.ref_words, w.correct, w.substitutions, w.deletions, w.insertions]
            rate = f"{w.error_rate:.2f}"
            letters = [c.ref_words, c.substitutions, c.deletions, c.insertions]
            texts = [f"{x:,}" for x in cells] + [rate] + [f"{x:,}" for x in letters]
            compared = to_teacher.get((row.name, s))
            texts += [f"{c.error_rate:.2f}", _cer_difference(row.cer_diff, s, compared)]
            body.append([row.name, s, *texts])
    return table(head, body, left=2)


def _cer_difference(
    diffs: Optional[Dict[str, Interval]], test_set: str, compared: Optional[Comparison]
) -> str:
    if diffs is None:
        return UNKNOWN
    i = diffs[test_set]
    bounds = "" if compared is None or compared.remark else f" ({interval(i, 2)})"
    return f"{signed(i.diff, 2)}{bounds}"


def breakdown_tables(breakdowns: Sequence[Breakdown]) -> List[str]:
    """WER % of each part of a test set; a section a kind of breakdown."""
    titles = {
        "length": "WER % by length of the utterance (reference words)",
        "condition": "WER % by condition",
    }
    lines = []
    for by, title in titles.items():
        chosen = [b for b in breakdowns if b.by == by]
        lines += ["", f"## {title}"] if chosen else []
        for b in chosen:
            body = [["*utterances*", *(f"{n:,}" for n in b.utterances)]]
            body += [["*words*", *(f"{n:,}" for n in b.words)]]
            body += [[name, *(number(x, 2) for x in wer)] for name, wer in b.wer.items()]
            lines += ["", *table([b.test_set, *b.labels], body)]
    return lines
