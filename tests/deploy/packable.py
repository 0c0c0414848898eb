"""A finished run of two models with random weights, as the report leaves it."""

import json
from pathlib import Path

import numpy as np
import torch
import yaml

from tests.espnet.tiny import tiny_config, write_experiment

MODEL = "valid.loss_transducer.ave.pth"
NOTE = "SYNTHETIC speech"


def compared(test_set, diff, low, high, p):
    """The comparison of the student with the teacher, as the report writes it."""
    return {
        "model": "s", "against": "teacher", "family": "teacher", "test_set": test_set,
        "diff": diff, "low": low, "high": high, "z": 2.0, "p": p, "p_holm": p, "remark": None,
    }  # fmt: skip


def entry(name, stage, folder, params, wer):
    return {
        "name": name, "stage": stage, "dir": str(folder), "checkpoint": MODEL, "params": params,
        "compression": 1 - params / 4321, "size_mb": 0.4567,
        "wer": {"seen": wer, "new": 9.87}, "cer": {"seen": 1.5, "new": 2.5}, "wer_diff": None,
        "teacher": "teacher" if stage else None, "rtf": {"median": 0.1234, "p95": 0.2},
        "train_seconds": 150.0, "epochs": 7, "updates": 1234, "device": "cpu",
    }  # fmt: skip


def write_model(exp: Path, seed: int, **more) -> None:
    """An experiment whose config names files, as a real one does."""
    stats = exp.parent / "stats/train/feats_stats.npz"
    if not stats.exists():
        stats.parent.mkdir(parents=True)
        np.savez(stats, count=np.array(2.0), sum=np.full(20, 3.0), sum_square=np.full(20, 9.0))
    config = tiny_config(
        normalize="global_mvn",
        normalize_conf={"stats_file": str(stats)},
        non_linguistic_symbols=None,
        cleaner=None,
        g2p=None,
    )
    write_experiment(exp, config, seed)
    # Averages are links in a real run.
    (exp / "model.pth").rename(exp / "valid.loss_transducer.ave_2best.pth")
    (exp / MODEL).symlink_to("valid.loss_transducer.ave_2best.pth")
    where = str(exp.resolve())
    config |= {
        **more, "output_dir": where, "init_param": [f"{where}/init.pth"], "config": f"{where}/s",
        "train_shape_file": [f"{where}/shape"], "dist_init_method": f"file://{where}/.dist",
        "train_data_path_and_name_and_type": [[f"{where}/wav.scp", "speech", "sound"]],
    }  # fmt: skip
    (exp / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def write_run(root: Path) -> None:
    """`exp/` with a teacher, a student and `results.json`, `decode.yaml` below `root`."""
    exp = Path("exp")
    write_model(exp / "asr_t", seed=1)
    teacher = {"teacher_config": "exp/asr_t/config.yaml", "teacher_model": f"exp/asr_t/{MODEL}"}
    kd = {"objective": "full", "weight": 0.5, **teacher}
    write_model(exp / "kd_s", seed=2, kd_conf=kd)
    (exp / "kd_s/student.json").write_text(json.dumps({"teacher": "exp/asr_t", "init": "teacher"}))
    (root / "decode.yaml").write_text("beam_size: 2\n")
    results = {
        "note": NOTE,
        "inference_tag": "decode",
        "test_sets": ["seen", "new"],
        "method": {"interval": "paired bootstrap", "level": 0.95, "draws": 1000, "seed": 0},
        "models": [
            entry("teacher", 0, "exp/asr_t", 4321, 5.67),
            entry("s", 1, "exp/kd_s", 2100, 7.01),
        ],
        "speed": {
            "utterances": 40, "audio_seconds": 118.6, "device": "A", "cores": 2,
            "load": [0.3, 1.2],
        },
        "comparisons": [
            compared("seen", 1.34, 0.5, 2.25, 0.01), compared("new", -0.5, -1.25, 0.25, 0.4)
        ],
        "environment": {
            "date": "2026-01-02T03:04:05+00:00", "command": "./run.sh --x /machine", "cpu": "A",
            "python": "3.11.2 (main)", "espnet": "202511", "torch": str(torch.__version__),
            "torchaudio": None, "espnet_kd": "0.1.0", "git_commit": "abc123",
        },
    }  # fmt: skip
    (exp / "results.json").write_text(json.dumps(results))
