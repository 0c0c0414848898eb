"""Stage 2: a data directory -> the same with copies at other speeds."""

import argparse
import logging
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, share, str2bool
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.identity import NAME, audio_files, lines_of, write_record
from espnet_kd.data.kaldi_dir import read_data_dir, write_data_dir
from espnet_kd.data.speed_perturbation import parse_factors, perturb
from espnet_kd.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", required=True, help="data directory to read")
    parser.add_argument("--factors", default="0.9 1.0 1.1", help="speeds, separated by spaces")
    parser.add_argument("--out", required=True, help="data directory to write")
    parser.add_argument(
        "--max_bad_share",
        type=share,
        default=0.02,
        help="refuse if a larger share lacks audio, transcript or speaker",
    )
    parser.add_argument(
        "--untranscribed",
        type=str2bool,
        default=False,
        help="transcripts may be missing: a teacher's take their place",
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Perturb the data directory."""
    args = get_parser().parse_args(cmd)
    factors = parse_factors(args.factors)
    bad = BadItems(args.data, args.max_bad_share)
    tables = read_data_dir(args.data, bad, args.untranscribed)
    bad.refuse_beyond_share(len(tables["wav.scp"]) + bad.count)
    bad.log()
    tables = perturb(tables, factors)
    files = audio_files(args.data, may_miss=True)
    write_data_dir(args.out, {**tables, NAME: lines_of(tables["wav.scp"], files)})
    bad.write(Path(args.out))
    write_record(args.data, files)
    logging.info(f"wrote {args.out}")


if __name__ == "__main__":
    main()
