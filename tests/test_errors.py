"""How the command lines end: output that nobody reads, and a full disk behind stdout."""

import os
import subprocess
import sys
import zipfile

import pytest

from espnet_kd.errors import run_main
from tests.patience import PATIENCE

COMMANDS = {
    "upload": "upload_model --archive m.zip --repo me/m --dry_run",
    "plan": "plan_stages --plan plan.yaml",
    "help": "pack_model --help",
    "list": "pack_model --results results.json --list",
    "error": "upload_model --archive none.zip --repo me/m --dry_run",
}
RESULTS = """{"inference_tag": "d", "test_sets": ["t"], "environment": {"date": "x"},
"method": {"level": 0.9, "interval": "i", "draws": 1}, "models": [
{"name": "teacher", "dir": "exp/asr", "checkpoint": "m.pth", "stage": 0, "params": 1,
"compression": 0, "size_mb": 1, "wer": {"t": 1}, "wer_diff": null}]}"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("m.zip", "w") as z:
        for k in range(2000):  # more than a pipe holds
            z.writestr(f"a_file_with_a_long_name_{k}" if k else "meta.yaml", "x")
    (tmp_path / "plan.yaml").write_text("stages: [{target: 0.5}]\n")
    (tmp_path / "results.json").write_text(RESULTS)


def start(words, repo, stdout):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-m", *f"espnet_kd.bin.{words}".split()],
        env={**env, "PYTHONPATH": str(repo)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_reader_that_has_enough_ends_no_program_in_a_traceback(words, here, repo):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(words, repo, writing)
    os.close(writing)
    err = process.communicate(timeout=PATIENCE)[1]
    if "none.zip" in words:
        assert (process.returncode, err.count("\n")) == (1, 1) and "none.zip: no such file" in err
    else:
        assert (process.returncode, err) == (141, "")  # as a program that SIGPIPE has ended


def test_a_full_disk_behind_stdout_is_one_line(here, repo):
    with open("/dev/full", "w") as full:
        process = start(COMMANDS["plan"], repo, full)
        err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1 and err.count("\n") == 1 and "the disk is full" in err


@pytest.mark.parametrize("name, told", [("espnet2.tasks", True), ("espnet_kd.gone", False)])
def test_a_package_that_is_not_installed_is_one_line(name, told, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["verb.py"])

    @run_main
    def main():
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    with pytest.raises(SystemExit if told else ModuleNotFoundError):
        main()
    line = capsys.readouterr().err
    assert line.count("\n") == told and ("package 'espnet2' is not installed" in line) == told
