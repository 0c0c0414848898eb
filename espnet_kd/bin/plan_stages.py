"""Check a compression plan and list the students of all paths, one a line.

A line holds: number, name, fingerprint, teacher (another student, or - for the first
teacher), path, `gate` if it has one, the last epoch if a gate asked for more, `online` if a
teacher cache never serves it, - in their places otherwise; a hash of how long and in what batches
it is trained. With --students, what the gates
have found so far counts. With --use_teacher_cache true it is an error if a student needs what no
cache holds.
"""

import argparse

from espnet_kd.cli import HelpFormatter
from espnet_kd.errors import run_main
from espnet_kd.plan.baselines import PATHS
from espnet_kd.plan.selection import add_plan_options, check_cacheable, students_of
from espnet_kd.spec.training import read_config


@run_main
def main(cmd=None) -> None:
    """Print the students."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_plan_options(parser)
    add = parser.add_argument
    add("--use_teacher_cache", choices=("true", "false"), default="false", help="see above")
    add("--cache_band", type=int, default=0, help="rows of the cache, 0: all")
    args = parser.parse_args(cmd)
    students = students_of(args)
    if args.use_teacher_cache == "true":
        check_cacheable(students, read_config(args.train_config), args.cache_band)
    for number, student in enumerate(students, 1):
        print(
            number,
            student.name,
            student.fingerprint(),
            student.teacher or "-",
            student.path,
            "gate" if student.gate else "-",
            student.until or "-",
            "-" if student.path not in PATHS or PATHS[student.path].cached else "online",
            student.training_digest(),
        )


if __name__ == "__main__":
    main()
