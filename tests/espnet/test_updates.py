"""The count of updates, by which lambda is scheduled and the learning rate ends."""

from types import SimpleNamespace

import pytest
import torch

from espnet_kd.common.records import FACTS
from espnet_kd.espnet.epoch_records import write_facts
from espnet_kd.espnet.trainer import CountUpdates, _Counted
from espnet_kd.methods.callbacks import Run


@pytest.mark.parametrize(
    "batches, accum_grad, seen",
    [
        (3, 1, [[0, 1, 2], [3, 4, 5]]),
        (4, 2, [[0, 0, 1, 1], [2, 2, 3, 3]]),
        # The fifth batch of an epoch is left over: ESPnet makes no update of it.
        (5, 2, [[0, 0, 1, 1, 2], [2, 2, 3, 3, 4]]),
    ],
)
def test_updates_are_counted_as_espnet_makes_them(batches, accum_grad, seen):
    lengths = torch.ones(1)
    batch = (["utt"], {"speech_lengths": lengths, "text_lengths": lengths})
    model = SimpleNamespace()
    options = SimpleNamespace(output_dir="exp/s", max_epoch=2, accum_grad=accum_grad)
    run = Run(model, options, [CountUpdates()], main=False)
    watches = set()
    for epoch, updates in enumerate(seen, 1):
        counted = _Counted([batch] * batches, SimpleNamespace(epoch=epoch), run)
        assert [model.updates for _ in counted] == updates
        watches.add(model.band_watch)  # a resumed training begins its epoch with a new one, too
    assert len(watches) == len(seen)


def test_cpu_seconds_are_unknown_where_an_older_version_began_the_training(tmp_path):
    options = SimpleNamespace(output_dir=tmp_path, ngpu=0, max_epoch=2, seed=1)
    new = {"seconds": 3.0, "cpu_seconds": 2.0}
    history = [{"epoch": 1, "train": new, "valid": new}]
    write_facts(options, history)
    assert FACTS.read(tmp_path)["cpu_seconds"] == 4
    history[0]["train"] = {"seconds": 3.0}
    write_facts(options, history)
    assert FACTS.read(tmp_path)["cpu_seconds"] is None
    assert FACTS.read(tmp_path)["train_seconds"] == 6
