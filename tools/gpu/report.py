r"""What the minutes on a GPU have brought, as Markdown.

    python tools/gpu/report.py --results results.jsonl --out report.md \
        --exp egs2/librispeech/asr_kd/exp
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from espnet_kd.cli import check_out, new_parser  # noqa: E402
from espnet_kd.errors import run_main  # noqa: E402
from espnet_kd.fileio import atomic_open  # noqa: E402
from espnet_kd.machine import cpu_name  # noqa: E402
from tools.gpu.result_rows import Results, read_rows  # noqa: E402

# What the head of the page says of all rows, or nobody reads.
COMMON = {"part", "name", "device", "processor", "cores", "threads", "torch", "flush_denormals"}
COMMON |= {"lengths", "repeats", "D", "D_teacher", "loss_rnnt", "loss_kd", "case_seconds"}
HEADINGS = {"time_ratio": "time / plain", "peak_ratio": "peak / plain", "time_ms": "ms"}
HEADINGS.update(peak_mb="peak MB", fastest_ms="fastest ms", lattice_mb="lattice MB")


def machine(device: str) -> str:
    """Say what was measured on."""
    words = [
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
        cpu_name() or "CPU unknown",
    ]
    if device == "cuda" and torch.cuda.is_available():
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            gpu = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            gpu = ""
        words.insert(0, f"{gpu or torch.cuda.get_device_name()} (name, driver)")
        words.insert(1, f"CUDA {torch.version.cuda}")
    return ", ".join(words)


def table(rows: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return the lines of a Markdown table."""
    keys = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in COMMON]
    lines = ["| " + " | ".join(HEADINGS.get(key, key).replace("_", " ") for key in keys) + " |"]
    lines.append("|" + "---|" * len(keys))
    for row in rows:
        cells = ("–" if row.get(key) in (None, "") else str(row[key]) for key in keys)
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines


def training(exp: Path) -> List[str]:
    """Say how far each model has come, by its `history.json`."""
    rows: List[Dict[str, Any]] = []
    for file in sorted(exp.glob("*/history.json")):
        try:
            history = json.loads(file.read_text())
            first, last = history[0], history[-1]
            rows.append(
                {
                    "model": file.parent.name,
                    "epochs": last["epoch"],
                    "loss, training, first": round(first["train"]["loss_transducer"], 1),
                    "last": round(last["train"]["loss_transducer"], 1),
                    "validation, last": round(last["valid"]["loss_transducer"], 1),
                    "WER % of some, validation": last["valid"].get("wer", "–"),
                    "audio s / s": round(last["train"].get("audio_seconds_per_second", 0)),
                    "finished": "yes" if (file.parent / ".done.train").exists() else "no",
                }
            )
        except (ValueError, KeyError, IndexError, TypeError):
            rows.append({"model": file.parent.name, "epochs": "history.json cannot be read"})
    lines = ["## Training", "", *(table(rows) if rows else ["No epoch has been finished."]), ""]
    if (exp / "RESULTS.md").exists():
        lines += [(exp / "RESULTS.md").read_text(encoding="utf-8").replace("\n#", "\n###"), ""]
    return lines


def page(results: Results, exp: Path, command: str) -> str:
    """Write the whole page."""
    lines = ["# Minutes on a GPU", "", f"{machine(results.device)}. `{command}`", ""]
    checked = results.of("checks")
    wrong = [row for row in checked if row["problem"]]
    lines += ["## Correctness, against the CPU in float64", ""]
    lines += [f"{len(checked) - len(wrong)} of {len(checked)} pieces are right.", ""]
    lines += [*table(checked_rows(checked)), ""] if checked else []
    lines += ["## Tables", ""]
    for name in dict.fromkeys(row["name"] for row in results.of("tables")):
        lines += [f"### {name[0].upper()}{name[1:]}", "", *table(results.of("tables", name)), ""]
    sized = [row for row in read_rows(results.path) if row["part"] == "sizing"]
    if sized:
        lines += ["## Epochs that fit", "", *table(sized), ""]
    return "\n".join(lines + training(exp))


def checked_rows(rows: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return the columns of the table of correctness."""
    return [
        {
            "piece": row["name"],
            "relative difference": "–" if row["error"] is None else f"{row['error']:.0e}",
            "allowed": f"{row['tolerance']:.0e}",
            "problem": row["problem"],
            "s": row["seconds"],  # None: it has never ended
        }
        for row in rows
    ]


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="whose rows")
    parser.add_argument("--results", type=Path, required=True, help="file of the rows")
    parser.add_argument("--exp", type=Path, required=True, help="where the recipe trains")
    parser.add_argument("--command", default="tools/gpu_minutes.sh", help="what to print as such")
    parser.add_argument("--out", type=Path, required=True, help="the page")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    check_out("--out", args.out, "a Markdown file", "report.md")
    text = page(Results(args.results, args.device), args.exp, args.command)
    with atomic_open(args.out) as f:
        f.write(text)


if __name__ == "__main__":
    main()
