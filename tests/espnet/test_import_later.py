"""Packages that ESPnet imports and hardly anybody uses run when they are used."""

import importlib
import importlib.util
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


def test_an_object_of_a_module_waits_too(tmp_path, monkeypatch, capsys):
    text = (
        "print('noise')\nclass Law:\n    mean = 3\n    def __new__(cls, x):\n        return -x\n"
    )
    (tmp_path / "noisy_stats.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    _import_later("noisy_stats", "Law")
    Law = importlib.import_module("noisy_stats").Law

    assert capsys.readouterr().out == ""
    assert Law.mean == 3 and Law(5) == -5
    assert capsys.readouterr().out == "noise\n"
    assert isinstance(importlib.import_module("noisy_stats").Law, type)  # the class itself now
    sys.modules.pop("noisy_stats")


def test_a_module_of_a_package_is_imported_after_the_package(tmp_path, monkeypatch, capsys):
    package = tmp_path / "noisy_package"
    package.mkdir()
    (package / "__init__.py").write_text("print('noise')\nfrom .inner import answer\n")
    (package / "inner.py").write_text("answer = 42\n")
    (package / "law.py").write_text("from . import inner\nmean = inner.answer\n")
    monkeypatch.syspath_prepend(tmp_path)
    _import_later("noisy_package", "answer")
    assert importlib.import_module("noisy_package").answer  # it waits

    assert importlib.util.find_spec("noisy_package") is not None
    assert capsys.readouterr().out == ""
    assert importlib.import_module("noisy_package.law").mean == 42
    assert importlib.import_module("noisy_package.inner").answer == 42
    assert capsys.readouterr().out == "noise\n"
    package = importlib.import_module("noisy_package")
    assert package.answer == 42 and package.law.mean == 42
    for name in ("noisy_package", "noisy_package.inner", "noisy_package.law"):
        sys.modules.pop(name)


def test_a_module_that_is_not_there_stays_missing():
    _import_later("no_such_module")
    assert "no_such_module" not in sys.modules
