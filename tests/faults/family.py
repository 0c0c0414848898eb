"""A whole family of tiny students by the real recipe: letters that are tones, in seconds.

Stages 1 to 5, 10 to 13 and 16 to 18 run as a user runs them, over audio of which one half
must be converted, with speed perturbation, a BPE model, a gate, a teacher cache and hard
labels, so that every kind of file the recipe leaves is there.
"""

import math
import os
import random
import shutil
import struct
import subprocess
import wave
from pathlib import Path
from typing import Dict, List

import yaml

from tests.faults.forking import REPO, environment

WORDS = ("AB", "CAD", "EF", "DAB", "FEC")
SETS = {"train": 16, "dev": 5, "test": 5}
SPEAKERS = {"16": 16000, "8": 8000}  # the second's audio is converted

DATA_SH = """#!/usr/bin/env bash
# Stage 1: the sets of a corpus in LibriSpeech's layout.
set -e
set -u
set -o pipefail
. ./path.sh
for name in train dev test; do
    ${python} -m espnet_kd.bin.prepare_librispeech --corpus corpus --set ${name} --out data/${name}
done
"""
RUN_SH = """#!/usr/bin/env bash
exec ./asr_kd.sh --lang en --ngpu 0 --nj 1 --inference_nj 1 --train_threads 1 \\
    --token_type bpe --nbpe 12 --resample true --speed_perturb_factors "1.0 1.1" \\
    --use_streaming true --use_teacher_cache true \\
    --train_set train --valid_set dev --test_sets test "$@"
"""
TRAINING = {
    "seed": 1,
    "num_workers": 0,
    "batch_type": "sorted",
    "batch_size": 4,
    "optim": "adamw",
    "optim_conf": {"lr": 0.02},
    "scheduler": "warmuplr",
    "scheduler_conf": {"warmup_steps": 10},
    "keep_nbest_models": 2,
    "best_model_criterion": [["valid", "loss_transducer", "min"]],
    "use_matplotlib": False,
    "use_tensorboard": False,
}
TEACHER = {
    **TRAINING,
    "max_epoch": 9,
    "frontend": "default",
    "frontend_conf": {"n_fft": 640, "win_length": 400, "hop_length": 160, "n_mels": 20},
    "encoder_conf": {
        "main_conf": {
            "dynamic_chunk_training": True,
            "short_chunk_size": 8,
            "num_left_chunks": 2,
        },
        "input_conf": {"vgg_like": False, "subsampling_factor": 4, "conv_size": 8},
        "body_conf": [
            {
                "block_type": "conformer",
                "num_blocks": 2,
                "hidden_size": 32,
                "linear_size": 48,
                "heads": 2,
                "conv_mod_kernel_size": 5,
                "dropout_rate": 0.02,
            }
        ],
    },
    "decoder": "rnn",
    "decoder_conf": {"rnn_type": "lstm", "num_layers": 1, "embed_size": 16, "hidden_size": 32},
    "joint_network_conf": {"joint_space_size": 32},
    "model_conf": {"auxiliary_ctc_weight": 0.5},
}
PLAN = {
    "stages": [
        {
            "name": "half",
            "target": 0.7,
            "epochs": 2,
            "objective": "collapsed",
            "weight": 0.5,
            "gate": {"margin": 10.0, "otherwise": "longer", "epochs": 1, "at_most": 1},
        },
        {
            "name": "third",
            "target": 0.45,
            "epochs": 3,
            "objective": "collapsed",
            "weight": 0.5,
            "labels": "teacher",
        },
    ]
}
DECODING = {"beam_size": 2, "decoding_window": 640, "left_context": 16}

TEACHER_DIR = "exp/asr_train_teacher_raw_en_bpe12_sp"
STUDENT_DIRS = [f"exp/kd_train_teacher_raw_en_bpe12_sp_{s['name']}" for s in PLAN["stages"]]
MODEL_DIRS = [TEACHER_DIR, *STUDENT_DIRS]
MODEL = "valid.loss_transducer.ave.pth"
INFERENCE = "decode_asr_model_valid.loss_transducer.ave_aligned"


