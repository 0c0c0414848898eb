r"""Report on all models of a run that are scored: stages 17 and 21 of asr_kd.sh.

    python -m espnet_kd.bin.report_run --train_set train --valid_set dev --test_sets test ...

Asks which models are scored as they are now, measures how fast they and what was exported of them
decode and how late their tokens come, and calls `espnet_kd.bin.report`. It takes all options of
asr_kd.sh, as `espnet_kd.bin.compress` does.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.errors import run_main
from espnet_kd.run.reporting import report
from espnet_kd.run.settings import recipe_parser
from espnet_kd.run.stage_main import recipe_of, run_stage


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = recipe_parser("report_run", __doc__)
    parser.add_argument("--run_command", default="", help="command that made the run")
    parser.add_argument(
        "--as_stage", choices=("17", "21"), default="17", help="21: after stage 20 has exported"
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Report."""
    args = get_parser().parse_args(cmd)
    recipe = recipe_of(args, args.as_stage, "report: RESULTS.md, results.json, plots")
    return run_stage(recipe, lambda: report(recipe, args.run_command))


if __name__ == "__main__":
    main()
