"""The local job runner: called like Kaldi's run.pl."""

import os
import subprocess
import sys
import time

import pytest
from shell_recipe import INTERRUPT, TERMINATE, ends

from tests.patience import PATIENCE

RUN = [sys.executable, "-m", "espnet_kd.bin.run_local"]


def run(folder, *words):
    return subprocess.run(
        [*RUN, *words], cwd=folder, capture_output=True, text=True, timeout=PATIENCE
    )


def test_log_has_command_date_output_and_code(tmp_path):
    words = ["printf", "%s|", "a b", "$HOME", "*", "x;y", "", "'q'"]
    done = run(tmp_path, "--gpu", "0", "--mem", "4G", "--num-threads", "2", "logs/l.log", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = (tmp_path / "logs/l.log").read_text().splitlines()
    assert lines[0].startswith("# printf ") and lines[1].startswith("# Started at ")
    assert "a b|$HOME|*|x;y||'q'|# Ended (code 0) at" in lines[-1]


def test_array(tmp_path):
    done = run(tmp_path, "JOB=2:4", "--mem", "1G", "d.JOB/l.JOB.log", "echo", "number", "JOB-JOB")
    assert done.returncode == 0
    assert "number 3-3" in (tmp_path / "d.3/l.3.log").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.2", "d.3", "d.4"]


def test_max_jobs_run(tmp_path):
    # However slowly they begin: the first waits for a second one.
    count = "n=$(ls run.* | wc -l); echo $n"
    wait = f"until [ -e both ]; do {count}; [ $n -lt 2 ] || touch both; sleep 0.05; done"
    script = f"echo > run.JOB; {wait}; sleep 0.3; {count}; rm run.JOB"
    done = run(tmp_path, "--max-jobs-run", "2", "JOB=1:5", "l.JOB.log", "bash", "-c", script)
    assert done.returncode == 0
    logs = [(tmp_path / f"l.{job}.log").read_text().splitlines() for job in range(1, 6)]
    assert max(int(line) for log in logs for line in log if line.isdigit()) == 2


def test_progress_lines_reach_the_terminal(tmp_path):
    script = "printf '[prog'; sleep 0.3; echo 'ress] 1/2'; echo other; echo '[progress] 2/2' >&2"
    done = run(tmp_path, "l.log", "bash", "-c", script)
    assert done.stderr == "[progress] 1/2\n[progress] 2/2\n"
    done = run(tmp_path, "JOB=1:2", "l.JOB.log", "echo", "[progress] JOB/2")
    assert sorted(done.stderr.splitlines()) == ["[progress] (job 1) 1/2", "[progress] (job 2) 2/2"]


@pytest.mark.parametrize(
    "script, code, reason",
    [
        ("echo a; echo 'train: error: no such file' >&2; echo b; exit 1", 1, "train: error: no"),
        ("echo '  File x'; echo 'torch.CudaError: x'; echo; exit 4", 4, "torch.CudaError: x"),
        ("echo first; echo last; exit 7", 7, "last"),
        ("kill -KILL $$", 137, "killed, as when memory runs out"),
    ],
)
def test_a_failure_is_one_line_with_log_and_reason(tmp_path, script, code, reason):
    done = run(tmp_path, "l.log", "bash", "-c", script)
    assert done.returncode == code
    assert done.stderr.count("run_local: ") == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"run_local: failed (exit code {code}), log: l.log: {reason}")
    if code != 137:
        assert f"# Ended (code {code})" in (tmp_path / "l.log").read_text()


def test_a_failing_job_ends_the_others(tmp_path):
    script = "if [ JOB = 2 ]; then exit 5; fi; echo $$ > pid.JOB; sleep 3000"
    done = run(tmp_path, "JOB=1:3", "l.JOB.log", "bash", "-c", script)  # which waits 300 s at most
    assert done.returncode == 5
    assert "job 2 of 3 failed (exit code 5), log: l.2.log" in done.stderr
    for path in tmp_path.glob("pid.*"):
        assert ends(int(path.read_text() or 0))  # it may have been ended before it wrote


@pytest.mark.parametrize("number, code", [(TERMINATE, 143), (INTERRUPT, 130)])
def test_a_signal_ends_the_jobs_and_their_children(tmp_path, number, code):
    script = "sleep 3000 & echo $! > child.tmp; mv child.tmp child; wait"
    process = subprocess.Popen([*RUN, "l.log", "bash", "-c", script], cwd=tmp_path)
    while not (tmp_path / "child").exists():
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait(timeout=PATIENCE) == code
    assert ends(int((tmp_path / "child").read_text()))


@pytest.mark.parametrize(
    "words, message",
    [
        (["l.log"], "usage:"),
        (["JOB=1:3", "l.log", "true"], "3 jobs would write one log"),
        (["JOB=0:3", "l.JOB.log", "true"], "bad job range 'JOB=0:3'"),
        (["--max-jobs-run", "x", "l.log", "true"], "must be a positive integer, not 'x'"),
        (["--num_nodes", "2", "l.log", "true"], "cannot use 2 machines"),
    ],
)
def test_a_wrong_call(tmp_path, words, message):
    done = run(tmp_path, *words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr
