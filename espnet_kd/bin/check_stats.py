"""Check the statistics of features: numbers, and of all utterances."""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--stats_dir", required=True, help="directory of stage 10 (exp/asr_stats_*)"
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Check, and say nothing if all is well."""
    args = get_parser().parse_args(cmd)
    from espnet_kd.data.feature_stats import check_stats

    check_stats(Path(args.stats_dir))


if __name__ == "__main__":
    main()
