"""Stage 4: the bounds are ESPnet's."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.kaldi_dir import write_data_dir
from espnet_kd.data.lengths import filter_lengths
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table


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
    out = filter_lengths(tables, 0.1, 2.0, BadItems("set", 0.5))
    assert {name: list(table) for name, table in out.items()} == {
        name: ["b", "c", "f"] for name in tables
    }
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == (
        "set: dropped 3 of 6 utterances (50.0%), 0.00 of 0.00 hours: 1 too short (e.g. a: 0.1 s); "
        "1 too long (e.g. d: 2 s); 1 without text (e.g. e)"
    )


@pytest.mark.parametrize("share, passes", [(0.49, False), (0.5, True), (1.0, True)])
def test_a_share_of_the_utterances_may_go(share, passes, tables):
    if passes:
        assert len(filter_lengths(tables, 0.1, 2.0, BadItems("set", share))["text"]) == 3
        return
    words = "set: would drop 3 of 6 utterances .* more than --max_dropped_share 0.49 allows"
    with pytest.raises(UserError, match=words):
        filter_lengths(tables, 0.1, 2.0, BadItems("set", share))


def test_a_share_of_the_hours_may_go(tables):
    # One of six, which is two thirds of the audio.
    tables["utt2num_samples"] = {utt: "80000" if utt == "d" else "8000" for utt in "abcdef"}
    tables["text"]["e"] = "WORD"
    with pytest.raises(UserError, match=r"1 of 6 utterances \(16.7%\), 0.00 of 0.00 hours: 1 too"):
        filter_lengths(tables, 0.1, 9.0, BadItems("set", 0.2))
    assert len(filter_lengths(tables, 0.1, 9.0, BadItems("set", 0.67))["text"]) == 5


def test_the_command_refuses_to_drop_nine_of_ten(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", np.zeros(8000), 8000)
    write_data_dir(
        "org",
        {
            "wav.scp": {f"u{n}": "a.wav" for n in range(10)},
            "text": {f"u{n}": "A" for n in range(10)},
            "utt2spk": {f"u{n}": "s" for n in range(10)},
            "utt2num_samples": {f"u{n}": "240000" if n else "8000" for n in range(10)},
        },
    )
    command = ["filter_lengths", "--data", "org", "--out", "out"]
    code, err = cli(*command)
    assert code == 1 and "org: would drop 9 of 10 utterances (90.0%), 0.07 of 0.08 hours: " in err
    assert "9 too long (e.g. u1: 30 s)" in err
    assert cli(*command, "--max_dropped_share", "1")[0] == 0
    assert list(read_table("out/text")) == ["u0"]
    lines = Path("out/left_out").read_text().splitlines()
    assert len(lines) == 9 and lines[8] == "too long\tu9: 30 s"
    assert cli(*command, "--max_wav_duration", "31")[0] == 0
    assert len(read_table("out/text")) == 10 and not Path("out/left_out").exists()


def test_a_length_is_a_number(tables):
    tables["utt2num_samples"]["b"] = "8e3"
    with pytest.raises(UserError, match="set/utt2num_samples: 'b' has '8e3', which is no number"):
        filter_lengths(tables, 0.1, 2.0, BadItems("set", 1.0))


@pytest.mark.parametrize(
    "low, high, words",
    [(3, 4, "would drop 6 of 6 utterances"), (2, 1, "must be below"), (-1, 1, "must be below")],
)
def test_refused(tables, low, high, words):
    with pytest.raises(UserError, match=words):
        filter_lengths(tables, low, high, BadItems("set", 1.0))
