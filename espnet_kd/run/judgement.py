"""Judge by scores on the validation set whether a student may be the next one's teacher."""

from pathlib import Path

from espnet_kd.common.records import FACTS, GATE
from espnet_kd.errors import UserError
from espnet_kd.plan.student import Student
from espnet_kd.plan.verdict import Round, add_round, describe, read_rounds
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.scoring.faults import fault


def judge(student: Student, exp: Path, teacher: Path, scores: str) -> str:
    """Compare the WER of a student and its teacher, and write the student's gate.json.

    The verdict is a function of the plan and of what gate.json has recorded: pass, longer (train
    it on), split (insert a student), stop, continue.

    Args:
        student: The student, which has a gate.
        exp: Experiment of the student.
        teacher: Experiment of its teacher.
        scores: `<inference tag>/<validation set>`, which both have decoded and scored.

    Returns:
        A line that says the verdict.

    Raises:
        UserError: scores are missing or of another set.
    """
    assert student.gate is not None  # or there is nothing to judge by
    counts, of_teacher = counts_of(exp / scores), counts_of(teacher / scores)
    if counts.sentences != of_teacher.sentences:
        raise UserError(
            f"{exp / scores}: {counts.sentences} utterances, but {of_teacher.sentences} of the "
            "teacher; score both again"
        )
    rates = (counts.error_rate, of_teacher.error_rate)
    new = Round(_epochs(exp), *rates, counts.sentences, fault(counts))
    rounds = add_round(read_rounds(exp), new)
    teacher_name = student.teacher or "the first teacher"
    record, line = describe(student.gate, rounds, student.name, teacher_name)
    GATE.write(exp, record)
    return line


def counts_of(scores: Path) -> Counts:
    """Read the counts of a set."""
    return Counts.total(read_counts(scores / "score_wer" / "counts.tsv").values())


def _epochs(exp: Path) -> int:
    facts = FACTS.read_if_there(exp) or {}
    if "epochs" not in facts:
        raise UserError(f"{exp}/{FACTS.file}: does not say how many epochs were trained")
    return facts["epochs"]
