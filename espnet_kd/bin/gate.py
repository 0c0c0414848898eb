r"""Decide whether a student may be the next one's teacher, and write its gate.json.

    python -m espnet_kd.bin.gate --plan conf/compression.yaml --students exp/kd \
        --student stage1 --teacher_exp exp/asr_teacher --scores decode/dev

Compares the WER of student and teacher on the validation set, which must be decoded and
scored. The verdict is a function of the plan and of what gate.json has recorded: pass,
longer (train it on), split (insert a student), stop, continue. One line says which.
"""

import argparse
from pathlib import Path

from espnet_kd.cli import HelpFormatter
from espnet_kd.common.records import FACTS, GATE
from espnet_kd.errors import UserError, run_main
from espnet_kd.plan.selection import add_plan_options, student_of
from espnet_kd.plan.verdict import Round, add_round, describe, read_rounds
from espnet_kd.scoring import faults
from espnet_kd.scoring.counts import Counts, read_counts


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_plan_options(parser)
    parser.add_argument("--student", required=True, help="its name")
    parser.add_argument("--teacher_exp", required=True, help="experiment of its teacher")
    parser.add_argument("--scores", required=True, help="<inference tag>/<validation set>")
    return parser


@run_main
def main(cmd=None) -> None:
    """Decide."""
    args = get_parser().parse_args(cmd)
    if not args.students:
        raise UserError("--students is required: where the student is, <this>_<name>")
    student = student_of(args, args.student)
    if student.gate is None:
        raise UserError(f"{student.where}: '{student.name}' has no gate")
    exp = Path(f"{args.students}_{student.name}")
    own, teachers = _counts(exp / args.scores), _counts(Path(args.teacher_exp) / args.scores)
    if own.sentences != teachers.sentences:
        raise UserError(
            f"{exp / args.scores}: {own.sentences} utterances, but {teachers.sentences} of the "
            "teacher; score both again"
        )
    new = Round(
        _epochs(exp), own.error_rate, teachers.error_rate, own.sentences, faults.fault(own)
    )
    rounds = add_round(read_rounds(exp), new)
    record, line = describe(
        student.gate, rounds, student.name, student.teacher or "the first teacher"
    )
    GATE.write(exp, record)
    print(line)


def _counts(scores: Path) -> Counts:
    """Read the counts of a set."""
    return Counts.total(read_counts(scores / "score_wer" / "counts.tsv").values())


def _epochs(exp: Path) -> int:
    facts = FACTS.read_if_there(exp) or {}
    if "epochs" not in facts:
        raise UserError(f"{exp}/{FACTS.file}: does not say how many epochs were trained")
    return facts["epochs"]


if __name__ == "__main__":
    main()
