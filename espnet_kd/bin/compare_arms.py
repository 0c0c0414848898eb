r"""Compare students of different arms, each run with several seeds, pair by pair.

    python -m espnet_kd.bin.compare_arms --out exp/SIZES.md \
        --pair exp/sensitivity_92/stage1=exp/rule_92/stage1 \
        --pair exp/double/one_shot_own2_stage3=exp/thin/stage3

An arm is a folder of evidence.sh that holds seed1/results.json, seed2/results.json and so on. Two
runs of one seed are a pair; a seed that an arm lacks is left out of all pairs, and the report says
so.
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import check_out, new_parser
from espnet_kd.errors import run_main
from espnet_kd.fileio import atomic_open
from espnet_kd.report.arms import arms_md, parse_pairs, read_arms
from espnet_kd.report.bootstrap_options import add_bootstrap_options, check_bootstrap


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--pair",
        action="append",
        required=True,
        metavar="ARM/STUDENT=ARM/STUDENT",
        help="once for each pair: folder of an arm and name of a student in its reports",
    )
    parser.add_argument("--out", type=Path, required=True, help="Markdown file that is written")
    add_bootstrap_options(parser)
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    check_bootstrap(args)
    check_out("--out", args.out, "a Markdown file", "ARMS.md")
    pairs = parse_pairs(args.pair)
    arms = read_arms(pairs, args.draw)
    text = arms_md(arms, pairs, arms.differences(pairs, args.draws, args.seed), args.draws)
    with atomic_open(args.out) as f:
        f.write(text)
    print(text)
    print(f"Write {args.out}")


if __name__ == "__main__":
    main()
