"""A method of a test's own: its term is in the loss, its callback hears of everything."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from espnet_kd.methods.callbacks import Callback
from espnet_kd.methods.protocol import Attached, Method, Term
from tests.espnet.tiny import tiny_config
from tests.recipe.toy import TRAINING, call, train_words, write_data, write_yaml


class Large(Term):
    """The predictor's output is not to be large."""

    name = "loss_large"

    def weight(self, model):
        return 0.5 * model.updates  # as a schedule has it

    def wanted(self, model):
        return True

    def value(self, out):
        return out.dec.square().mean()  # ()

    def beside(self, out):
        return {"large_weight": torch.tensor(self.weight(out.model))}  # ()


class Listener(Callback):
    def __init__(self):
        self.heard = []

    def on_start(self, run):
        self.heard.append(("start", run.main))

    def on_begin(self, run, epoch):
        self.heard.append(("begin", epoch))

    def on_update(self, run, update):
        self.heard.append(("update", update))

    def on_epoch(self, run, epoch):
        assert not (run.folder / f"{epoch}epoch.pth").exists()
        self.heard.append(("epoch", epoch))

    def on_save(self, run, epoch):
        assert (run.folder / f"{epoch}epoch.pth").exists()
        assert (run.folder / "checkpoint.pth").exists()
        self.heard.append(("save", epoch))

    def on_end(self, run):
        assert (run.folder / "valid.loss_transducer.ave.pth").exists()
        self.heard.append(("end",))


class Shy(Method):
    name = "shy"

    def prepare(self, job):
        raise AssertionError("its student is there already")

    def attach(self, model, conf):
        self.listener = Listener()
        return Attached([Large()], [self.listener])


@pytest.fixture
def shy(monkeypatch):
    method = Shy()
    monkeypatch.setitem(sys.modules, "espnet_kd.methods.shy", SimpleNamespace(METHOD=method))
    return method


def test_terms_and_callbacks_of_a_method(shy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data()
    config = {k: v for k, v in tiny_config().items() if k != "token_list"}
    config.update(TRAINING, max_epoch=2, method_conf={"method": "shy"})
    write_yaml("train.yaml", config)
    code, err = call("train", train_words("run"))
    assert code == 0, err
    heard = [("start", True)]
    for epoch in (1, 2):  # of three updates
        heard += [("begin", epoch)]
        heard += [("update", 3 * epoch - 3 + n) for n in range(3)]
        heard += [("epoch", epoch), ("save", epoch)]
    assert shy.listener.heard == [*heard, ("end",)]
    history = json.loads(Path("run/history.json").read_text())
    # Each update has its weight; a validation the one of the last.
    assert [h["train"]["large_weight"] for h in history] == [0.5, 2.0]
    assert [h["valid"]["large_weight"] for h in history] == [1.0, 2.5]
    for part in history[-1]["train"], history[-1]["valid"]:
        terms = part["loss_transducer"] + 0.5 * part["loss_aux_ctc"]
        assert part["loss_large"] > 0 and part["loss"] > terms
