"""Check a compression plan and list the students of all paths, one a line.

A line holds: number, name, fingerprint, teacher (another student, or - for the first
teacher), path, `gate` if it has one, the last epoch if a gate asked for more, `online` if a
teacher cache never serves it; - in their places otherwise. With --students, what the gates
have found so far counts.
"""

import argparse

from espnet_kd.errors import run_main
from espnet_kd.plan.options import add_plan_options, students_of
from espnet_kd.plan.paths import PATHS


@run_main
def main(cmd=None) -> None:
    """Print the students."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_plan_options(parser)
    args = parser.parse_args(cmd)
    for number, student in enumerate(students_of(args), 1):
        print(
            number,
            student.name,
            student.fingerprint(),
            student.teacher or "-",
            student.path,
            "gate" if student.gate else "-",
            student.until or "-",
            "-" if student.path not in PATHS or PATHS[student.path].cached else "online",
        )


if __name__ == "__main__":
    main()
