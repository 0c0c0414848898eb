"""What runs on a lent GPU: results outlive a cut, wrong pieces are seen, epochs fit the time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from espnet_kd.espnet.batches import stated
from tests.recipe.shell_recipe import ends
from tools.gpu import report
from tools.gpu.checks import Check, checks, main, run_check
from tools.gpu.result_rows import Results


@pytest.fixture
def sizing(repo, monkeypatch):
    monkeypatch.syspath_prepend(str(repo / "tools"))
    from tools.gpu import sizing

    return sizing


def test_a_line_that_was_cut_is_dropped_and_swallows_no_other(tmp_path):
    file = tmp_path / "new/results.jsonl"
    Results(file, "cuda").add("checks", "walk", [{"error": 0.5}])
    with open(file, "a") as f:
        f.write('{"part": "tables", "name": "recur')
    results = Results(file, "cuda")
    assert results.has("checks", "walk") and not results.has("tables", "recursion")
    results.add("tables", "recursion", [{"B": 1}, {"B": 4}])
    assert [row["B"] for row in Results(file, "cuda").of("tables", "recursion")] == [1, 4]
    # A rehearsal on a CPU does not count on the GPU.
    assert not Results(file, "cpu").has("checks", "walk")


def test_wrong_numbers_and_failures_are_told_apart_from_right_ones():
    def slightly_wrong(device, dtype):
        return [torch.ones(3, dtype=dtype) + (0.01 if dtype == torch.float32 else 0)]

    def not_finite(device, dtype):
        return [torch.tensor([1.0, float("nan")])]

    def broken(device, dtype):
        raise ValueError("no\nsuch thing")

    assert "differs by 1.0e-02" in run_check("x", Check(slightly_wrong, 1e-3), "cpu")["problem"]
    assert run_check("x", Check(slightly_wrong, 0.1), "cpu")["problem"] == ""
    assert "inf" in run_check("x", Check(not_finite), "cpu")["problem"]
    assert run_check("x", Check(broken), "cpu")["problem"] == "ValueError: no such thing"


CRASHES = """
import ctypes, os, signal, sys, time
from tools.gpu import checks
how = {"crash": lambda: ctypes.string_at(0), "exit": lambda: os._exit(1), "hang": lambda:
       (signal.alarm(1), time.sleep(60))}[sys.argv.pop(1)]
