"""The learning rate that ends with the training."""

import pytest
import torch
from espnet2.tasks.abs_task import optim_classes, scheduler_classes

from espnet_kd.espnet.annealing import WarmupAnneal, tell_length
from espnet_kd.espnet.task import DistilTransducerTask
from espnet_kd.run.espnet_names import unknown_words
from espnet_kd.spec.training_config import TO_ZERO


def rates(updates, warmup_steps, lr=0.5):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = WarmupAnneal(optimizer, warmup_steps=warmup_steps)
    found = []
    for _ in range(updates):
        tell_length([None, scheduler], updates)  # as every epoch does
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found, optimizer.param_groups[0]["lr"]


def test_it_rises_to_the_optimizers_rate_and_falls_to_zero():
    found, after = rates(10, warmup_steps=4, lr=0.8)
    rise = [0.2, 0.4, 0.6, 0.8]
    fall = [0.8 * k / 7 for k in (6, 5, 4, 3, 2, 1)]
    assert found == pytest.approx(rise + fall)
    assert after == 0


def test_a_training_shorter_than_its_warm_up_is_half_warm_up():
    found, after = rates(6, warmup_steps=100)
    assert max(found[1:]) == pytest.approx(0.5)
    assert found.index(max(found)) == 2
    assert after == 0


def test_a_resumed_training_goes_on_with_the_same_rates():
    whole, _ = rates(10, warmup_steps=4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = WarmupAnneal(optimizer, warmup_steps=4)
    tell_length([scheduler], 10)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    again = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    resumed = WarmupAnneal(again, warmup_steps=4)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    found = []
    for _ in range(5):
        found.append(again.param_groups[0]["lr"])
        again.step()
        resumed.step()
    assert found == pytest.approx(whole[5:])


def test_espnet_knows_it_by_name():
    assert scheduler_classes[TO_ZERO] is WarmupAnneal
    parser = DistilTransducerTask.get_parser()
    args = parser.parse_args(["--scheduler", TO_ZERO, "--scheduler_conf", "warmup_steps=7"])
    assert (args.scheduler, args.scheduler_conf) == (TO_ZERO, {"warmup_steps": 7})


def test_optimizers_and_schedulers_of_espnet_are_known_by_its_source():
    for key, classes in (("optim", optim_classes), ("scheduler", scheduler_classes)):
        for name in classes:
            assert not list(unknown_words({key: name})), name
    ((key, value, known),) = unknown_words({"optim": "adam", "scheduler": "warmup"})
    assert (key, value) == ("scheduler", "warmup") and {TO_ZERO, "warmuplr"} <= set(known)
