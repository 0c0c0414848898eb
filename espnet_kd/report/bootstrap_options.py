"""Options that the command lines of reports share."""

import argparse
from typing import Optional

from espnet_kd.errors import UserError
from espnet_kd.report.size_family import MARGIN, Margin
from espnet_kd.scoring.bootstrap import DRAWS, SEED
from espnet_kd.scoring.grouping import AUTO, DRAWN_BY, LEAST_SPEAKERS


def add_bootstrap_options(parser: argparse.ArgumentParser) -> None:
    """Add `--draws`, `--seed` and `--draw`."""
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of the bootstrap")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the bootstrap")
    parser.add_argument(
        "--draw",
        choices=DRAWN_BY,
        default=AUTO,
        help="what the intervals take for independent, and draw: auto is speakers where a set has "
        f"{LEAST_SPEAKERS} or more, otherwise recordings, each with all its conditions",
    )


def add_margin(parser: argparse.ArgumentParser) -> None:
    """Add `--margin`."""
    parser.add_argument(
        "--margin",
        type=float,
        help="points of WER within which one way is no worse than another, by default what was "
        f"named before: in the plan ('margin: 0.5' beside its stages), or else {MARGIN}",
    )


def margin_of(args: argparse.Namespace, planned: Optional[Margin] = None) -> Optional[Margin]:
    """Return the margin of the command line, or else the planned one; None: there is neither."""
    return planned if args.margin is None else Margin(args.margin, "--margin")


def check_bootstrap(args: argparse.Namespace) -> None:
    """Refuse what gives no interval.

    Raises:
        UserError: less than one draw, or a seed below 0.
    """
    if args.draws < 1:
        raise UserError(f"--draws {args.draws}: at least 1 is needed; 1,000 to 10,000 is usual")
    margin = getattr(args, "margin", None)
    if margin is not None and not 0 <= args.margin <= 100:
        raise UserError(f"--margin {margin:g}: from 0 to 100 points are possible")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: 0 or more is needed")
