"""Compare what a student was made from, as its manifest.json has it, with the files.

python -m espnet_kd.bin.manifest --check exp/kd_stage1
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.common.records import MANIFEST
from espnet_kd.errors import UserError, run_main
from espnet_kd.plan.manifest import differences


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--check", metavar="DIR", required=True, help="experiment of the student")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Check."""
    exp = get_parser().parse_args(cmd).check
    lines = differences(MANIFEST.read(Path(exp)))
    for line in lines:
        print(line)
    if lines:
        raise UserError(f"{exp}: {len(lines)} of its files differ from manifest.json")
    print(f"{exp}: all files are those of manifest.json")


if __name__ == "__main__":
    main()
