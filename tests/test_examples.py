"""The examples run, and show what they promise."""

import importlib
import os
import subprocess
import sys

import pytest

# What the whole package needs beside torch, which itself imports whatever is there.
WHOLE = {"espnet", "espnet2", "torchaudio", "sentencepiece", "kaldiio", "soundfile", "soxr"}
WHOLE |= {"scipy", "yaml", "humanfriendly", "editdistance"}
NAMES = ("torchaudio_rnnt", "nemo_joint", "icefall_joiner")


@pytest.mark.parametrize("name", NAMES)
def test_a_transducer_of_another_toolkit_learns(name, repo, monkeypatch, capsys):
    monkeypatch.syspath_prepend(repo / "examples")
    words = ["--teacher_steps", "40", "--steps", "20"]
    teacher, alone, distilled = importlib.import_module(name).main(words)
    for run in (teacher, alone, distilled):
        assert sum(run.curve[-5:]) < 0.7 * sum(run.curve[:5])
    assert "distilled" in capsys.readouterr().out
    assert teacher.loss < distilled.loss
    assert distilled.curve != alone.curve


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
        if name.partition(".")[0] in {WHOLE}:
            raise ImportError(f"the core may not import {{name}}")
import torch
sys.meta_path.insert(0, Guard())
sys.path.insert(0, {str(tmp_path / "lib")!r})
import espnet_kd
from espnet_kd.lattice import Joint
from espnet_kd.objective import Objective, distillation_losses
assert espnet_kd.__file__.startswith({str(tmp_path)!r})
enc, dec = torch.randn(2, 4, 8, requires_grad=True), torch.randn(2, 3, 8)
student, teacher = (Joint(enc, dec, torch.randn(5, 8), torch.zeros(5), torch.tanh) for _ in "ab")
lengths = torch.ones(2, 2, dtype=torch.long), torch.tensor([4, 3]), torch.tensor([2, 1])
losses = distillation_losses(student, teacher, *lengths, Objective("collapsed"))
(losses.rnnt + losses.kd).sum().backward()
print("distilled", bool(enc.grad.isfinite().all()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "distilled True\n"
    assert not (tmp_path / "lib/espnet_kd/bin").exists()
    # A recipe needs more, and says so.
    env.update(PYTHONPATH=str(tmp_path / "lib"), VIRTUAL_ENV="none")
    env["python"] = f"{sys.executable} -S"  # which knows no other installation
    recipe = repo / "egs2/own_corpus/asr_kd"
    words = ["bash", "-c", ". ./path.sh"]
    done = subprocess.run(words, cwd=recipe, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot import espnet_kd, whole (ESPNET_KD_CORE=1" in done.stderr
