"""`RESULTS.md`: the answer, the tables and plots behind it, then ESPnet's own tables."""

from datetime import datetime
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from espnet_kd.report.rows import Row
from espnet_kd.report.words import UNKNOWN, answer, duration, interval, number, signed
from espnet_kd.scoring.bootstrap import Interval
from espnet_kd.scoring.tokens import TYPES

CAPTIONS = {
    "wer_vs_params.png": "WER against parameters",
    "loss_curves.png": "Training and validation loss",
}


def results_md(
    rows: Sequence[Row],
    test_sets: Sequence[str],
    inference_tag: str,
    environment: Dict[str, object],
    method: Dict[str, object],
    plots: Sequence[Path],
    title: str,
    note: Optional[str] = None,
) -> str:
    """Write the report.

    Args:
        rows: The models, first teacher first.
        test_sets: Names of the test sets, in order.
        inference_tag: Name of the decoding directory.
        environment: See `environment.environment`.
        method: `draws` and `seed` of the bootstrap.
        plots: Files beside the report; shown as relative links.
        title: Head line.
        note: What a reader must know first, e.g. that the speech is synthetic.
    """
    lines = [f"# {title}", ""]
    if note:
        lines += [f"> **{note}**", ""]
    lines += [answer(rows, test_sets), ""]
    lines += _main_table(rows, test_sets)
    lines += ["", *_legend(environment, method), ""]
    for path in plots:
        lines += [f"![{CAPTIONS.get(path.name, path.stem)}]({path.name})", ""]
    lines += ["## Errors by kind", ""]
    lines += _error_table(rows, test_sets)
    lines += ["", *_espnet_block(environment)]
    for row in rows:
        lines += _espnet_tables(row, inference_tag)
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], body: Sequence[Sequence[str]], left: int = 1) -> List[str]:
    """Format a Markdown table; the first `left` columns are text, the others numbers."""
    rule = [":--"] * left + ["--:"] * (len(head) - left)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


def _main_table(rows: Sequence[Row], test_sets: Sequence[str]) -> List[str]:
    head = ["Stage", "Model", "Parameters", "Smaller by", "MB"]
    for s in test_sets:
        head += [f"WER % {s}", f"difference {s}", f"CER % {s}"]
    head += ["RTF", "Training", "Peak memory MiB"]
    body = []
    for row in rows:
        cells = [str(row.stage), row.name, f"{row.params:,}"]
        cells += [UNKNOWN if row.wer_diff is None else f"{100 * row.compression:.1f} %"]
        cells += [f"{row.size_mb:.2f}"]
        for s in test_sets:
            cells += [f"{row.wer[s]:.2f}", _difference(row.wer_diff, s), f"{row.cer[s]:.2f}"]
        cells += [number(row.rtf, 3), duration(row.train_seconds), number(row.peak_memory_mb, 0)]
        body.append(cells)
    return _table(head, body, left=2)


def _difference(diffs: Optional[Dict[str, Interval]], test_set: str) -> str:
    if diffs is None:
        return UNKNOWN
    i = diffs[test_set]
    return f"{signed(i.diff, 2)} ({interval(i, 2)}){' †' if i.significant else ''}"


def _legend(environment: Dict[str, object], method: Dict[str, object]) -> List[str]:
    cpu = f"{environment['cpu'] or 'CPU'}, {environment['cpu_count']} cores"
    return [
        "Lower is better everywhere, except that *smaller by* counts what was saved.",
        "",
        "- *Stage*: 0 is the first teacher; the student of a stage teaches the next.",
        "- *Parameters*: what decoding uses (encoder, decoder, joint network). *Smaller by*: "
        "share of the first teacher's parameters that is gone. *MB*: the checkpoint file, "
        "10^6 bytes.",
        "- *Difference*: WER minus the first teacher's, in points, with its 95 % interval: paired "
        f"bootstrap over utterances ({method['draws']:,} draws, seed {method['seed']}; Bisani and "
        "Ney, ICASSP 2004). † marks an interval without 0. Utterances count as independent: "
        "with few speakers the true interval is wider. One training each: the interval does not "
        "say how another seed would have come out.",
        "- *RTF*: seconds of decoding for a second of speech, by one process on this machine "
        f"({cpu}), over all test sets.",
        "- *Training*: wall time of this model's own training, without that of its teachers. "
        "*Peak memory*: of the training process (2^20 bytes).",
        f"- {UNKNOWN}: does not apply, or was not recorded here.",
    ]


def _error_table(rows: Sequence[Row], test_sets: Sequence[str]) -> List[str]:
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
            texts += [f"{c.error_rate:.2f}", _difference(row.cer_diff, s)]
            body.append([row.name, s, *texts])
    return _table(head, body, left=2)


def _espnet_block(env: Dict[str, object]) -> List[str]:
    """Print the head of ESPnet's RESULTS.md (scripts/utils/show_asr_result.sh), and more."""
    date = datetime.fromisoformat(str(env["date"])).strftime("%a %b %e %H:%M:%S %Z %Y")
    lines = [
        "# RESULTS",
        "## Environments",
        f"- date: `{date}`",
        f"- python version: `{env['python']}`",
        f"- espnet2 version: `espnet2 {env['espnet']}`",
        f"- pytorch version: `pytorch {env['torch']}`",
    ]
    if env["git_commit"]:
        lines += [f"- Git hash: `{env['git_commit']}`", f"  - Commit date: `{env['git_date']}`"]
    lines += [
        f"- torchaudio version: `{env['torchaudio']}`",
        f"- espnet_kd version: `{env['espnet_kd']}`",
        f"- platform: `{env['platform']}`",
        f"- CPU: `{env['cpu']}`, {env['cpu_count']} cores",
        f"- command: `{env['command']}`",
        "",
    ]
    return lines


def _espnet_tables(row: Row, inference_tag: str) -> List[str]:
    """Print a model's tables as show_asr_result.sh does."""
    lines = [f"## {row.dir}"]
    for score_type in TYPES:
        lines += [f"### {score_type.upper()}", ""]
        lines += [
            "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for test_set, (snt, wrd, *rates) in row.summaries[score_type].items():
            cells = [f"{inference_tag}/{test_set}", f"{snt:.0f}", f"{wrd:.0f}"]
            lines.append(f"|{'|'.join(cells + [f'{x:.1f}' for x in rates])}|")
        lines.append("")
    return lines
