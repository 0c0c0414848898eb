r"""Pool runs that differ in their seed: one table, one plot, and the figures as JSON.

    python -m espnet_kd.bin.report_seeds --run exp/seed1 --run exp/seed2 --run exp/seed3 \
        --out exp/SEEDS.md --plot
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from espnet_kd.cli import check_out, new_parser
from espnet_kd.common.json_file import write_json
from espnet_kd.common.records import FILES
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import atomic_open
from espnet_kd.report.bootstrap_options import (
    add_bootstrap_options,
    add_margin,
    check_bootstrap,
    margin_of,
)
from espnet_kd.report.plot_family import wer_of_family
from espnet_kd.report.plot_seeds import wer_of_seeds
from espnet_kd.report.seeds import Runs, read_runs
from espnet_kd.report.seeds_json import seeds_json
from espnet_kd.report.seeds_markdown import seeds_md
from espnet_kd.report.size_family import families


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--run",
        action="append",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of a results.json; once for each seed",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="Markdown file that is written; the figures go into a .json beside it",
    )
    parser.add_argument("--plot", action="store_true", help="draw a PNG beside --out, too")
    add_bootstrap_options(parser)
    add_margin(parser)
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    check_bootstrap(args)
    figures = _figures(args.out)
    runs = read_runs(args.run, args.draw, margin_of(args))
    differences = runs.differences(args.draws, args.seed)
    plots = _draw(runs, args.out) if args.plot else []
    if args.plot and not plots:
        reason = "matplotlib is missing (pip install matplotlib)"
        print(f"report_seeds: no plot: {reason}", file=sys.stderr)
    text = seeds_md(runs, differences, args.draws, args.seed, plots)
    write_json(figures, seeds_json(runs, differences, args.draws, args.seed))
    with atomic_open(args.out) as f:
        f.write(text)
    for path in (args.out, figures, *plots):
        print(f"Write {path}")


def _figures(out: Path) -> Path:
    """Return the JSON file beside a page.

    Raises:
        UserError: the page is none, or the JSON file has another meaning in a folder of runs.
    """
    check_out("--out", out, "a Markdown file", "SEEDS.md")
    figures = out.with_suffix(".json")
    if out == figures or figures.name.lower() in FILES:
        raise UserError(
            f"--out {out}: a Markdown file is expected, beside which {figures.name} is written "
            "without harm; name another, such as SEEDS.md"
        )
    return figures


def _draw(runs: Runs, out: Path) -> List[Path]:
    """Draw the WER of every run and, where there are families, against the size."""
    plots = [wer_of_seeds(runs, out.with_suffix(".png"))]
    if families(runs.models[1:]):
        plots.append(wer_of_family(runs, out.with_name(f"{out.stem}_family.png")))
    return [path for path in plots if path is not None]


if __name__ == "__main__":
    main()
