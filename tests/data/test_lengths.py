"""Stage 4: the bounds are ESPnet's."""

import logging

import numpy as np
import pytest
import soundfile

from espnet_kd.data.lengths import filter_lengths
from espnet_kd.errors import UserError


@pytest.fixture
def tables(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    samples = {"a": 800, "b": 801, "c": 15999, "d": 16000, "e": 8000, "f": 8000}
    return {
        "wav.scp": dict.fromkeys(samples, str(path)),
        "text": {utt: "" if utt == "e" else "WORD" for utt in samples},
        "utt2spk": dict.fromkeys(samples, "s"),
        "utt2num_samples": {utt: str(n) for utt, n in samples.items()},
    }


def test_both_bounds_are_exclusive_and_empty_text_goes(tables, caplog):
    caplog.set_level(logging.INFO)
    out = filter_lengths(tables, 0.1, 2.0, "set")
    assert {name: list(table) for name, table in out.items()} == {
        name: ["b", "c", "f"] for name in tables
    }
    assert "kept 3 of 6 utterances, dropped 1 too short, 1 too long, 1 without text" in caplog.text


@pytest.mark.parametrize(
    "low, high, words",
    [(3, 4, "of 6 utterances none is left"), (2, 1, "must be below"), (-1, 1, "must be below")],
)
def test_refused(tables, low, high, words):
    with pytest.raises(UserError, match=words):
        filter_lengths(tables, low, high, "set")