wrong = checks.Check(lambda device, dtype: how())
right = checks.Check(lambda device, dtype: [checks.torch.ones(1)])
checks.checks = lambda: {"wrong": wrong, "right": right}
checks.main(sys.argv[1:])
"""


@pytest.mark.parametrize("how", ["crash", "exit", "hang"])
def test_a_piece_that_ends_the_process_is_given_up_after_three_tries(repo, tmp_path, how):
    file = tmp_path / "results.jsonl"
    command = [sys.executable, "-c", CRASHES, how, "--device", "cpu", "--results", str(file)]
    calls = [subprocess.run(command, cwd=repo, capture_output=True, text=True) for _ in range(4)]
    assert [bool(call.stdout) for call in calls] == [False, False, False, True], calls
    assert calls[3].returncode == 1
    wrong, right = Results(file, "cpu").of("checks")
    assert "begun 3 times and never ended" in wrong["problem"] and right["problem"] == ""
    assert "begun 3 times" in report.page(Results(file, "cpu"), tmp_path, "again")


@pytest.mark.parametrize("only, code", [("band", 1), ("recursion", 0)])
def test_what_was_wrong_in_an_earlier_call_stays_wrong(tmp_path, monkeypatch, only, code):
    file = tmp_path / "results.jsonl"
    for name in checks():
        problem = "differs by 1.0e-02" if "band" in name else ""
        Results(file, "cpu").add("checks", name, [{"problem": problem}])
    monkeypatch.setattr(sys, "argv", ["checks"])
    with pytest.raises(SystemExit) as end:
        main(["--device", "cpu", "--results", str(file), "--only", only])
    assert end.value.code == code


def test_pieces_of_the_loss_are_right_in_float32():
    pieces = checks()
    assert sum(name.startswith("objective") for name in pieces) == 12
    for name in ("walk", "cache", "recursion, diagonal", "bfloat16 autocast"):
        assert run_check(name, pieces[name], "cpu")["problem"] == "", name


def test_epochs_are_scaled_alike_and_kept_in_the_plan(sizing):
    works = [sizing.Work(n, e, 100, 0.6) for n, e in (("teacher", 40), ("stage1", 12))]
    works += [works[1]._replace(name=name) for name in ("stage2", "stage3")]
    works += [works[1]._replace(name=name, epochs=36) for name in ("one_shot", "scratch")]
    assert works[0].minutes(40) == pytest.approx(sizing.OVERHEAD * 40)
    assert sizing.scaled(works, 1e6) == {
        "teacher": 40, "stage1": 12, "stage2": 12, "stage3": 12, "one_shot": 36, "scratch": 36
    }  # fmt: skip
    half = sizing.scaled(works, sum(w.minutes(w.epochs) for w in works) / 2)
    assert half["teacher"] == 20 and half["stage2"] == 6 and half["one_shot"] == 18
    least = sizing.scaled(works, 0.01)
    assert min(least.values()) == 1 and least["scratch"] == 3
    # No epoch of the stages or of the teacher fits into what is left over.
    some = sizing.scaled(works, 20)
    used = [sum(w.minutes(some[w.name] + more.get(w.name, 0)) for w in works) for more in (
        {}, {"teacher": 1}, {"stage1": 1, "stage2": 1, "stage3": 1, "one_shot": 3, "scratch": 3}
    )]  # fmt: skip
    assert used[0] <= 20 < min(used[1:])
    plan = yaml.safe_load(sizing.plan_of(half))
    assert [stage["epochs"] for stage in plan["stages"]] == [6, 6, 6]
    assert plan["stages"][2]["target"] == 0.37


def test_kernels_on_paper_are_as_many_for_long_utterances(sizing, monkeypatch):
    # Kernels of the recursion went with T + U once; the operations still go with the audio.
    for flops in (0, 1e9):
        cost = sizing.config_cost.Cost(0, flops, 0.0)
        monkeypatch.setattr(sizing, "in_child", lambda work, cost=cost: cost)
        training = sizing.Training({})
        short, long = (
            sizing.on_paper(training, stated(seconds, labels, 8, {}))
            for seconds, labels in ((2, 10), (16, 300))
        )
        computing = flops * 8 * (16 - 2) / (sizing.PEAK * sizing.UTILISATION)
        assert long - short == pytest.approx(computing) and short > 0.1


def test_a_case_that_takes_too_long_is_ended_with_what_it_has_forked(repo, tmp_path, monkeypatch):
    from tools.gpu import timing_cases

    program = tmp_path / "slow.py"
    program.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '3000'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "open(sys.argv[sys.argv.index('--json') + 1], 'w').write('[{\"B\": 1}]')\n"
        "time.sleep(3000)\n"
    )
    monkeypatch.setattr(timing_cases, "TOOLS", tmp_path)
    args = type("Args", (), {"device": "cpu"})
    for seconds in (3, 60):  # the second where a busy machine has not begun it by then
        rows = timing_cases.run(timing_cases.Case("slow", "slow.py", "", ""), args, seconds)
        if "B" in rows[0]:
            break
    assert rows[0]["B"] == 1  # what it had written
    assert ends(int((tmp_path / "child").read_text()))


def gpu_minutes(repo, tmp_path, *words, **environment):
    command = [repo / "tools/gpu_minutes.sh", "--out", tmp_path / "out", *words]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), **environment},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["--minutes", "x"], "--minutes must be a number, not 'x'"),
        (["--device", "tpu"], "--device must be cuda or cpu, not 'tpu'"),
        (["--parts", "checks tea"], "--parts knows checks, tables and training, not 'tea'"),
        (["--nonsense"], "unknown option --nonsense"),
    ],
)
def test_a_mistake_costs_no_minute(repo, tmp_path, words, message):
    code, said = gpu_minutes(repo, tmp_path, *words)
    assert code == 1 and message in said and len(said.splitlines()) == 1


def test_training_waits_for_the_corpus_and_goes_on_from_what_came_back(repo, tmp_path):
    carry = tmp_path / "carry"
    (carry / "back").mkdir(parents=True)
    row = {"part": "checks", "name": "walk", "device": "cpu", "error": 1e-7, "tolerance": 1e-4}
    row.update(problem="", seconds=1)
    (carry / "back/results.jsonl").write_text(json.dumps(row) + "\n")
    (carry / "corpus").mkdir()
    (carry / "corpus/000").write_text("half a tar")
    (carry / "corpus/checksums").write_text("0 *000\n0 *001\n")
    words = ["--device", "cpu", "--minutes", 2, "--carry", carry, "--parts", "training"]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    code, said = gpu_minutes(repo, tmp_path, *words, PATH=path)
    assert code == 75, said
    assert "of the corpus came ./000" in said
    report = (tmp_path / "out/report.md").read_text()
    assert "1 of 1 pieces are right" in report and "| walk | 1e-07 | 1e-04 |" in report


def stub_python(folder, *cases):
    """Put a python3 into a folder that does what is said for words of its command line."""
    folder.mkdir()
    file = folder / "python3"
    file.write_text("#!/bin/sh\ncase $* in\n" + "".join(f"{x} ;;\n" for x in cases) + "esac\n")
    file.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_a_call_that_is_cut_while_it_installs_brings_back_what_others_have_brought(repo, tmp_path):
    carry = tmp_path / "carry"
    for file in ("back/results.jsonl", "wheels/a.whl"):
        (carry / file).parent.mkdir(parents=True)
        (carry / file).write_text("{}\n")
    cut = "*pip*) kill -TERM $PPID; exit 1"
    path = stub_python(tmp_path / "bin", "*espnet2*) exit 1", cut)
    code, said = gpu_minutes(repo, tmp_path, "--carry", carry, PATH=path)
    assert code == 75, said
    assert (tmp_path / "out/results.jsonl").read_text() == "{}\n"


def test_checks_that_have_not_all_been_made_are_not_all_that_was_asked(repo, tmp_path):
    path = stub_python(tmp_path / "bin", "*checks.py*) echo checking; exit 75")
    words = ["--device", "cpu", "--parts", "checks", "--carry", tmp_path]
    code, said = gpu_minutes(repo, tmp_path, *words, "--minutes", 1, PATH=path)
    assert code == 75 and "checking" in said and "unfinished" in said, said
    # Without a second left nothing is begun: for `timeout` 0 is no limit.
    code, said = gpu_minutes(repo, tmp_path, *words, "--minutes", 0.001, PATH=path)
    assert code == 75 and "checking" not in said and "unfinished" in said, said
