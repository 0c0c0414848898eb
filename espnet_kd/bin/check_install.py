"""Print what is installed (versions, devices, programs, extras), what is missing, what to do.

    python -m espnet_kd.bin.check_install
    python -m espnet_kd.bin.check_install --deep

Ends with exit code 1 if something is missing or broken that nothing works without.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd import __version__
from espnet_kd.cli import new_parser
from espnet_kd.errors import run_main
from espnet_kd.install import BROKEN, Finding, sections


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--deep",
        action="store_true",
        help="also import ESPnet's transducer task and ours (ten seconds and more)",
    )
    return parser


def show(finding: Finding) -> None:
    """Print a finding and its advice."""
    print(f"  {finding.state:6}  {finding.name:16}  {finding.value}")
    if finding.advice:
        print(f"  {'':6}  {'':16}  -> {finding.advice}")


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    print(f"espnet_kd {__version__}")
    broken = []
    for title, findings in sections(args.deep):
        print(f"\n{title}")
        for finding in findings:
            show(finding)
            if finding.state == BROKEN:
                broken.append(finding.name)
    print()
    if broken:
        print(f"check_install: {', '.join(broken)}: see -> above")
        return 1
    print("check_install: everything that is needed is there")
    return 0


if __name__ == "__main__":
    main()
