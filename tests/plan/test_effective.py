"""What gates make of a plan: a table of what was measured and what is to be run."""

import pytest

from espnet_kd.errors import UserError
from espnet_kd.plan.effective import effective
from espnet_kd.plan.student import Student
from espnet_kd.plan.verdict import Round, add_round, decide, read_rounds
from espnet_kd.spec.gate import Gate, read_gate
from espnet_kd.spec.plan import load_plan

PLAN = """
gate: {{margin: 1.0, otherwise: {}}}
stages:
- {{name: a, target: 0.7, epochs: 3}}
- {{name: b, target: 0.5, epochs: 3}}
- {{name: c, target: 0.4, epochs: 3{}}}
"""


def rounds(*pairs):
    """`(epochs, points above the teacher)` -> rounds."""
    return [Round(epochs, 10.0 + above, 10.0, 50) for epochs, above in pairs]


BAD, GOOD = rounds((3, 2.0)), rounds((3, 1.0))
CASES = {
    # otherwise, what was measured -> student<teacher[@last epoch], the chain, stopped
    "nothing measured": ("stop", {}, "a<- b<a c<b", "a b c", False),
    "all good": ("stop", {"a": GOOD, "b": GOOD, "c": GOOD}, "a<- b<a c<b", "a b c", False),
    "stop": ("stop", {"a": GOOD, "b": BAD}, "a<- b<a", "a", True),
    "stop at once": ("stop", {"a": BAD}, "a<-", "", True),
    "continue": ("continue", {"a": BAD}, "a<- b<a c<b", "a b c", False),
    "longer": ("longer", {"a": BAD}, "a<-@5 b<a c<b", "a b c", False),
    "longer, then good": (
        "longer",
        {"a": rounds((3, 2.0), (5, 0.5))},
        "a<-@5 b<a c<b",
        "a b c",
        False,
    ),
    "longer, once more": (
        "longer",
        {"a": rounds((3, 2.0), (5, 1.5))},
        "a<-@7 b<a c<b",
        "a b c",
        False,
    ),
    "longer in vain": (
        "longer",
        {"a": GOOD, "b": rounds((3, 2.0), (5, 1.5), (7, 1.5))},
        "a<- b<a@7",
        "a",
        True,
    ),
    "split": (
        "split",
        {"a": GOOD, "b": BAD},
        "a<- b<a b_half<a b_again<b_half c<b_again",
        "a b_half b_again c",
        False,
    ),
    "split in vain": (
        "split",
        {"b": BAD, "b_half": GOOD, "b_again": BAD},
        "a<- b<a b_half<a b_again<b_half",
        "a b_half",
        True,
    ),
    "split twice": (
        "split",
        {"a": BAD, "b": BAD},
        "a<- a_half<- a_again<a_half b<a_again b_half<a_again b_again<b_half c<b_again",
        "a_half a_again b_half b_again c",
        False,
    ),
}


LONGER = "longer, epochs: 2, at_most: 2"


def load(tmp_path, text):
    path = tmp_path / "compression.yaml"
    path.write_text(text)
    return load_plan(str(path))


@pytest.mark.parametrize("case", CASES)
def test_effective_plan(tmp_path, case):
    otherwise, measured, students, chain, stopped = CASES[case]
    plan = load(tmp_path, PLAN.format(otherwise.replace("longer", LONGER), ""))
    way = effective(plan, lambda name: measured.get(name, []))
    found = [
        f"{s.name}<{s.teacher or '-'}" + (f"@{s.until}" if s.until else "") for s in way.students
    ]
    assert " ".join(found) == students
    assert " ".join(s.name for s in way.chain) == chain
    assert way.stopped is stopped


def test_a_split_keeps_the_sizes_and_the_fingerprints_of_the_others(tmp_path):
    plan = load(tmp_path, PLAN.format("split", ""))
    way = effective(plan, lambda name: BAD if name == "b" else [])
    a, b, half, again, c = way.students
    assert half.half and not again.half
    assert (
        [s.name for s in half.stages_above] == [s.name for s in again.stages_above] == ["a", "b"]
    )
    for student, stage in zip((a, b, c), plan.stages):
        assert (
            student.fingerprint() == Student.of(stage).fingerprint() and not student.stages_above
        )
    assert len({s.fingerprint() for s in way.students}) == 5


def test_a_gate_is_not_what_a_student_is_made_of(tmp_path):
    with_gate = load(tmp_path, PLAN.format("split", ""))
    without = load(tmp_path, PLAN[PLAN.index("stages") :].format(""))
    for a, b in zip(*(map(Student.of, plan.stages) for plan in (with_gate, without))):
        assert a.gate and not b.gate and a.fingerprint() == b.fingerprint()


def test_a_stage_overrules_the_gate_of_the_plan(tmp_path):
    plan = load(tmp_path, PLAN.format(LONGER, ", gate: {margin: 0.5}"))
    assert plan.stages[2].gate == Gate(0.5, "longer", 2, 2)
    assert load(tmp_path, PLAN.format("split", ", gate: false")).stages[2].gate is None


def test_the_margin_itself_passes():
    assert decide(Gate(), [Round(1, 6.1, 5.1, 10)]) == "pass"
    assert decide(Gate(), [Round(1, 6.2, 5.1, 10)]) == "stop"
    assert decide(Gate(margin=-1), [Round(1, 4.5, 5, 10)]) == "stop"  # it must be better


def test_a_repeated_measurement_replaces_itself():
    first, second = rounds((3, 2.0), (5, 1.0))
    assert add_round([first], first) == [first]
    assert add_round([first], second) == [first, second]
    assert add_round([first, second], first) == [first]  # trained anew


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"margn": 1}, r"unknown key 'margn' \(did you mean 'margin'\?\)"),
        ({"otherwise": "spilt"}, r"did you mean 'split'"),
        ({"margin": "much"}, "gate.margin: expected a number"),
        ({"margin": float("nan")}, "gate.margin: expected a number"),
        ({"epochs": 0}, "whole number >= 1"),
        ({"epochs": 2.0}, "whole number >= 1"),
        ({"at_most": float("inf")}, "whole number >= 1"),
        ({"at_most": True}, "whole number >= 1"),
        (3, "expected keys and values, or false"),
    ],
)
def test_refuses(entry, message):
    with pytest.raises(UserError, match=message):
        read_gate("p: gate", entry)


def test_a_damaged_record_is_refused(tmp_path):
    assert read_rounds(tmp_path) == []
    (tmp_path / "gate.json").write_text('{"verdict": "stop", "rounds": [{"epoch": 1}]}')
    with pytest.raises(UserError, match=r"gate.json: rounds\[0\]: no field 'epochs'; remove"):
        read_rounds(tmp_path)


def test_a_student_that_recognises_nothing_passes_no_gate():
    silent = Round(1, 100.0, 100.0, 10, "outputs nothing")
    assert decide(Gate(), [silent]) == "stop"
    assert decide(Gate(otherwise="longer"), [silent]) == "longer"
    assert decide(Gate(otherwise="continue"), [silent]) == "continue"
