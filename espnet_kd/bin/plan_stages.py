"""Check a compression plan and list the students of all paths, one a line.

A line holds number, name, teacher (another student, or - for the first teacher), path, and further
paths that would train the same student, which is made once. With --students, what the gates have
found so far counts.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.errors import run_main
from espnet_kd.plan.selection import add_plan_options, students_of


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add_plan_options(parser)
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Print the students."""
    for number, student in enumerate(students_of(get_parser().parse_args(cmd)), 1):
        print(number, student.name, student.teacher or "-", student.path, *student.also_on)


if __name__ == "__main__":
    main()
