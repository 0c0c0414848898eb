"""Folders that one run holds at a time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_kd.errors import UserError
from espnet_kd.run import lock
from espnet_kd.run.lock import FILE, VARIABLE, Run, hold


@pytest.fixture
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def record(folder, run, **changes):
    folder.mkdir(exist_ok=True)
    values = {**run._asdict(), **changes}
    (folder / FILE).write_text(json.dumps(values))


def me(token, pid=None):
    return Run.of(pid or os.getpid(), token, "./run.sh")


def test_the_second_run_is_told_who_holds_the_folder(tmp_path):
    hold([tmp_path / "exp"], me("1-a"))
    with pytest.raises(UserError) as e:
        hold([tmp_path / "data", tmp_path / "exp"], me("2-b"))
    first = me("1-a")
    assert f"pid {os.getpid()} on {first.host}, {first.user}, since 20" in str(e.value)
    assert str(e.value).startswith(f"{tmp_path}/exp is in use by another run (")
    # Nothing is kept of a try that was refused.
    assert not (tmp_path / "data" / FILE).exists()


def test_a_dead_run_holds_nothing(tmp_path, ended):
    record(tmp_path, me("1-a", ended))
    hold([tmp_path], me("2-b"))
    assert json.loads((tmp_path / FILE).read_text())["token"] == "2-b"


def test_another_process_with_the_number_of_a_dead_run_does_not_count(tmp_path):
    record(tmp_path, me("1-a"), started=me("1-a").started - 1)
    hold([tmp_path], me("2-b"))


def test_a_living_child_of_a_dead_run_is_named(tmp_path, ended):
    record(tmp_path, me("1-a", ended))
    # A run within the run counts, too; a run whose name only begins alike does not.
    children = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, VARIABLE: token})
        for token in ("1-a/7-x", "1-ab")
    ]
    try:
        while not lock._processes_of("1-ab"):
            time.sleep(0.01)
        with pytest.raises(UserError) as e:
            hold([tmp_path], me("2-b"))
        pid = children[0].pid
        assert f"its process {pid} (sleep 60) goes on; wait, or end " in str(e.value)
        assert str(e.value).endswith(f" kill {pid}")
        assert str(children[1].pid) not in str(e.value)
        children[0].kill()
        hold([tmp_path], me("2-b"), wait=5)  # it is not yet waited for: a zombie counts as dead
    finally:
        for child in children:
            child.kill()
            child.wait()


@pytest.mark.parametrize(
    "changes, free",
    [
        ({"boot": "b", "host": "h", "machine": "m"}, False),  # another machine
        ({"boot": "b"}, True),  # this one, started again since
        ({"boot": "b", "machine": ""}, False),  # who knows which
        ({"namespace": "pid:[1]"}, False),  # another container of this machine
    ],
)
def test_what_cannot_be_seen_from_here_is_not_taken_for_dead(tmp_path, ended, changes, free):
    if not me("x").machine:
        pytest.skip("this machine has no identity")
    record(tmp_path, me("1-a", ended), **changes)
    if free:
        hold([tmp_path], me("2-b"))
        return
    with pytest.raises(UserError, match=f"if that run has ended, remove .*{FILE}"):
        hold([tmp_path], me("2-b"))


def test_a_run_within_a_run_shares_its_folders(tmp_path):
    hold([tmp_path], me("1-a"))
    hold([tmp_path], me("1-a/2-b"))
    assert json.loads((tmp_path / FILE).read_text())["token"] == "1-a"
    with pytest.raises(UserError):
        hold([tmp_path], me("1-ab"))


def test_one_folder_under_two_names_is_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    hold([tmp_path, tmp_path / "link"], me("1-a"))
    with pytest.raises(UserError):
        hold([tmp_path / "link"], me("2-b"))


@pytest.mark.parametrize("text", ["", "[1]", "{}", "[" * 5000, "nul\0"])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match="not the record of a run; remove it if no run uses"):
        hold([tmp_path], me("2-b"))


def test_a_record_of_other_types_is_damaged(tmp_path):
    record(tmp_path, me("1-a"), pid="1")
    with pytest.raises(UserError, match="not the record of a run"):
        hold([tmp_path], me("2-b"))


RACE = """
import os, sys, time
from pathlib import Path
from espnet_kd.errors import UserError
from espnet_kd.run import lock
if sys.argv[2] == "plain":  # a file system without locks and hard links
    lock.fcntl.flock = lock.os.link = lambda *_: (_ for _ in ()).throw(OSError(95, "no"))
time.sleep(max(0, float(sys.argv[3]) - time.time()))
won = []
for n in range(40):
    try:
        lock.hold([Path(sys.argv[1], str(n))], lock.Run.of(os.getpid(), str(os.getpid()), "x"))
        won.append(n)
    except UserError:
        pass
print(*won, flush=True)
sys.stdin.read()  # who holds them lives until all have tried
"""


@pytest.mark.parametrize("system", ["usual", "plain"])
def test_of_many_at_once_one_wins(tmp_path, ended, system):
    for n in range(40):
        if system == "usual" and n % 2:
            record(tmp_path / str(n), me("1-a", ended))
    begin = str(time.time() + 0.7)
    words = [sys.executable, "-c", RACE, str(tmp_path), system, begin]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(words, **pipes) for _ in range(4)]
    won = [run.stdout.readline().split() for run in runs]
    for run in runs:
        run.communicate()
    assert sorted(n for each in won for n in each) == sorted(map(str, range(40)))
    left = {p.name for p in Path(tmp_path).rglob("*") if p.is_file()}
    assert left == {FILE}


def test_who_waits_gets_the_folder_when_it_is_free(tmp_path):
    # It ends when somebody waits for it.
    words = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    other = subprocess.Popen(words, stdin=subprocess.PIPE)
    hold([tmp_path], me("1-a", other.pid))
    lines = []

    def say(line):
        lines.append(line)
        other.stdin.close()

    hold([tmp_path], me("2-b"), wait=120, say=say)
    assert len(lines) == 1 and lines[0].startswith(f"waiting up to 120 s: {tmp_path} is in use")
    other.wait()
