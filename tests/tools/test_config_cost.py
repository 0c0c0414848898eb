"""What a config's updates take: of a tiny one. Figures are never asserted."""

import re
import sys

import pytest
import yaml

from tests.espnet.tiny import tiny_config

STAGES = {"stages": [{"target": 0.7, "objective": "collapsed"}, {"target": 0.5}]}


@pytest.fixture
def run(repo, tmp_path, monkeypatch, capsys):
    """Run the tool in this process."""
    monkeypatch.syspath_prepend(str(repo / "tools"))
    monkeypatch.setenv("ESPNET_KD_SHARED", "missing")
    monkeypatch.chdir(tmp_path)
    import config_cost

    config = tiny_config(batch_type="numel", batch_bins=700000)
    for name in ("token_list", "input_size", "init", "bpemodel", "normalize"):
        del config[name]
    for name, content in (("teacher", config), ("plan", STAGES), ("student", {})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "student.yaml").write_text("{batch_type: numel, batch_bins: 700000}")

    def call(*words):
        always = ["--config", "teacher.yaml", "--vocabulary", "30", "--hours", "10"]
        monkeypatch.setattr(sys, "argv", ["config_cost.py", *always, *words])
        with pytest.raises(SystemExit) as end:
            config_cost.main()
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


def test_a_teacher(run):
    code, out, err = run()
    assert code == 0, err
    assert re.search(r"teacher: [\d.]+ GB at the peak of an update \(measured, cpu\)", out)
    assert re.search(r"[\d.]+ GFLOP a second of audio", out)
    assert "H100: " in out and "estimated at 10% of its peak" in out


def test_a_student_of_a_plan_by_two_shares(run):
    plan = ["--plan", "plan.yaml", "--student_config", "student.yaml", "--stage", "2"]
    code, out, err = run(*plan, "--share", "0.4", "0.8")
    assert code == 0, err
    for name in ("stage2, teacher on-line", "stage2, cached teacher"):
        assert f"{name}, share 0.4 of the batch: " in out
        assert re.search(rf"{name}: .*extrapolated from shares 0.4, 0.8", out)
    code, _, err = run(*plan[:-1], "3")
    assert code and "--stage 3: plan.yaml has stages 1 to 2" in err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--share", "0.4"], "one share of a batch is no line; give two"),
        (["--share", "0.4", "0.41"], "--share 0.4 0.41: both are "),
        (["--override", "batch_bins"], "--override 'batch_bins': write KEY=VALUE"),
        (["--override", "optim_conf={lr"], "--override 'optim_conf={lr': not valid YAML"),
        (["--config", "gone.yaml"], "--config gone.yaml: no such file; name the teacher's config"),
        (["--corpus", "gone"], "--corpus gone: no <speaker>/<chapter>/*.trans.txt there"),
    ],
)
def test_a_mistake_is_one_line(words, message, run):
    code, out, err = run(*words)
    assert code == 1 and out == ""
    assert message in err and err.count("\n") == 1
