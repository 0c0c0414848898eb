"""Bring the option tables of docs/plan.md up to date: `python tools/write_option_tables.py`."""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.errors import run_main
from espnet_kd.spec.option_tables import updated

PLAN = Path(__file__).resolve().parents[1] / "docs" / "plan.md"


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    return new_parser(__doc__)


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Write the tables."""
    get_parser().parse_args(cmd)
    PLAN.write_text(updated(PLAN.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
