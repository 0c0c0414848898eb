"""Stage 1: a corpus in LibriSpeech's layout -> a Kaldi data directory."""

import argparse
import logging
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, share
from espnet_kd.data.kaldi_dir import write_data_dir
from espnet_kd.data.librispeech import prepare
from espnet_kd.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--corpus", required=True, help="folder that holds the sets, or LibriSpeech/ with them"
    )
    parser.add_argument(
        "--set", required=True, nargs="+", help="sets to read; several are combined into one"
    )
    parser.add_argument("--out", required=True, help="data directory to write")
    parser.add_argument(
        "--max_bad_share",
        type=share,
        default=0.02,
        help="refuse if a larger share lacks audio or transcript, or is unreadable",
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Prepare the sets."""
    args = get_parser().parse_args(cmd)
    write_data_dir(args.out, prepare(args.corpus, args.set, args.max_bad_share))
    logging.info(f"wrote {args.out}")


if __name__ == "__main__":
    main()
