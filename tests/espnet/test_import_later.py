"""Packages that ESPnet imports and hardly anybody uses run when they are used."""

import importlib
import sys

from espnet_kd.espnet.type_checks import _import_later


def test_a_module_runs_when_something_of_it_is_asked_for(tmp_path, monkeypatch, capsys):
    (tmp_path / "noisy_g2p.py").write_text("print('noise')\nanswer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    _import_later("noisy_g2p")
    noisy_g2p = importlib.import_module("noisy_g2p")

    assert not hasattr(noisy_g2p, "__wrapped__")  # as `inspect` asks
    assert capsys.readouterr().out == ""
    assert noisy_g2p.answer == 42
    assert capsys.readouterr().out == "noise\n"
    assert noisy_g2p.answer == 42
    assert capsys.readouterr().out == ""
    sys.modules.pop("noisy_g2p")


def test_a_module_that_is_not_there_stays_missing():
    _import_later("no_such_module")
    assert "no_such_module" not in sys.modules
