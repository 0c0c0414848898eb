"""A recipe folder in a temporary egs2/, run with a stub in python's place."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.forking import LIGHT, shared_python
from tests.patience import PATIENCE

REPO = Path(__file__).resolve().parents[2]
TEMPLATE = REPO / "egs2/TEMPLATE/asr_kd"
STUB = Path(__file__).with_name("stub_python.py")

DATA_SH = """#!/usr/bin/env bash
set -e
[ "${1:-}" != --fail ] || { echo "data.sh: error: no such corpus" >&2; exit 3; }
for set in train dev test_a test_b; do
    mkdir -p data/${set}
    for file in wav.scp text utt2spk; do
        for i in 1 2 3; do echo "${set}-${i} x"; done >data/${set}/${file}
    done
done
printf '%s\\n' "$@" >data/options
"""
PLAN = """stages:
- {name: big, target: 0.7, epochs: 2}
- {name: mid, target: 0.5, epochs: 2}
- {name: small, target: 0.4, epochs: 3, weight: 0.3}
"""
OPTIONS = {
    "train_set": "train",
    "valid_set": "dev",
    "test_sets": "test_a test_b",
    "token_type": "char",
    "ngpu": "0",
    "nj": "2",
    "inference_nj": "2",
    "asr_exp": "exp/teacher",
    "kd_tag": "kd",
    "inference_tag": "decode",
}
# What is decoded with is kept.
KEPT = "best_model_criterion: [[valid, loss_transducer, min]]\n"


class Recipe:
    """`egs2/<corpus>/asr_kd` below `root`, made by setup.sh."""

    # Whether Python forks instead of starting; not where signals meet single processes.
    preloaded = True

    def __init__(self, root: Path) -> None:
        template = root / "egs2/TEMPLATE/asr_kd"
        shutil.copytree(TEMPLATE, template)
        self.dir = root / "egs2/my/asr_kd"
        subprocess.run([template / "setup.sh", self.dir], check=True, capture_output=True)
        self.write("local/data.sh", DATA_SH)
        # The sound of every utterance; a link, since a copy of it would be read again.
        (root / "sound").touch()
        (self.dir / "x").symlink_to(root / "sound")
        self.write("conf/compression.yaml", PLAN)
        for name in "train_teacher", "train_student":
            self.write(f"conf/{name}.yaml", f"patience: 9\n{KEPT}")
        self.write("conf/decode.yaml", "beam_size: 2\n")
        self.calls_file = root / "calls"
        # A machine on which nothing is missing that options may ask for.
        smi = self.machine / "bin/nvidia-smi"
        smi.parent.mkdir(parents=True)
        smi.write_text('#!/bin/sh\nfor i in 0 1 2 3; do echo "GPU $i: of a test"; done\n')
        smi.chmod(0o755)
        (self.machine / "torch-9.dist-info").mkdir()
        (self.machine / "torch-9.dist-info/METADATA").write_text("Version: 9\n")
        (self.machine / "huggingface_hub.py").write_text("")

    @property
    def python(self) -> str:
        return f"{shared_python(*LIGHT) if self.preloaded else sys.executable} -S {STUB}"

    @property
    def machine(self) -> Path:
        return self.calls_file.parent / "machine"

    def write(self, path: str, text: str) -> None:
        (self.dir / path).parent.mkdir(parents=True, exist_ok=True)
        (self.dir / path).write_text(text)

    def start(self, env=(), capture=True, **options) -> subprocess.Popen:
        words = ["./asr_kd.sh"]
        for name, value in {**OPTIONS, "python": self.python, **options}.items():
            words += [f"--{name}", str(value)]
        return subprocess.Popen(
            words,
            cwd=self.dir,
            env={**os.environ, **self.environment(), **dict(env)},
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            text=True,
        )

    def environment(self) -> dict:
        paths = [str(self.machine), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            "STUB_CALLS": str(self.calls_file),
            "PATH": f"{self.machine}/bin:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(paths),
            "HF_TOKEN": "of a test",
        }

    def run(self, env=(), **options) -> subprocess.CompletedProcess:
        process = self.start(env=env, **options)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ok(self, env=(), **options) -> str:
        """Run, expect success, return what was printed."""
        done = self.run(env, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def error(self, env=(), **options) -> str:
        """Run, expect exactly one line on stderr and a failure; return the line."""
        done = self.run(env, **options)
        assert done.returncode != 0, done.stdout
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.strip()

    def calls(self, clear: bool = True) -> list:
        """`[module, word, ...]` of each call since the last look."""
        if not self.calls_file.exists():
            return []
        calls = [json.loads(line) for line in self.calls_file.read_text().splitlines()]
        if clear:
            self.calls_file.unlink()
        return calls

    def verbs(self) -> list:
        """The command lines called since the last look, without the package."""
        return [call[0].rpartition(".")[2] for call in self.calls()]


def value(call: list, option: str) -> str:
    """The word after `option`."""
    return call[call.index(option) + 1]


def ends(pid: int, within: float = PATIENCE) -> bool:
    """Whether a process ends: one that was killed has to be given time to, on a busy machine."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as f:
                if f.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


INTERRUPT, TERMINATE = signal.SIGINT, signal.SIGTERM
