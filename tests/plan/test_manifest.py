"""What a student was made from, written down and checked."""

import json

import pytest

from espnet_kd.bin import gate, manifest
from espnet_kd.common.records import MANIFEST
from espnet_kd.errors import UserError
from espnet_kd.plan.manifest import differences
from espnet_kd.run.step import finish

COUNTS = "utt\tref_words\tC\tS\tD\tI\nu\t10\t{}\t{}\t0\t0\n"


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A finished student; the words that the recipe calls the command lines with."""
    monkeypatch.chdir(tmp_path)
    files = {"plan.yaml": "gate: {}\nstages: [{target: 0.5, name: small}]"}
    for exp in ("teacher", "kd_small"):
        files |= {f"exp/{exp}/{name}": f"{exp} {name}" for name in ("config.yaml", "m.pth")}
        errors = 1 if exp == "teacher" else 2
        for dev in "dev", "org/dev":
            files[f"exp/{exp}/dec/{dev}/score_wer/counts.tsv"] = COUNTS.format(10 - errors, errors)
    files["exp/kd_small/init.pth"] = "first weights"
    files["exp/kd_small/facts.json"] = '{"epochs": 4}'
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    finish("exp/kd_small", "train", ["kind:train", "seed=3", "table:plan.yaml", "out:m.pth"])
    common = "--plan plan.yaml --students exp/kd --student small --teacher_exp exp/teacher"
    return common.split()


def run(module, *words):
    """Return the exit code."""
    with pytest.raises(SystemExit) as exit_:
        module.main(list(words))
    return exit_.value.code


def test_gate_and_manifest(words, tmp_path, capsys):
    assert run(gate, *words, "--scores", "dec/dev") == 0
    assert capsys.readouterr().out == (
        "gate stop: small has WER 20.00 % on 1 utterances of validation, more than 1 points "
        "above: the compression stops at the first teacher (10.00 %)\n"
    )
    done = run(manifest, *words, "--model", "m.pth")
    assert done == 0
    said = MANIFEST.read(tmp_path / "exp/kd_small")
    assert said["wer"] == {"dec/dev": 20.0, "dec/org/dev": 20.0}
    assert said["gate"]["verdict"] == "stop"
    assert (said["gate"]["student_wer"], said["gate"]["teacher_wer"]) == (20.0, 10.0)
    training = said["training"]
    assert training["options"] == {"seed": "3"} and list(training["inputs"]) == ["plan.yaml"]
    assert said["stage"]["target"] == 0.5 and said["stage"]["gate"]["margin"] == 1.0
    assert set(said["versions"]) >= {"espnet_kd", "espnet", "torch", "python", "git_commit"}
    assert run(manifest, *words, "--model", "m.pth") == 0
    again = json.loads((tmp_path / "exp/kd_small/manifest.json").read_text())
    assert {**again, "date": 0} == {**said, "date": 0}


def test_check_names_what_differs(words, tmp_path, capsys):
    assert run(manifest, *words, "--model", "m.pth") == 0
    assert run(manifest, "--check", "exp/kd_small") == 0
    (tmp_path / "exp/teacher/m.pth").write_text("another")
    (tmp_path / "exp/kd_small/init.pth").unlink()
    assert run(manifest, "--check", "exp/kd_small") == 1
    said = capsys.readouterr()
    assert "teacher_model: exp/teacher/m.pth has changed" in said.out
    assert "init: exp/kd_small/init.pth is not there" in said.out
    assert "2 of its files differ from manifest.json" in said.err
    assert len(differences(MANIFEST.read(tmp_path / "exp/kd_small"))) == 2


def test_mistakes(words, tmp_path, capsys):
    with pytest.raises(UserError, match="no such file; run stage 16 again"):
        MANIFEST.read(tmp_path)
    assert run(manifest, *words) == 1  # no such checkpoint
    assert "of a finished student" in capsys.readouterr().err
    assert run(gate, *words, "--scores", "other/dev") == 1
    assert "score this model first" in capsys.readouterr().err
    (tmp_path / "exp/kd_small/facts.json").unlink()
    assert run(gate, *words, "--scores", "dec/dev") == 1
    assert "how many epochs" in capsys.readouterr().err
    words[words.index("small")] = "smal"
    assert run(gate, *words, "--scores", "dec/dev") == 1
    assert "no student 'smal' (did you mean 'small'?)" in capsys.readouterr().err
