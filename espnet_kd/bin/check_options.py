"""Check all options of asr_kd.sh, and what the stages to run need, before the first stage.

Every mistake is one line; all of them are told at once. Exit code 1 if there is any. Without a
mistake the names that follow from the options are printed, `name=value` a line; with `option:`
before it an option of the recipe that one of ESPnet's gives another value.
"""

import argparse
import sys
from typing import Optional, Sequence

from espnet_kd.errors import UserError, run_main
from espnet_kd.run.espnet_options import judge
from espnet_kd.run.names import names_of, values_to_check
from espnet_kd.run.options import check_values, stages_to_run
from espnet_kd.run.prerequisites import check_needs
from espnet_kd.run.settings import Settings, recipe_options, recipe_parser

WITH_STUDENTS = (16, 17, 22)  # stages that read the plan


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = recipe_parser("check_options", __doc__)
    add = parser.add_argument
    add("--known_stages", type=int, nargs="+", required=True, help="numbers of its stages")
    help_ = "name=value of an option that the recipe has not"
    add("--unknown", action="append", default=[], help=help_)
    add("--cmd_backend", default="local", help="place where jobs run, as in cmd.sh")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Check."""
    args = get_parser().parse_args(cmd)
    options = recipe_options(args)
    given = [word.partition("=") for word in args.unknown]
    verdict = judge([(name, value if sign else None) for name, sign, value in given], options)
    options.update(verdict.taken)
    values = values_to_check(options)
    problems = [*verdict.problems, *check_values(values, args.known_stages)]
    if not problems:
        stages = stages_to_run(values, args.known_stages)
        problems = list(check_needs(values, stages, args.cmd_backend))
        if not problems and set(WITH_STUDENTS).intersection(stages):
            # A mistake in the plan shows now, not after the teacher.
            problems = _plan_problems(Settings.of(options), 16 in stages)
    for problem in dict.fromkeys(problems):
        print(f"{args.program}: error: {' '.join(problem.split())}", file=sys.stderr)
    if not problems:
        if verdict.ignored:
            print(
                f"{args.program}: options that change nothing here: {', '.join(verdict.ignored)}",
                file=sys.stderr,
            )
        for name, value in verdict.taken.items():
            print(f"option:{name}={value}")
        for name, value in names_of(options).items():
            print(f"{name}={value}")
        print(f"untranscribed={str(_needs_no_transcripts(Settings.of(options))).lower()}")
    return 1 if problems else 0


def _needs_no_transcripts(settings: Settings) -> bool:
    """Tell whether teachers write the labels of all trainings."""
    from espnet_kd.run.students import read_students

    if not settings.teacher_exp:
        return False
    try:
        plans = [student.plan for student in read_students(settings)]
        return all(plan.labels == "teacher" and not plan.keep_source for plan in plans)
    except UserError:  # is told where the plan is needed
        return False


def _plan_problems(settings: Settings, compresses: bool) -> "list[str]":
    from espnet_kd.run.label_sets import check_label_sets
    from espnet_kd.run.students import (
        check_checkpoint,
        check_curriculum,
        check_decoding,
        check_training,
        read_students,
        student_at,
    )

    try:
        students = read_students(settings)
        check_label_sets(settings, students)
        if compresses:
            check_checkpoint(settings, students)
            check_decoding(settings, students)
            check_curriculum(settings, students)
            check_training(settings, students)
            student_at(students, settings.compression_stage, settings)
    except UserError as e:
        return [str(e)]
    return []


if __name__ == "__main__":
    main()
