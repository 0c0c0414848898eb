"""The mini_speech recipe in a folder of its own, with models small enough for a test."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence

import yaml

from tests.patience import PATIENCE

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "egs2/mini_speech/asr_kd"
MADE = ("data", "dump", "exp", "downloads", "__pycache__")

CORPUS = "--train_utts 48 --dev_utts 8 --test_utts 6 --voices 6 --new_voices 2 --nj 1"
# One core, one process at a time: a process of ESPnet's spends most of its life importing.
OPTIONS = {
    "python": sys.executable,
    "nj": "1",
    "inference_nj": "1",
    "train_threads": "1",
    "test_sets": "test_seen",
    "local_data_opts": CORPUS,
    "use_streaming": "true",
}
# As many epochs as it takes until a model says something: a test that compares
# hypotheses would pass with empty ones.
TEACHER_EPOCHS = 30
STAGES = [
    {"name": "half", "target": 0.7, "epochs": 4, "objective": "full", "weight": 0.5},
    {"name": "third", "target": 0.38, "epochs": 10, "objective": "collapsed", "weight": 0.5},
]
TRAINING = {
    "num_workers": 0,  # no process more
    "batch_size": 4,
    "keep_nbest_models": 2,
    "optim_conf": {"lr": 0.01},
    "scheduler_conf": {"warmup_steps": 30},
}


def environment(*folders: Path, **more: str) -> Dict[str, str]:
    """The environment of a command line; `folders` come first on Python's path."""
    paths = [*map(str, folders), str(REPO), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": ":".join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    # Or path.sh would look for the environment of a checkout.
    return {**env, "VIRTUAL_ENV": sys.prefix, **more}


def copy_recipe(corpus: str, root: Path) -> Path:
    """`egs2/<corpus>/asr_kd` without its links, below `root`, as in an ESPnet checkout."""
    folder = root / f"egs2/{corpus}/asr_kd"
    ignored = shutil.ignore_patterns(*MADE)
    return Path(shutil.copytree(REPO / f"egs2/{corpus}/asr_kd", folder, ignore=ignored))


def _words(options: Mapping[str, object]) -> List[str]:
    words = ["./run.sh"]
    for name, value in {**OPTIONS, **options}.items():
        words += [f"--{name}", str(value)]
    return words


class MiniRun:
    """A copy of the recipe, below `root`, and where things lie in it."""

    teacher = Path("exp/asr_train_teacher_raw_en_char")
    students = [Path(f"exp/kd_train_teacher_raw_en_char_{stage['name']}") for stage in STAGES]
    offline_tag = "decode_asr_model_valid.loss_transducer.ave"
    inference_tag = f"{offline_tag}_aligned"
    stock_tag = f"{offline_tag}_streaming"
    model = "valid.loss_transducer.ave.pth"

    def __init__(self, root: Path) -> None:
        self.dir = copy_recipe("mini_speech", root)
        teacher = self._config("train_teacher", **TRAINING, max_epoch=TEACHER_EPOCHS)
        teacher["frontend_conf"]["n_mels"] = 20
        encoder = teacher["encoder_conf"]
        encoder["input_conf"]["conv_size"] = 8
        encoder["body_conf"][0].update(num_blocks=2, hidden_size=32, linear_size=48, heads=2)
        encoder["body_conf"][0]["conv_mod_kernel_size"] = 7
        teacher["decoder_conf"].update(embed_size=16, hidden_size=32)
        teacher["joint_network_conf"]["joint_space_size"] = 32
        self.write("train_teacher", teacher)
        self.write("train_student", self._config("train_student", **TRAINING))
        self.write("compression", {"stages": STAGES})

    def _config(self, name: str, **changes: object) -> dict:
        config = yaml.safe_load((RECIPE / f"conf/{name}.yaml").read_text())
        return {**config, **changes}

    def write(self, name: str, config: dict) -> None:
        (self.dir / f"conf/{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def run(self, **options: object) -> subprocess.CompletedProcess:
        return self.command(_words(options))

    def killed(self, when: Callable[[], bool], **options: object) -> str:
        """Run, kill everything that runs as soon as `when`, return what was printed."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        run = subprocess.Popen(
            _words(options), cwd=self.dir, env=environment(), start_new_session=True, **pipes
        )
        deadline = time.monotonic() + PATIENCE
        while not when():
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # has ended by now
                session = stat.read_text().rpartition(")")[2].split()[3]
                if int(session) == run.pid:
                    os.kill(int(stat.parent.name), signal.SIGKILL)
        return run.communicate(timeout=PATIENCE)[0]

    def command(self, words: Sequence, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(word) for word in words],
            cwd=self.dir,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def ok(self, **options: object) -> str:
        """Run, expect success, return what was printed on stdout."""
        done = self.run(**options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def state(self, *folders: Path) -> Dict[str, int]:
        """When each file below the folders (by default everything made) was last written."""
        folders = folders or [Path(name) for name in ("data", "dump", "exp", "downloads")]
        return {
            str(path.relative_to(self.dir)): path.lstat().st_mtime_ns
            for folder in folders
            for path in sorted((self.dir / folder).rglob("*"))
            if not path.is_dir()
        }
