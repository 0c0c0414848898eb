"""Audio without transcripts to train on, where teachers write the labels."""

import logging
import shutil

import numpy as np
import pytest
import soundfile
import yaml

from espnet_kd.bin import (
    check_options,
    filter_lengths,
    format_audio,
    hard_labels,
    import_corpus,
    measure_lengths,
    perturb_speed,
)
from espnet_kd.fileio import read_table, write_table

UTTS = ("a", "b", "c")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work beside a training set of which one utterance has a transcript."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for utt in UTTS:
        soundfile.write(f"{utt}.wav", rng.uniform(-0.1, 0.1, 16000), 16000)
    (tmp_path / "data/train").mkdir(parents=True)
    write_table("data/train/wav.scp", {utt: f"{utt}.wav" for utt in UTTS})
    write_table("data/train/text", {"b": "AB"})
    return tmp_path


def call(verb, words):
    with pytest.raises(SystemExit) as end:
        verb.main(words.split())
    return end.value.code


@pytest.mark.parametrize("has_text", [True, False])
def test_the_hypotheses_become_the_labels(place, has_text):
    if not has_text:
        (place / "data/train/text").unlink()
    words = "--data data/train --out dump/org --untranscribed true"
    assert call(format_audio, words) == 0
    assert call(filter_lengths, "--data dump/org --out dump/train --untranscribed true") == 0
    texts = read_table("dump/train/text")
    assert texts == {"a": "", "b": "AB" if has_text else "", "c": ""}
    config = {"encoder_conf": {"input_conf": {}}, "frontend_conf": {"hop_length": 160}}
    (place / "train.yaml").write_text(yaml.safe_dump(config))
    words = "--data dump/train --config train.yaml --token_type char --out stats"
    assert call(measure_lengths, words) == 0
    assert read_table("stats/text_shape")["a"] == "0"
    write_table("hyp", {"a": "BA", "b": "A", "c": "B"})
    (place / "tokens.txt").write_text("<blank>\n<unk>\nA\nB\n<sos/eos>\n")
    words = "--hyp hyp --data dump/train --speech_shape stats/speech_shape --config train.yaml"
    words += " --token_list tokens.txt --token_type char --out labels"
    assert call(hard_labels, words) == 0
    assert read_table("labels/text") == {"a": "BA", "b": "A", "c": "B"}


def test_speed_is_perturbed_without_transcripts(place):
    words = "--data data/train --out data/train_sp --factors 1.1 --untranscribed true"
    assert call(perturb_speed, words) == 0
    assert len(read_table("data/train_sp/text")) == 3


def test_elsewhere_transcripts_are_needed(place, capsys, caplog):
    assert call(format_audio, "--data data/train --out dump/org") == 1
    assert "2 utterances without a transcript" in capsys.readouterr().err
    (place / "data/train/text").unlink()
    for verb in (format_audio, perturb_speed):
        assert call(verb, "--data data/train --out made") == 1
        error = capsys.readouterr().err
        assert "data/train/text: no such file; run stage 1 again, which makes it" in error
        assert "(a training set needs none where --teacher_exp" in error
    write_table("data/train/utt2speed", dict.fromkeys(UTTS, "1.1"))
    assert call(format_audio, "--data data/train --out made") == 1
    assert "data/train/text: no such file; run stage 2 again" in capsys.readouterr().err


@pytest.mark.parametrize("labels, told", [("teacher", "true"), ("transcript", "false")])
def test_the_plan_says_whether_they_are_needed(place, capsys, labels, told):
    kinds = ("train", "decode", "student")
    for name in kinds:
        (place / f"{name}.yaml").write_text("{}\n")
    stage = {"target": 0.5, "epochs": 1, "objective": "full", "weight": 0.5}
    stages = [{**stage, "name": "a", "labels": "teacher"}, {**stage, "name": "b"}]
    stages[1].update(target=0.3, labels=labels)
    (place / "plan.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (place / "asr_theirs").mkdir()
    (place / "asr_theirs/config.yaml").write_text("token_type: char\njoint_network_conf: {}\n")
    words = "--known_stages 1 2 3 --stop_stage 3 --train_set train --valid_set dev --test_sets t"
    words += " --compression_config plan.yaml --asr_config train.yaml --ngpu 0"
    words += " --student_config student.yaml --inference_config decode.yaml"
    logging.disable()
    try:
        assert call(check_options, f"{words} --teacher_exp asr_theirs") == 0
        assert f"untranscribed={told}\n" in capsys.readouterr().out
        assert call(check_options, words) == 0
        assert "untranscribed=false\n" in capsys.readouterr().out
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", ["folder", "kaldi"])
def test_a_corpus_whose_training_set_has_no_transcripts(place, kind, capsys):
    for name in ("train", "dev", "test"):
        folder = place / f"corpus/{name}"
        folder.mkdir(parents=True)
        for utt in UTTS:
            (folder / f"{name}{utt}.wav").touch()
        if kind == "kaldi":
            write_table(folder / "wav.scp", {f"{name}{u}": f"{name}{u}.wav" for u in UTTS})
        if name == "train":
            continue
        if kind == "kaldi":
            write_table(folder / "text", {f"{name}{u}": "A" for u in UTTS})
        else:
            for utt in UTTS:
                (folder / f"{name}{utt}.txt").write_text("A")
    words = f"--corpus corpus --data {kind} --out made"
    assert call(import_corpus, words) == 1
    hint = "a training set needs none where --teacher_exp names a teacher and every stage of"
    assert hint in capsys.readouterr().err
    assert call(import_corpus, f"{words} --untranscribed true") == 0
    assert set(read_table("made/train/text").values()) == {""}
    assert set(read_table("made/dev/text").values()) == {"A"}
    shutil.rmtree(place / "corpus/dev")
    assert call(import_corpus, f"{words} --untranscribed true") == 1
    assert "dev cannot be split off it" in capsys.readouterr().err
