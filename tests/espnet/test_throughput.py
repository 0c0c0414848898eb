"""Figures of a training: what they count, and that they disturb none of ESPnet's."""

import math
from types import SimpleNamespace

import pytest
import torch
from espnet2.train.reporter import Reporter

from espnet_kd.espnet.throughput import Throughput, report_epoch
from espnet_kd.espnet.trainer import _spoken
from tests.espnet.tiny import build, tiny_config

BATCHES = [
    {"speech_lengths": torch.tensor([16000, 8000]), "text_lengths": torch.tensor([3, 2])},
    {"speech_lengths": torch.tensor([24000]), "text_lengths": torch.tensor([5])},
]


def test_audio_and_tokens_are_counted_at_the_models_rate():
    front = {**tiny_config()["frontend_conf"], "fs": "8k"}
    for model, rate in [
        (build(tiny_config()), 16000),
        (build(tiny_config(frontend_conf=front)), 8000),
    ]:
        work = Throughput(model)
        for batch in BATCHES:
            work.add(batch)
        assert work.per_second(4.0) == {
            "tokens_per_second": 10 / 4,
            "audio_seconds_per_second": pytest.approx(48000 / rate / 4),
        }


def test_features_are_not_taken_for_audio():
    work = Throughput(SimpleNamespace(frontend=None))
    work.add(BATCHES[0])
    assert work.per_second(2.0) == {"tokens_per_second": 2.5}


def test_an_epochs_figures_reach_the_reporter_and_count_no_step():
    reporter = Reporter()
    with reporter.observe("train", epoch=1) as epoch:
        for loss in (3.0, 1.0):
            epoch.register({"loss": loss}, 2)
            epoch.next()
        report_epoch(epoch, {"tokens_per_second": 7.5})
        assert "tokens_per_second=7.5" in epoch.log_message()
    assert reporter.get_value("train", "tokens_per_second") == 7.5
    assert reporter.get_value("train", "loss") == 2.0
    assert reporter.get_value("train", "total_count") == 2
    assert "tokens_per_second=7.500" in reporter.log_message()


def test_an_epoch_without_a_step_has_no_figures():
    with Reporter().observe("train", epoch=1) as epoch:
        report_epoch(epoch, {"tokens_per_second": 7.5})
        assert not epoch.stats


def test_what_a_progress_line_says():
    with Reporter().observe("train", epoch=1) as epoch:
        for loss in (3.0, 1.25):
            epoch.register({"loss_transducer": loss, "loss_kd": 0.5, "kd_weight": 0.25})
            epoch.register({"loss": loss + 0.125, "loss_scale": 1.0, "optim0_lr0": 0.1})
            epoch.register({"loss_aux_ctc": loss if loss == 3 else math.nan})
            epoch.next()
        figures = {"audio_seconds_per_second": 41.26, "tokens_per_second": 310.4}
        assert _spoken(epoch, {**figures, "gpu_memory_mb": 1234.4}) == (
            ", loss 1.38, transducer 1.25, kd 0.50, lambda 0.25"
            ", 310 tokens/s, 41.3 s of audio/s, GPU 1,234 MiB"
        )
