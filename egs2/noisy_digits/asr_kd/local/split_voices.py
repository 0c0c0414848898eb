#!/usr/bin/env python3
r"""Split data directories by voice: those of some people, and those of the others.

    python local/split_voices.py --data data/train --target_voices 2

makes data/train_source and data/train_target; the last people in the order of their names are
the target.
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, positive_int
from espnet_kd.data.kaldi_dir import read_data_dir, select, write_data_dir
from espnet_kd.errors import UserError, run_main
from espnet_kd.scoring.grouping import people_of


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data directory to split")
    parser.add_argument(
        "--target_voices", type=positive_int, default=2, help="people of the target"
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    tables = read_data_dir(args.data)
    people = dict(zip(tables["utt2spk"], people_of(list(tables["utt2spk"].values()))))
    names = sorted(set(people.values()))
    if args.target_voices >= len(names):
        raise UserError(
            f"--target_voices {args.target_voices}: {args.data} has {len(names)} people, and some "
            "have to be left for the source"
        )
    target = set(names[-args.target_voices :])
    for part, wanted in (("source", False), ("target", True)):
        keep = {utt for utt, person in people.items() if (person in target) is wanted}
        write_data_dir(args.data.with_name(f"{args.data.name}_{part}"), select(tables, keep))


if __name__ == "__main__":
    main()
