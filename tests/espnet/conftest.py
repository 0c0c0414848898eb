"""Fixtures of a tiny teacher and a batch."""

import numpy as np
import pytest
import torch

from tests.espnet.tiny import write_experiment


@pytest.fixture(scope="session")
def teacher_exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("exp") / "asr_teacher")


@pytest.fixture
def kd(teacher_exp):
    """Options that distil from `teacher_exp`."""
    return {
        "objective": "full",
        "teacher_config": str(teacher_exp / "config.yaml"),
        "teacher_model": str(teacher_exp / "model.pth"),
    }


@pytest.fixture
def mvn(tmp_path):
    """What makes a model subtract 1.5 from every feature and divide by 1.5."""
    stats = tmp_path / "feats_stats.npz"
    np.savez(stats, count=np.array(2.0), sum=np.full(20, 3.0), sum_square=np.full(20, 9.0))
    return {"normalize": "global_mvn", "normalize_conf": {"stats_file": str(stats)}}


@pytest.fixture
def batch():
    """Three utterances of different lengths; lengths and labels are ragged."""
    torch.manual_seed(1)
    lengths = torch.tensor([16000, 9000, 5000])
    speech = 0.1 * torch.randn(3, 16000)
    for b, n in enumerate(lengths):
        speech[b, n:] = 0
    text = torch.tensor([[3, 4, 5, 2], [5, 5, -1, -1], [4, -1, -1, -1]])
    return {
        "speech": speech,
        "speech_lengths": lengths,
        "text": text,
        "text_lengths": torch.tensor([4, 2, 1]),
    }
