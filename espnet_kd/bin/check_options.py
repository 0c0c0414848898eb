"""Check all options of asr_kd.sh, and what the stages to run need, before the first stage.

Every mistake is one line; all of them are told at once. Exit code 1 if there is any.
"""

import argparse
import sys

from espnet_kd.cli import HelpFormatter
from espnet_kd.errors import run_main
from espnet_kd.run.options import OPTIONS, check_values, stages_to_run
from espnet_kd.run.prerequisites import check_needs


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        prog="check_options", description=__doc__, formatter_class=HelpFormatter
    )
    add = parser.add_argument
    add("--program", default="check_options", help="script that messages begin with")
    add("--known_stages", type=int, nargs="+", required=True, help="numbers of its stages")
    add("--cmd_backend", default="local", help="where jobs run, as in cmd.sh")
    group = parser.add_argument_group("values of the options of asr_kd.sh")
    for name in OPTIONS:
        group.add_argument(f"--option_{name}", dest=name, default="", metavar="VALUE")
    return parser


@run_main
def main(cmd=None) -> int:
    """Check."""
    args = get_parser().parse_args(cmd)
    values = {name: getattr(args, name) for name in OPTIONS}
    problems = list(check_values(values, args.known_stages))
    if not problems:
        stages = stages_to_run(values, args.known_stages)
        problems = list(check_needs(values, stages, args.cmd_backend))
    for problem in dict.fromkeys(problems):
        print(f"{args.program}: error: {' '.join(problem.split())}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    main()
