"""When the student's paths leave its teacher's band, the whole lattice is used."""

import logging

import pytest
import torch

from espnet_kd.espnet.band_watch import EVERY, LEAST, BandWatch
from espnet_kd.objective import BandFacts, Losses


def run(shares, banded=0.0):
    """One batch for each share of the student's paths inside; which were done whole?"""
    watch, done = BandWatch(), []

    def compute(whole):
        share = torch.tensor([shares[len(done)]]) if whole else None
        facts = BandFacts(torch.tensor(0.999), torch.tensor(0.2), torch.tensor(4.0), share)
        return Losses(torch.tensor([1.0 if whole else banded]), None, None, facts)

    for _ in shares:
        losses = watch.losses(compute)
        done.append(watch.whole)
        stats = watch.stats(losses.band)
        assert bool(stats["band_whole"]) == watch.whole
        assert stats["band_gap"].exp() == pytest.approx(1 / max(watch.inside, 1e-30), rel=1e-5)
    return done


def test_a_student_inside_is_looked_at_now_and_then(caplog):
    with caplog.at_level(logging.INFO):
        done = run([0.9] * (2 * EVERY + 1))
    assert [i for i, whole in enumerate(done) if whole] == [0, EVERY, 2 * EVERY]
    assert caplog.text.count("lattice: 90.0 % of the student's path mass lies in") == 1


def test_as_long_as_it_is_outside_every_batch_is_whole(caplog):
    shares = [0.1, 0.2, LEAST + 0.1] + [0.9] * (EVERY - 3) + [0.3, 0.4, 0.8, 0.8]
    with caplog.at_level(logging.INFO):
        done = run(shares)
    whole = [i for i, x in enumerate(done) if x]
    assert whole == [0, 1, 2, EVERY, EVERY + 1, EVERY + 2]
    assert caplog.text.count("the whole lattice is used") == 2
    assert caplog.text.count("the band is used") == 2


def test_a_batch_without_any_path_inside_is_done_again(caplog):
    assert all(run([0.9] * 5, banded=float("inf")))
    assert caplog.text.count("this batch is done whole") == 4
    caplog.clear()
    run([0.9] * 5, banded=float("nan"))  # of weights, not of the band
    assert "done whole" not in caplog.text
