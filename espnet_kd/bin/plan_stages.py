"""Check a compression plan and list the students of all paths, one a line.

A line holds number, name, teacher (another student, or - for the first teacher) and path. With
--students, what the gates have found so far counts.
"""

import argparse

from espnet_kd.cli import HelpFormatter
from espnet_kd.errors import run_main
from espnet_kd.plan.selection import add_plan_options, students_of


@run_main
def main(cmd=None) -> None:
    """Print the students."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_plan_options(parser)
    for number, student in enumerate(students_of(parser.parse_args(cmd)), 1):
        print(number, student.name, student.teacher or "-", student.path)


if __name__ == "__main__":
    main()
