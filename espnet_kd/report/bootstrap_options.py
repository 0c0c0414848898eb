"""Options that the command lines of reports share."""

import argparse

from espnet_kd.errors import UserError
from espnet_kd.scoring.bootstrap import DRAWS, SEED


def add_bootstrap_options(parser: argparse.ArgumentParser) -> None:
    """Add `--draws` and `--seed`."""
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of the bootstrap")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the bootstrap")


def check_bootstrap(args: argparse.Namespace) -> None:
    """Refuse what gives no interval.

    Raises:
        UserError: less than one draw, or a seed below 0.
    """
    if args.draws < 1:
        raise UserError(f"--draws {args.draws}: at least 1 is needed; 1,000 to 10,000 is usual")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: 0 or more is needed")
