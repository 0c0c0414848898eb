"""Stage 4: drop utterances that are too short, too long or without text."""

import argparse
import logging
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, seconds, share, str2bool
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.kaldi_dir import read_data_dir, write_data_dir
from espnet_kd.data.lengths import filter_lengths
from espnet_kd.errors import run_main
from espnet_kd.fileio import atomic_open


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", required=True, help="directory to read, of dump/raw/org")
    parser.add_argument("--out", required=True, help="directory to write, of dump/raw")
    parser.add_argument("--min_wav_duration", type=seconds, default=0.1, help="in seconds")
    parser.add_argument("--max_wav_duration", type=seconds, default=20.0, help="in seconds")
    parser.add_argument(
        "--max_dropped_share",
        type=share,
        default=0.1,
        help="refuse to drop a larger share of the utterances, or of their hours",
    )
    parser.add_argument(
        "--untranscribed",
        type=str2bool,
        default=False,
        help="keep utterances without text: a teacher's transcripts take their place",
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Filter the data directory."""
    args = get_parser().parse_args(cmd)
    dropped = BadItems(args.data, args.max_dropped_share)
    tables = filter_lengths(
        read_data_dir(args.data),
        args.min_wav_duration,
        args.max_wav_duration,
        dropped,
        args.untranscribed,
    )
    with atomic_open(Path(args.out) / "feats_type") as f:  # ESPnet's asr.sh asks for it
        f.write("raw\n")
    write_data_dir(args.out, tables)
    dropped.write(Path(args.out))
    logging.info(f"wrote {args.out}")


if __name__ == "__main__":
    main()
