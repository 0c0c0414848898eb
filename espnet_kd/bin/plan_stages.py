"""Check a compression plan and list its stages, `<number> <name> <fingerprint>` a line."""

import argparse

from espnet_kd.errors import run_main
from espnet_kd.plan import load_plan


@run_main
def main(cmd=None) -> None:
    """Print the stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--plan", required=True, help="compression plan (YAML)")
    args = parser.parse_args(cmd)
    for stage in load_plan(args.plan).stages:
        print(stage.number, stage.name, stage.fingerprint())


if __name__ == "__main__":
    main()
