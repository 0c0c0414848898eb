"""Write a recipe folder that stands alone: the stages, configs, and a run.sh for any corpus."""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.errors import run_main
from espnet_kd.run.recipe_folder import make_recipe


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("dir", metavar="DIR", help="folder to make, such as my_corpus/asr_kd")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Make the folder."""
    folder = Path(get_parser().parse_args(cmd).dir).expanduser()
    make_recipe(folder)
    print(f"made {folder}; now: cd {folder} && ./run.sh --corpus DIR (./run.sh --help)")


if __name__ == "__main__":
    main()