def write_corpus(corpus: Path, seed: int = 1) -> None:
    """Utterances of a few words; each letter is a tone with noise."""
    rng = random.Random(seed)
    for name, size in SETS.items():
        for speaker, rate in SPEAKERS.items():
            folder = corpus / name / speaker / "1"
            folder.mkdir(parents=True)
            lines = []
            for i in range(size // 2 if speaker == "8" else size - size // 2):
                text = " ".join(rng.choices(WORDS, k=rng.randint(2, 3)))
                utt = f"{speaker}-1-{i:04d}"
                lines.append(f"{utt} {text}\n")
                write_tones(folder / f"{utt}.wav", text, rate, rng)
            (folder / f"{speaker}-1.trans.txt").write_text("".join(lines))


def write_tones(path: Path, text: str, rate: int, rng: random.Random) -> None:
    samples: List[int] = []
    for letter in text:
        pitch = 0.0 if letter == " " else 250 * 1.4 ** (ord(letter) - ord("A"))
        step = 2 * math.pi * pitch / rate
        samples += [
            int(9000 * math.sin(step * n) + rng.gauss(0, 60)) for n in range(int(0.12 * rate))
        ]
    with wave.open(str(path), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(rate)
        f.writeframes(struct.pack(f"<{len(samples)}h", *samples))


class Family:
    """The recipe in `root/egs2/tones/asr_kd`, from a checkout, run by a Python."""

    def __init__(self, root: Path, python: str, checkout: Path = REPO) -> None:
        self.root, self.python, self.checkout = Path(root), python, checkout
        self.dir = self.root / "egs2/tones/asr_kd"

    def make(self, short: bool = False) -> "Family":
        """The folder of the recipe with its corpus; nothing has run.

        Args:
            short: Few epochs, no gate, no hard labels: models that say nothing, in half the time.
        """
        template = self.root / "egs2/TEMPLATE/asr_kd"
        shutil.copytree(self.checkout / "egs2/TEMPLATE/asr_kd", template)
        subprocess.run([template / "setup.sh", self.dir], check=True, capture_output=True)
        for name, text in {"run.sh": RUN_SH, "local/data.sh": DATA_SH}.items():
            (self.dir / name).write_text(text)
        configs = {
            "train_teacher": TEACHER,
            "train_student": TRAINING,
            "compression": PLAN,
            "decode": DECODING,
        }
        if short:
            configs["train_teacher"] = {**TEACHER, "max_epoch": 3}
            stages = [{**stage, "epochs": 1} for stage in PLAN["stages"]]
            stages[0].pop("gate")
            stages[1].pop("labels")
            configs["compression"] = {"stages": stages}
        for name, config in configs.items():
            text = yaml.safe_dump(config, sort_keys=False)
            (self.dir / f"conf/{name}.yaml").write_text(text)
        write_corpus(self.dir / "corpus")
        return self

    def copy(self, root: Path) -> "Family":
        """The same, with everything that has been made, times of files included."""
        subprocess.run(["cp", "-a", str(self.root), str(root)], check=True)
        return Family(root, self.python, self.checkout)

    def words(self, **options: object) -> List[str]:
        words = ["./run.sh", "--python", self.python, "--stop_stage", "18"]
        for name, value in options.items():
            words += [f"--{name}", str(value)]
        return words

    def environment(self, **more: str) -> Dict[str, str]:
        return {**environment(self.checkout), **more}

    def start(self, out: Path, err: Path, **options: object) -> subprocess.Popen:
        """In a process group of its own, as a shell starts a command."""
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            return subprocess.Popen(
                self.words(**options),
                cwd=self.dir,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                preexec_fn=os.setpgrp,
            )
