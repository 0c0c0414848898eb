"""Recipe folders made outside this repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_kd.bin import new_recipe
from espnet_kd.errors import UserError
from espnet_kd.run.recipe_folder import make_recipe

REPO = Path(__file__).parents[2]


def check(folder):
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    there = {path.name for path in folder.iterdir()}
    assert {"run.sh", "asr_kd.sh", "path.sh", "cmd.sh", "db.sh", "scripts", "conf"} <= there
    assert not there & {"exp", "data", "dump"}
    assert (folder / "conf/train_teacher.yaml").is_file() and os.access(folder / "run.sh", os.X_OK)
    done = subprocess.run(
        [folder / "run.sh", "--nj", "7", "--help"], cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0 and "statistics (7)" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["asr_kd", "."])
def test_a_folder_stands_alone(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        new_recipe.main([name])
    assert end.value.code == 0 and f"made {name}; now" in capsys.readouterr().out
    folder = tmp_path / name
    check(folder)
    with pytest.raises(UserError, match="is there already; nothing was changed"):
        make_recipe(folder)


def test_a_corpus_that_has_changed_is_no_finished_work(tmp_path):
    make_recipe(tmp_path / "asr_kd")
    for n in range(6):
        path = tmp_path / f"c/{n}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.with_suffix(".txt").write_text("A B")
    words = ["--python", sys.executable, "--stop_stage", "1"]

    def run(*more):
        command = [tmp_path / "asr_kd/run.sh", *words, *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert run("--corpus", "c").returncode == 0
    assert "already done, skipped (data)" in run("--data_scale=small").stdout
    (tmp_path / "c/0.txt").write_text("C")
    done = run("--corpus", "c", "--data_scale", "small")
    assert done.returncode == 1 and "other options (content of the corpus " in done.stderr


def test_setup_in_a_checkout_of_espnet(tmp_path):
    folder = tmp_path / "espnet/egs2/my/asr_kd"
    (tmp_path / "espnet/egs2/TEMPLATE/asr1").mkdir(parents=True)
    setup = REPO / "egs2/TEMPLATE/asr_kd/setup.sh"
    subprocess.run([setup, folder], check=True, capture_output=True)
    check(folder)


def test_the_wheel_carries_the_recipe(tmp_path):
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path / "lib"]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    check(tmp_path / "lib/espnet_kd/recipe")
