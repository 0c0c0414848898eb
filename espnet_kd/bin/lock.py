r"""Hold folders for a run, so that a second one does not write into them.

    python -m espnet_kd.bin.lock --pid $$ --command "./run.sh" exp

Each folder gets a record, `.run.json`, of the process --pid and its command; whoever holds the
folders removes it at the end. A folder that a living run holds is refused in one line that says
which run. The environment variable ESPNET_KD_RUN is the name of the run.
"""

import argparse
import os
import signal
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, positive_int, seconds
from espnet_kd.errors import UserError, run_main
from espnet_kd.run.lock import VARIABLE, Run, hold


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--pid", type=positive_int, required=True, help="process that holds them")
    parser.add_argument("--command", default="", help="command of the process, for messages")
    parser.add_argument(
        "--wait",
        type=seconds,
        default=0.0,
        help="seconds to wait for a run that has one of the folders after the first",
    )
    parser.add_argument("folders", nargs="+", type=Path, help="made if they are not there")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Hold the folders."""
    args = get_parser().parse_args(cmd)
    # Whoever is ended while it waits leaves no record.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    token = os.environ.get(VARIABLE, "")
    if not token:
        raise UserError(f"{VARIABLE} is not set: the name of the run is expected in it")
    for folder in args.folders:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: a file; a folder is expected")
    say = lambda line: print(line, flush=True)  # noqa: E731
    run = Run.of(args.pid, token, args.command)
    taken = hold(args.folders[:1], run)
    try:
        hold(args.folders[1:], run, args.wait, say)
    except BaseException:
        for record in taken:
            record.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    main()
