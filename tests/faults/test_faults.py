"""The short form of the harness; `make test-faults` is the long one."""

import os
import signal
import subprocess

import pytest

from tests.faults import damage
from tests.faults.forking import environment, shared_python
from tests.faults.kills import killed_case
from tests.faults.snapshots import Context
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python():
    return shared_python()


@pytest.fixture(scope="module")
def context(python, tmp_path_factory):
    from tests.faults.family import REPO

    return Context(tmp_path_factory.mktemp("faults"), python, REPO).make_reference(short=True)


def run(python, code, *words, **options):
    options = {"env": environment(), "capture_output": True, "text": True, **options}
    return subprocess.run([python, "-c", code, *words], **options)


def test_the_preloaded_python_is_one_to_its_caller(python, tmp_path):
    code = "import os, sys; print(sys.argv, os.getcwd(), os.environ['X']); sys.exit(7)"
    done = run(python, code, "a b", cwd=tmp_path, env={**environment(), "X": "y"})
    assert done.stdout == f"['-c', 'a b'] {tmp_path} y\n" and done.returncode == 7
    assert run(python, "import torch; torch.zeros(2)[3]").returncode == 1
    assert run(python, "import os; os.kill(os.getpid(), 9)").returncode == -9
    reader, writer = os.pipe()
    run(python, f"import os; os.write({writer}, b'mine')", pass_fds=[writer])
    assert os.read(reader, 9) == b"mine"


def test_a_killed_client_disturbs_no_other(python):
    words = [python, "-c", "import time; time.sleep(60)"]
    clients = [subprocess.Popen(words, env=environment()) for _ in range(4)]
    for client in clients:
        client.kill()
        assert run(python, "print(1)").stdout == "1\n"
        client.wait()


@pytest.mark.parametrize("victim", ["client", "process"])
def test_who_kills_one_of_the_two_kills_both(python, victim):
    code = "import os, time; print(os.getpid(), os.getpgrp(), flush=True); time.sleep(60)"
    client = subprocess.Popen(
        [python, "-c", code], env=environment(), stdout=subprocess.PIPE, preexec_fn=os.setpgrp
    )
    pid, group = map(int, client.stdout.readline().split())
    assert group == client.pid
    os.kill(pid if victim == "process" else client.pid, signal.SIGKILL)
    assert client.wait(timeout=PATIENCE) == -signal.SIGKILL
    assert client.stdout.read() == b""  # the process has ended, too


def test_a_run_that_is_killed_again_and_again_comes_to_the_same(context):
    family = context.copy("fresh", "kills")
    record = killed_case(family, context, 3, ["all", "child", "INT"])
    assert record["verdict"] == "same end", record


@pytest.mark.parametrize(
    "name",
    [
        "averaged model of the teacher: flip (done)",
        "converted audio (dump/raw): other_sound (done)",
        "hypotheses: edit (done)",
        "shape files: cut_lines (done)",
    ],
)
def test_no_damage_is_taken_in_silence(context, name):
    case = next(case for case in damage.cases() if case.name == name)
    record = damage.damaged_case(context.copy("done", "damage"), context, case, 1)
    assert record["verdict"] in ("redone", "refused"), record
    assert record.get("after repair", "same end") == "same end", record
