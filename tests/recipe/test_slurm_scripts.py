"""What stands between the recipe and Slurm, with stand-ins for its commands.

`tools/try_slurm.sh` runs it all through a real one.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE

SCRIPTS = Path(__file__).resolve().parents[2] / "egs2/TEMPLATE/asr_kd/scripts"
LOG = "exp/train.log"
# Kaldi's, which waits for its job; `squeue` of a job that $ALIVE says is alive; and the others.
COMMANDS = {
    "kaldi_slurm.pl": "echo Submitted batch job 7 >exp/q/train.log; sleep ${WAIT:-0}",
    "squeue": 'echo "squeue $*" >>asked; echo "${ALIVE:-}"',
    "scancel": 'echo "scancel $*" >>asked',
    "sbatch": 'echo "sbatch $*" >>asked; cat >job.sh; echo Submitted batch job 8',
    "scontrol": 'echo "scontrol $*" >>asked',
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "exp/q").mkdir(parents=True)
    for name, body in COMMANDS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("KALDI_SLURM", str(tmp_path / "bin/kaldi_slurm.pl"))
    return tmp_path


def start(*words, **env):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(words), env={**os.environ, **env}, **pipes)


def wait_for(path, text):
    for _ in range(6000):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} lacks {text}")


def slurm(**env):
    return start(SCRIPTS / "slurm.pl", "--name", "x", "--gpu", "0", LOG, "train", **env)


def test_a_run_that_is_stopped_takes_its_job_out_of_the_queue(place):
    run = slurm(WAIT="3000")
    wait_for(place / "exp/q/train.log", "job 7")
    run.send_signal(signal.SIGTERM)
    assert run.wait(300) == 143
    assert "scancel 7" in (place / "asked").read_text()


def test_no_job_begins_beside_that_of_an_earlier_run(place):
    (place / "exp/q/train.log").write_text("Submitted batch job 5\n")
    run = slurm(ALIVE="RUNNING")
    error = run.communicate(timeout=PATIENCE)[1]
    assert run.returncode == 1
    message = f"slurm.pl: error: job 5 of an earlier run still writes to {LOG}; wait for it, or "
    assert error == message + "'scancel 5'\n"
    run = slurm()
    assert run.wait(300) == 0
    assert (place / "exp/q/train.log").read_text() == "Submitted batch job 7\n"


@pytest.mark.parametrize("turn, back", [(0, True), (2, True), (3, False)])
def test_a_job_near_its_limit_goes_back_into_the_queue(place, turn, back):
    until_told = "until [ -e told ]; do sleep 0.1; done"
    (place / "job_of_kaldi.sh").write_text(f"( true\n) >{LOG}\necho works >>{LOG}\n{until_told}\n")
    (place / LOG).write_text("earlier\n")
    words = (SCRIPTS / "sbatch.sh", "-p", "cpu", "-o", "log", "job_of_kaldi.sh")
    run = start(*words, requeue_before="90", requeue_limit="3")
    assert run.communicate(timeout=PATIENCE)[0] == "Submitted batch job 8\n"
    asked = "sbatch --requeue --signal=B:USR1@90 -p cpu -o log\n"
    assert (place / "asked").read_text() == asked
    job = start("bash", "job.sh", SLURM_JOB_ID="8", SLURM_RESTART_COUNT=str(turn))
    wait_for(place / LOG, "works")
    job.send_signal(signal.SIGUSR1)
    wait_for(place / LOG, "near the time limit")
    (place / "told").touch()
    assert job.wait(300) == 0
    assert (place / "asked").read_text() == asked + ("scontrol requeue 8\n" if back else "")
    kept = place / f"exp/train.turn{turn}.log"
    assert kept.exists() == (turn > 0)


def test_a_job_ends_with_the_code_of_its_script(place):
    (place / "job_of_kaldi.sh").write_text(f"( true\n) >{LOG}\nexit 3\n")
    assert start(SCRIPTS / "sbatch.sh", "job_of_kaldi.sh").wait(300) == 0
    assert start("bash", "job.sh", SLURM_JOB_ID="8").wait(300) == 3
