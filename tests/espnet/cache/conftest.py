"""A tiny teacher, its cache and the data."""

import shutil
from pathlib import Path

import pytest

from tests.espnet.cache.making import make, write_student
from tests.recipe.toy import UTTERANCES, inside, write_data, write_teacher


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    """Data, an untrained teacher and its cache, each utterance a batch of its own."""
    with inside(tmp_path_factory.mktemp("cache")) as folder:
        write_data()
        for name in UTTERANCES:
            shutil.copy(f"stats/{name}/speech_shape", f"dump/{name}/utt2num_samples")
        write_teacher(Path("teacher"))
        make("cache", "--batch_bins", 1)
        write_student()
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """Work where the data is."""
    monkeypatch.chdir(place)


@pytest.fixture
def copy(place, tmp_path, monkeypatch):
    """Work in a copy, which a test may damage."""
    shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("out*"))
    monkeypatch.chdir(tmp_path / "copy")
