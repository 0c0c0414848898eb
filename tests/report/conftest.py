"""A finished run."""

import pytest
from fake_run import add_model


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """Return exp/ with a teacher and two students; sclite is not used."""
    monkeypatch.setenv("SCLITE", "none")
    monkeypatch.chdir(tmp_path)
    exp = tmp_path / "exp"
    add_model(exp, "teacher", 40, 0.03, seed=1)
    add_model(exp, "s1", 30, 0.04, seed=2)
    add_model(exp, "s2", 20, 0.20, seed=3)
    return exp
