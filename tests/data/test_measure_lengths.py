"""The lengths of stage 10 without a pass over the audio."""

import sys

import pytest

from espnet_kd.bin import measure_lengths
from espnet_kd.fileio import read_table, write_table


@pytest.fixture
def lengths(tmp_path, monkeypatch):
    """Return a function that writes the lengths of `data`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "config.yaml").write_text("encoder_conf: {}\n")
    write_table("data/wav.scp", {"b": "b.wav", "a": "a.wav"})
    write_table("data/text", {"a": "ab c", "b": "d", "left_out": "e"})
    write_table("data/utt2num_samples", {"a": "7039", "b": "16000", "left_out": "1"})

    def run():
        words = "--data data --config config.yaml --token_type char --out out".split()
        monkeypatch.setattr(sys, "argv", ["measure_lengths.py", *words])
        with pytest.raises(SystemExit) as exit_:
            measure_lengths.main()
        return exit_.value.code

    return run


def test_the_lengths_of_audio_and_transcripts(lengths):
    assert lengths() == 0
    assert read_table("out/speech_shape") == {"a": "7039", "b": "16000"}
    assert read_table("out/text_shape") == {"a": "4", "b": "1"}


def test_an_utterance_without_a_length(lengths, capsys):
    write_table("data/utt2num_samples", {"a": "7039"})
    assert lengths() == 1
    error = "data/utt2num_samples: lacks 'b'; run stages 3 and 4 again"
    assert error in capsys.readouterr().err
