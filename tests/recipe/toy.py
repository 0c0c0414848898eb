"""Everything a training reads, made in a second: noise, letters, an untrained teacher."""

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
import pytest
import soundfile
import yaml

from tests.espnet.tiny import TOKENS, tiny_config, write_experiment

UTTERANCES = {"train": 12, "dev": 4}


def write_data(path: Path = Path(".")) -> None:
    """`dump/<set>`, `stats/<set>` and `tokens.txt` below `path`, as stages 1 to 10 leave them."""
    rng = np.random.default_rng(0)
    path.mkdir(parents=True, exist_ok=True)
    (path / "tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    for name, size in UTTERANCES.items():
        lines: Dict[str, List[str]] = {
            key: [] for key in ("wav.scp", "text", "speech_shape", "text_shape")
        }
        for i in range(size):
            utt, samples = f"{name}-{i:02d}", int(rng.integers(6000, 12000))
            letters = "".join(rng.choice(list("ABC "), int(rng.integers(2, 6)))).strip() or "A"
            audio = path / f"audio/{utt}.wav"
            audio.parent.mkdir(exist_ok=True)
            soundfile.write(audio, 0.1 * rng.standard_normal(samples).clip(-5, 5), 16000)
            lines["wav.scp"].append(f"{utt} audio/{utt}.wav")
            lines["text"].append(f"{utt} {letters}")
            lines["speech_shape"].append(f"{utt} {samples}")
            lines["text_shape"].append(f"{utt} {len(letters)},{len(TOKENS)}")
        for file, content in lines.items():
            folder = path / ("stats" if file.endswith("shape") else "dump") / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("".join(f"{line}\n" for line in content))


def train_words(out: str, *more: object, config: str = "train.yaml") -> List[str]:
    """The words of a training, as the recipe's train.sh calls it."""
    words = ["--config", config, "--output_dir", out, "--resume", "true"]
    words += ["--use_preprocessor", "true", "--token_type", "char", "--bpemodel", "none"]
    words += ["--token_list", "tokens.txt", "--ngpu", "0"]
    for part, name in {"train": "train", "valid": "dev"}.items():
        words += [f"--{part}_data_path_and_name_and_type", f"dump/{name}/wav.scp,speech,sound"]
        words += [f"--{part}_data_path_and_name_and_type", f"dump/{name}/text,text,text"]
        words += [f"--{part}_shape_file", f"stats/{name}/speech_shape"]
        words += [f"--{part}_shape_file", f"stats/{name}/text_shape"]
    return words + list(map(str, more))


TRAINING = {
    "seed": 1,
    "num_workers": 0,
    "batch_type": "sorted",
    "batch_size": 4,
    "optim": "adamw",
    "optim_conf": {"lr": 0.002},
    "scheduler": "warmuplr",
    "scheduler_conf": {"warmup_steps": 10},
    "max_epoch": 4,
    "keep_nbest_models": 2,
    "best_model_criterion": [["valid", "loss_transducer", "min"]],
    "use_matplotlib": False,
    "use_tensorboard": False,
}


def write_teacher(path: Path, **changes: object) -> Path:
    """An experiment with random weights; dropout, so that random numbers count."""
    config = tiny_config(**changes)
    for block in config["encoder_conf"]["body_conf"]:
        block.update(dropout_rate=0.1, pos_wise_dropout_rate=0.1)
    return write_experiment(path, config)


def write_yaml(path: str, content: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False))


def call(verb: str, words: Sequence[str]) -> Tuple[int, str]:
    """Run `espnet_kd.bin.<verb>` in this process; return its exit code and stderr."""
    module = importlib.import_module(f"espnet_kd.bin.{verb}")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", [f"{verb}.py", *words])
        with pytest.raises(SystemExit) as exit_:
            module.main()
    return exit_.value.code, said.getvalue()


@contextlib.contextmanager
def inside(folder: Path):
    """Work in a folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)
