"""The examples run, and show what they promise."""

import importlib
import os
import subprocess
import sys

import pytest

# Updates of the teacher, and of the students: to see a difference takes more than to see a fall.
STEPS = {"torchaudio_rnnt": (40, 20), "nemo_joint": (40, 20), "icefall_joiner": (40, 20)}


@pytest.mark.parametrize("name", STEPS)
def test_a_transducer_of_another_toolkit_learns(name, repo, monkeypatch, capsys):
    monkeypatch.syspath_prepend(repo / "examples")
    teacher_steps, steps = map(str, STEPS[name])
    words = ["--teacher_steps", teacher_steps, "--steps", steps]
    teacher, alone, distilled = importlib.import_module(name).main(words)
    for run in (teacher, alone, distilled):
        assert sum(run.curve[-5:]) < 0.7 * sum(run.curve[:5])
    assert "distilled" in capsys.readouterr().out
    assert teacher.loss < distilled.loss
    assert distilled.curve != alone.curve
    if name == "torchaudio_rnnt":
        assert distilled.loss < alone.loss


def test_the_core_alone_is_enough(repo, tmp_path):
    """Build what `ESPNET_KD_CORE=1 pip install` installs; run it where only torch can be had."""
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "build_py"]
    env = {**os.environ, "ESPNET_KD_CORE": "1"}
    command += ["--build-lib", tmp_path / "lib"]
    # What `pip install .` has left in build/ before.
    (tmp_path / "lib/espnet_kd/bin").mkdir(parents=True)
    subprocess.run(command, cwd=repo, env=env, check=True, capture_output=True)
    (needs,) = tmp_path.glob("*.egg-info/requires.txt")
    assert needs.read_text() == "torch>=2.1\n"
    code = f"""
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ImportError(f"the core may not import {{name}}")
import torch
allowed = {{*sys.stdlib_module_names, "torch", "numpy", "espnet_kd", "toy_speech", "nemo_joint"}}
sys.meta_path.insert(0, Guard())
sys.path[:0] = [{str(tmp_path / "lib")!r}, {str(repo / "examples")!r}]
import nemo_joint, espnet_kd
assert espnet_kd.__file__.startswith({str(tmp_path)!r})
nemo_joint.main(["--teacher_steps", "3", "--steps", "2"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "distilled" in done.stdout
    assert not (tmp_path / "lib/espnet_kd/bin").exists()
    # A recipe needs more, and says so.
    env.update(PYTHONPATH=str(tmp_path / "lib"), VIRTUAL_ENV="none", python=sys.executable)
    recipe = repo / "egs2/own_corpus/asr_kd"
    words = ["bash", "-c", ". ./path.sh"]
    done = subprocess.run(words, cwd=recipe, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot import espnet_kd, whole (ESPNET_KD_CORE=1" in done.stderr
