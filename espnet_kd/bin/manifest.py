r"""Write down what a student was made from, manifest.json; or check it against the files.

    python -m espnet_kd.bin.manifest --plan conf/compression.yaml --students exp/kd \
        --student stage1 --teacher_exp exp/asr_teacher
    python -m espnet_kd.bin.manifest --check exp/kd_stage1
"""

import argparse
import sys
from pathlib import Path

from espnet_kd.cli import HelpFormatter
from espnet_kd.common.records import MANIFEST
from espnet_kd.errors import UserError, run_main
from espnet_kd.plan.manifest import differences, write_manifest
from espnet_kd.plan.selection import add_plan_options, student_of


def get_parser(check: bool) -> argparse.ArgumentParser:
    """Build the parser; what is required depends on `check`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    model = "valid.loss_transducer.ave.pth"
    parser.add_argument("--check", metavar="DIR", help="verify the manifest of this experiment")
    if not check:
        add_plan_options(parser)
        parser.add_argument("--student", required=True, help="its name")
        parser.add_argument("--teacher_exp", required=True, help="experiment of its teacher")
        parser.add_argument("--model", default=model, help="checkpoint of both")
    return parser


@run_main
def main(cmd=None) -> int:
    """Write or check."""
    words = sys.argv[1:] if cmd is None else cmd
    check = any(word.split("=")[0] == "--check" for word in words)
    args = get_parser(check).parse_args(words)
    if check:
        found = differences(MANIFEST.read(Path(args.check)))
        for line in found:
            print(line)
        if found:
            raise UserError(f"{args.check}: {len(found)} of its files differ from manifest.json")
        print(f"{args.check}: all files are those of manifest.json")
        return 0
    if not args.students:
        raise UserError("--students is required: where the student is, <this>_<name>")
    student = student_of(args, args.student)
    exp = Path(f"{args.students}_{student.name}")
    teacher = Path(args.teacher_exp)
    write_manifest(exp, student, Path(args.plan), teacher, args.model)
    return 0


if __name__ == "__main__":
    main()
