"""The lengths of stage 10 without a pass over the audio."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_kd.bin import measure_lengths
from espnet_kd.fileio import read_table, write_table
from tests.espnet.tiny import TOKENS
from tests.recipe.toy import TRAINING, call, write_teacher, write_yaml


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


def test_they_are_what_espnet_collects(tmp_path, monkeypatch):
    """Of files of several rates, as stage 3 formats them."""
    monkeypatch.chdir(tmp_path)
    rng, texts = np.random.default_rng(0), {"a": "A", "b": "AB C", "c": "B A"}
    for (utt, _), rate in zip(texts.items(), (8000, 16000, 44100)):
        soundfile.write(f"{utt}.wav", rng.uniform(-0.1, 0.1, int(0.7 * rate) + 13), rate)
    Path("data").mkdir()
    write_table("data/wav.scp", {utt: f"{utt}.wav" for utt in texts})
    write_table("data/text", texts)
    assert call("format_audio", "--data data --out dump --resample true".split())[0] == 0
    write_teacher(Path("teacher"))
    config = yaml.safe_load(Path("teacher/config.yaml").read_text())
    write_yaml("train.yaml", {**config, **TRAINING, "normalize": None, "normalize_conf": {}})
    Path("tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    words = "--config train.yaml --collect_stats true --output_dir theirs --token_type char"
    words += " --use_preprocessor true --bpemodel none --token_list tokens.txt --ngpu 0"
    for part in ("train", "valid"):
        words += f" --{part}_data_path_and_name_and_type dump/wav.scp,speech,sound"
        words += f" --{part}_data_path_and_name_and_type dump/text,text,text"
        words += f" --{part}_shape_file dump/wav.scp"
    assert call("train", words.split())[0] == 0
    words = "--data dump --config teacher/config.yaml --token_type char --out ours"
    assert call("measure_lengths", words.split())[0] == 0
    for name in ("speech_shape", "text_shape"):
        assert read_table(f"ours/{name}") == read_table(f"theirs/train/{name}")
