"""May a student become a teacher? What a gate says of measured error rates."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from espnet_kd.common.records import GATE
from espnet_kd.spec.gate import Gate


@dataclasses.dataclass(frozen=True)
class Round:
    """Word error rates that were measured after a training.

    Attributes:
        epochs: Epochs that the student had been trained.
        wer: The student's on the validation set, in percent.
        teacher_wer: Word error rate of its teacher.
        utterances: Size of the validation set.
        fault: Why the student does not recognise speech; None if it does. Such a student passes
            no gate: the difference of two models that say nothing is small.
    """

    epochs: int
    wer: float
    teacher_wer: float
    utterances: int
    fault: Optional[str] = None

    @property
    def difference(self) -> float:
        """Points that the student is above its teacher."""
        return self.wer - self.teacher_wer


def decide(gate: Gate, rounds: Sequence[Round]) -> str:
    """Return `pass`, `longer`, `split`, `stop` or `continue` after some rounds (one at least)."""
    last = rounds[-1]
    within = last.difference <= gate.margin + 1e-9  # 6.1 - 5.1 is more than 1 in binary
    if within and last.fault is None:
        return "pass"
    if gate.otherwise == "longer" and len(rounds) > gate.at_most:
        return "stop"
    return gate.otherwise


def read_rounds(exp: Path) -> List[Round]:
    """Read what `espnet_kd.bin.gate` wrote; no file: nothing was measured.

    Args:
        exp: The student's experiment.

    Raises:
        UserError: the file is damaged.
    """
    result = GATE.read_if_there(exp)
    entries = result.get("rounds", []) if result else []
    return [
        Round(r["epochs"], r["wer"], r["teacher_wer"], r["utterances"], r.get("fault"))
        for r in entries
    ]


def add_round(rounds: Sequence[Round], new: Round) -> List[Round]:
    """Add a measurement; it replaces its own repetition and those of a training made anew."""
    return [old for old in rounds if old.epochs < new.epochs] + [new]


def describe(
    gate: Gate, rounds: Sequence[Round], student: str, teacher: str
) -> Tuple[Dict[str, Any], str]:
    """Return the content of `gate.json`, which the report reads too, and a line for the log."""
    last, verdict = rounds[-1], decide(gate, rounds)
    above = last.fault or f"more than {gate.margin:g} points above"
    sentence = {
        "pass": f"within {gate.margin:g} points of",
        "longer": f"{above}: {gate.epochs} epoch(s) more against",
        "split": f"{above}: a student in between after",
        "stop": f"{above}: the compression stops at",
        "continue": f"{above}, going on after",
    }[verdict]
    record = {
        "student": student,
        "teacher": teacher,
        "verdict": verdict,
        "student_wer": round(last.wer, 4),
        "teacher_wer": round(last.teacher_wer, 4),
        "difference": round(last.difference, 4),
        "utterances": last.utterances,
        **gate.values,
        "rounds": [dataclasses.asdict(measured) for measured in rounds],
    }
    line = (
        f"gate {verdict}: {student} has WER {last.wer:.2f} % on {last.utterances} utterances of "
        f"validation, {sentence} {teacher} ({last.teacher_wer:.2f} %)"
    )
    return record, line
