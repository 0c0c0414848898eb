"""What a student was made from, written down and checked; and who may be a teacher."""

import json
from pathlib import Path

import pytest

from espnet_kd.bin import manifest
from espnet_kd.common.records import MANIFEST
from espnet_kd.errors import UserError
from espnet_kd.plan.manifest import differences, write_manifest
from espnet_kd.plan.student import Student
from espnet_kd.run.judgement import judge
from espnet_kd.run.step import finish
from espnet_kd.spec.plan import load_plan

COUNTS = "utt\tref_words\tC\tS\tD\tI\nu\t10\t{}\t{}\t0\t0\n"
STUDENT, TEACHER = Path("exp/kd_small"), Path("exp/teacher")


@pytest.fixture(autouse=True)
def student(tmp_path, monkeypatch):
    """What the plan says of a student, which is finished."""
    monkeypatch.chdir(tmp_path)
    files = {"plan.yaml": "gate: {}\nstages: [{target: 0.5, name: small}]"}
    for exp in (TEACHER, STUDENT):
        files |= {f"{exp}/{name}": f"{exp} {name}" for name in ("config.yaml", "m.pth")}
        errors = 1 if exp == TEACHER else 2
        for dev in "dev", "org/dev":
            files[f"{exp}/dec/{dev}/score_wer/counts.tsv"] = COUNTS.format(10 - errors, errors)
    files[f"{STUDENT}/init.pth"] = "first weights"
    files[f"{STUDENT}/facts.json"] = '{"epochs": 4}'
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    finish(str(STUDENT), "train", ["kind:train", "seed=3", "table:plan.yaml", "out:m.pth"])
    return Student.of(load_plan("plan.yaml").stages[0])


def write(student, model="m.pth"):
    write_manifest(STUDENT, student, Path("plan.yaml"), TEACHER, model)


def check():
    """Return the exit code of the check."""
    with pytest.raises(SystemExit) as exit_:
        manifest.main(["--check", str(STUDENT)])
    return exit_.value.code


def test_gate_and_manifest(student):
    assert judge(student, STUDENT, TEACHER, "dec/dev") == (
        "gate stop: small has WER 20.00 % on 1 utterances of validation, more than 1 points "
        "above: the compression stops at the first teacher (10.00 %)"
    )
    write(student)
    said = MANIFEST.read(STUDENT)
    assert said["wer"] == {"dec/dev": 20.0, "dec/org/dev": 20.0}
    assert said["gate"]["verdict"] == "stop"
    assert (said["gate"]["student_wer"], said["gate"]["teacher_wer"]) == (20.0, 10.0)
    training = said["training"]
    assert training["options"] == {"seed": "3"} and list(training["inputs"]) == ["plan.yaml"]
    assert said["stage"]["target"] == 0.5 and said["stage"]["gate"]["margin"] == 1.0
    assert set(said["versions"]) >= {"espnet_kd", "espnet", "torch", "python", "git_commit"}
    write(student)
    again = json.loads((STUDENT / "manifest.json").read_text())
    assert {**again, "date": 0} == {**said, "date": 0}
    assert said["stock"] == "as trained"
    (STUDENT / "student.json").write_text('{"sizes": {"decoder": "averaged"}}')
    write(student)
    assert MANIFEST.read(STUDENT)["stock"].startswith("none: its predictor, `averaged`, is")


def test_check_names_what_differs(student, capsys):
    write(student)
    assert check() == 0
    (TEACHER / "m.pth").write_text("another")
    (STUDENT / "init.pth").unlink()
    assert check() == 1
    said = capsys.readouterr()
    assert "teacher_model: exp/teacher/m.pth has changed" in said.out
    assert "init: exp/kd_small/init.pth is not there" in said.out
    assert "2 of its files differ from manifest.json" in said.err
    assert len(differences(MANIFEST.read(STUDENT))) == 2


def test_mistakes(student):
    with pytest.raises(UserError, match="no such file; run stage 16 again"):
        MANIFEST.read(STUDENT)
    with pytest.raises(UserError, match="of a finished student"):
        write(student, "other.pth")
    with pytest.raises(UserError, match="score this model first"):
        judge(student, STUDENT, TEACHER, "other/dev")
    (STUDENT / "facts.json").unlink()
    with pytest.raises(UserError, match="how many epochs"):
        judge(student, STUDENT, TEACHER, "dec/dev")
