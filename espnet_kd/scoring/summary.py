"""The report that sclite prints, for machines without sclite."""

import math
import statistics
import string
from typing import Callable, Dict, List, Sequence, Tuple

from espnet_kd.scoring.counts import Counts

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def speaker_of(trn_id: str) -> str:
    """Return the speaker that sclite reads from `speaker-utt`: up to the first `-`."""
    return trn_id.partition("-")[0].translate(_LOWER)


def summary(title: str, by_speaker: Dict[str, Counts]) -> str:
    """Format sclite's two tables: percentages, then plain counts.

    Args:
        title: Head of the table; sclite puts the hypothesis file there.
        by_speaker: Counts of each speaker, in order of appearance.
    """
    return _table(title, by_speaker, percent=True) + _table(title, by_speaker, percent=False)


def alignment(trn_id: str, ref: Sequence[str], hyp: Sequence[str], ops: str) -> str:
    """Format one utterance as sclite's `pralign` does: errors in capitals, gaps as stars."""
    rows: List[Tuple[str, str, str]] = []
    refs, hyps = iter(ref), iter(hyp)
    for op in ops:
        r = next(refs) if op != "I" else ""
        h = next(hyps) if op != "D" else ""
        if op != "C":
            r, h = r.upper(), h.upper()
        rows.append((r or "*" * len(h), h or "*" * len(r), "" if op == "C" else op))
    widths = [max(map(len, row)) for row in rows]
    c = Counts.of(ops)
    lines = [
        f"id: ({trn_id})",
        f"Scores: (#C #S #D #I) {c.correct} {c.substitutions} {c.deletions} {c.insertions}",
    ]
    for k, name in enumerate(("REF:  ", "HYP:  ", "Eval: ")):
        lines.append(name + " ".join(row[k].ljust(w) for row, w in zip(rows, widths)))
    return "\n".join(lines) + "\n\n"


def _table(title: str, by_speaker: Dict[str, Counts], percent: bool) -> str:
    total = Counts.total(by_speaker.values())
    head = [" SPKR", " # Snt", "# Wrd", "Corr", " Sub", " Del", " Ins", " Err", "S.Err"]
    body = [[f" {name} ", *_cells(c, percent)] for name, c in by_speaker.items()]
    end = [" Sum/Avg" if percent else " Sum", *_cells(total, percent)]
    spread = _spread(list(by_speaker.values()), percent)
    rows = [head, *body, end, *spread]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]

    def line(row: List[str]) -> str:
        name, *cells = row
        name = name.center(widths[0]) if row in spread else name.ljust(widths[0])
        cells = [cell.center(w) for cell, w in zip(cells, widths[1:])]
        return f"|{name}|{' '.join(cells[:2])} |{' '.join(cells[2:])}|"

    full = len(line(head)) - 2
    thin, thick = "|" + "-" * full + "|", "|" + "=" * full + "|"
    rule = "|" + "".join("+" if c == "|" else "-" for c in line(head)[1:-1]) + "|"
    lines = ["," + "-" * full + ".", f"|{title.center(full)}|", thin, line(head)]
    for row in body:
        lines += [rule, line(row)]
    lines += [thick, line(end), thick, *map(line, spread), "`" + "-" * full + "'"]
    if percent and any(c.ref_words == 0 for c in by_speaker.values()):
        lines += ["", "* no reference words: counts, not percent", "+ without these speakers"]
    return "SYSTEM SUMMARY PERCENTAGES by SPEAKER\n\n" + "\n".join(lines) + "\n\n\n"


def _values(c: Counts, percent: bool) -> List[float]:
    """Corr, Sub, Del, Ins, Err and S.Err, as counts or in percent."""
    values: List[float]
    values = [c.correct, c.substitutions, c.deletions, c.insertions, c.errors, c.wrong_sentences]
    if not percent:
        return values
    return [100.0 * v / c.ref_words for v in values[:5]] + [100.0 * values[5] / c.sentences]


def _cells(c: Counts, percent: bool) -> List[str]:
    cells = [f"{c.sentences:5d}", f"{c.ref_words:5d}"]
    if not percent:
        return cells + [f"{v:5d} " for v in _values(c, False)]
    if c.ref_words:
        return cells + [_decimal(v) for v in _values(c, True)]
    # No reference word: sclite shows plain counts and stars them.
    counts = [f"{v:5d}*" for v in _values(c, False)[:5]]
    return cells + counts + [_decimal(100.0 * c.wrong_sentences / c.sentences)]


def _spread(speakers: List[Counts], percent: bool) -> List[List[str]]:
    """Mean, standard deviation and median over the speakers; rates need reference words."""
    worded = [c for c in speakers if c.ref_words or not percent]
    columns: List[Sequence[float]]
    columns = [[c.sentences for c in speakers], [c.ref_words for c in speakers]]
    columns += zip(*(_values(c, percent)[:5] for c in worded)) if worded else [[0.0]] * 5
    per_speaker = [100.0 / c.sentences if percent else 1 for c in speakers]
    columns.append([c.wrong_sentences * scale for c, scale in zip(speakers, per_speaker)])
    marks = "  " + (" " if len(worded) == len(speakers) else "+") * 5 + " "

    def row(name: str, function: Callable[[Sequence[float]], float]) -> List[str]:
        cells = [_decimal(function(column), mark) for column, mark in zip(columns, marks)]
        return [name, cells[0].strip(), cells[1].strip(), *cells[2:]]

    def deviation(column: Sequence[float]) -> float:
        return statistics.stdev(column) if len(column) > 1 else 0.0

    return [
        row(" Mean ", statistics.fmean),
        row(" S.D. ", deviation),
        row("Median", statistics.median),
    ]


def _decimal(x: float, mark: str = " ") -> str:
    """Round half up to one decimal, as sclite does (Python rounds half to even)."""
    return f"{math.floor(x * 10 + 0.5) / 10:5.1f}{mark}"
