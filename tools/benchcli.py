"""What the benchmarks' command lines share: options, the loop over batches, tables."""

import argparse
import csv
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import torch
from benchdata import KINDS
from benchlib import in_child

from espnet_kd.cli import new_parser
from espnet_kd.errors import UserError
from espnet_kd.machine import cpu_name
from espnet_kd.progress import Progress

Row = Dict[str, Any]
TOLERANCE = 1e-4  # relative, between variants that compute the same


def get_parser(
    description: str,
    variants: Sequence[str],
    vocabularies: Sequence[int],
    batches: Sequence[str] = KINDS,
) -> argparse.ArgumentParser:
    """Build a parser with the options that all benchmarks have.

    Args:
        description: The tool's docstring.
        variants: Names of what can be measured.
        vocabularies: Default of `--vocabularies`.
        batches: Default of `--batches`.
    """
    parser = new_parser(description)
    add = parser.add_argument
    add("--vocabularies", type=int, nargs="+", default=list(vocabularies), metavar="V")
    add("--batches", nargs="+", choices=KINDS, default=list(batches), help="kinds of lengths")
    add(
        "--variants",
        nargs="+",
        choices=variants,
        default=list(variants),
        metavar="NAME",
        help="which to measure; without 'plain' there are no ratios",
    )
    add("--batch", type=int, default=16, help="utterances of a batch at most")
    add(
        "--cells",
        type=float,
        default=40.0,
        help="millions of logits, padding included, that a batch may have; naive variants need "
        "up to 32 bytes for each",
    )
    add("--shrink", type=int, default=1, help="divide all lengths by this")
    add("--repeats", type=int, default=3, help="timed rounds; 0: memory only")
    add("--threads", type=int, default=None, help="CPU threads; by default torch's choice")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", choices=("cpu", "cuda"), default=device, help="where to compute")
    add(
        "--flush_denormals",
        action="store_true",
        help="let the CPU take numbers below 1e-38 for zero, in all variants; torch does not",
    )
    add(
        "--corpus",
        type=Path,
        help="set of LibriSpeech whose lengths are taken, by default train-clean-5 below "
        "$ESPNET_KD_SHARED or ../shared/data, or stored quantiles where that is missing",
    )
    add("--seed", type=int, default=0, help="seed of batch, weights and labels")
    add("--csv", help="write the rows here")
    add("--json", help="write the rows here")
    add("--quick", action="store_true", help="few batches: does it work? Its figures are rough")
    return parser


def parse(parser: argparse.ArgumentParser, cmd: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse and check a command line.

    Raises:
        UserError: CUDA is asked for and not there.
    """
    args = parser.parse_args(cmd)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device")
    return args


def run(
    label: str,
    args: argparse.Namespace,
    measure: Callable[[str, int, Progress], List[Row]],
    columns: Mapping[str, str],
) -> None:
    """Measure all batches, write the rows and print the table.

    Args:
        label: The tool's name.
        args: The command line.
        measure: Kind of a batch, V, progress -> a row for each variant.
        columns: Keys and headings of the printed table.
    """
    cases = [(kind, v) for v in args.vocabularies for kind in args.batches]
    total = len(cases) * len(args.variants) * (1 + args.repeats)
    progress = Progress(label, total, unit="runs")
    rows: List[Row] = []
    for kind, vocabulary in cases:
        found = measure(kind, vocabulary, progress)
        _add_ratios(found, "plain")
        rows += found
        _write(rows, args.csv, args.json)  # after each: a stop leaves what is done
    progress.close()
    print(_table(rows, columns))


def check_losses(found: Mapping[str, Mapping[str, float]]) -> None:
    """Compare the losses of variants that compute the same.

    Args:
        found: `rnnt` and `kd` (NaN without distillation) of each variant.

    Raises:
        RuntimeError: two differ by more than `TOLERANCE`, relative.
    """
    groups = {"rnnt": list(found)}
    for objective in ("full", "collapsed"):
        groups[objective] = [name for name in found if objective in name]
    for group, names in groups.items():
        key = "rnnt" if group == "rnnt" else "kd"
        values = [found[name][key] for name in names]
        # Written so that NaN is refused.
        if not all(abs(x - values[0]) <= TOLERANCE * abs(values[0]) for x in values):
            listed = ", ".join(f"{name} {value:.7g}" for name, value in zip(names, values))
            raise RuntimeError(f"variants disagree on the {key} loss: {listed}")


def loss_columns(found: Mapping[str, float]) -> Row:
    """Columns of a variant's losses."""
    known = {key: None if math.isnan(x) else round(x, 4) for key, x in found.items()}
    return {"loss_rnnt": known["rnnt"], "loss_kd": known["kd"]}


def times(seconds: Sequence[float]) -> Row:
    """Columns of a variant's times: the median, and the fastest run beside it."""
    if not seconds:
        return {"time_ms": None, "fastest_ms": None}
    return {
        "time_ms": round(1000 * statistics.median(seconds), 2),
        "fastest_ms": round(1000 * min(seconds), 2),
    }


def _add_ratios(rows: Sequence[Row], unit: str) -> None:
    """Add the ratios of time and memory to the variant `unit` of the same rows."""
    base = {row["variant"]: row for row in rows}.get(unit)
    for row in rows:
        for column, ratio in (("time_ms", "time_ratio"), ("peak_mb", "peak_ratio")):
            of = base.get(column) if base else None
            known = of and row.get(column) is not None
            row[ratio] = round(row[column] / of, 4) if known else None


def machine(device: str, threads: Optional[int]) -> Row:
    """Columns that say where and under which load a row was measured."""
    name = in_child(torch.cuda.get_device_name) if device == "cuda" else cpu_name()
    return {
        "device": device,
        "processor": name,
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }


def _write(rows: Sequence[Row], csv_path: Optional[str], json_path: Optional[str]) -> None:
    """Write the rows where the user asked for them."""
    if csv_path:
        Path(csv_path).parent.mkdir(parents=True, exist_ok=True)
        with open(csv_path, "w", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if json_path:
        Path(json_path).parent.mkdir(parents=True, exist_ok=True)
        Path(json_path).write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")


def _table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Format rows as a Markdown table; `columns`: keys and their headings."""
    cells = [list(columns.values())]
    cells += [["–" if row[key] is None else str(row[key]) for key in columns] for row in rows]
    width = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, width)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in width) + "|")
    return "\n".join(lines)
