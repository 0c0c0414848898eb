"""From hypotheses to a finished training, with the teacher beside it and with its cache."""

import json
import shutil
from pathlib import Path

import pytest

from espnet_kd.fileio import read_table, write_table
from tests.espnet.tiny import tiny_config
from tests.recipe.toy import (
    TRAINING,
    UTTERANCES,
    call,
    inside,
    train_words,
    write_data,
    write_teacher,
    write_yaml,
)

TEACHER = {"teacher_config": "teacher/config.yaml", "teacher_model": "teacher/model.pth"}
LABELS = "labels/train"


def ok(verb, words):
    code, err = call(verb, [str(word) for word in words])
    assert code == 0, err


def cache(out, train):
    words = ["--teacher_exp", "teacher", "--teacher_model", "model.pth", "--num_workers", 0]
    ok("cache_teacher", [*words, "--out", out, "--data", train, "dump/dev"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A training set, hypotheses of it and the labels made of them."""
    with inside(tmp_path_factory.mktemp("labels")) as folder:
        write_data()
        for name in UTTERANCES:
            shutil.copy(f"stats/{name}/speech_shape", f"dump/{name}/utt2num_samples")
            utts = read_table(f"dump/{name}/wav.scp")
            write_table(f"dump/{name}/utt2spk", dict.fromkeys(utts, "s"))
        write_teacher(Path("teacher"))
        model = {k: v for k, v in tiny_config().items() if k != "token_list"}
        kd = {"objective": "collapsed", **TEACHER}
        write_yaml("train.yaml", {**model, **TRAINING, "max_epoch": 1, "kd_conf": kd})
        hyps = {utt: "B" + text[::-1] for utt, text in read_table("dump/train/text").items()}
        hyps["train-03"] = ""
        write_table("hyp", hyps)
        words = ["--hyp", "hyp", "--data", "dump/train", "--out", LABELS, "--token_type", "char"]
        words += ["--speech_shape", "stats/train/speech_shape", "--token_list", "tokens.txt"]
        ok("hard_labels", [*words, "--config", "train.yaml"])
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """Work where the data is."""
    monkeypatch.chdir(place)


def words_of(out, *more):
    """The words of a training on the labels."""
    moved = {
        "stats/train/speech_shape": f"{LABELS}/speech_shape",
        "stats/train/text_shape": f"{LABELS}/text_shape.char",
        "dump/train/wav.scp,speech,sound": f"{LABELS}/wav.scp,speech,sound",
        "dump/train/text,text,text": f"{LABELS}/text,text,text",
    }
    return [moved.get(word, word) for word in train_words(out, *more)]


def cached_words(out, where):
    name = "train_data_path_and_name_and_type"
    stream = [f"--{name}", f"{where}/train/teacher.scp,teacher,kaldi_ark"]
    return words_of(out, "--kd_conf", f"teacher_cache={where}", *stream)


def first_epoch(out):
    return json.loads(Path(out, "history.json").read_text())[0]["train"]


def test_the_shapes_are_those_that_the_statistics_would_have(here):
    assert set(read_table(f"{LABELS}/text")) == set(read_table("dump/train/text")) - {"train-03"}
    stats = read_table("stats/train/text_shape")
    for utt, shape in read_table(f"{LABELS}/text_shape.char").items():
        length, _, width = stats[utt].partition(",")
        assert shape == f"{int(length) + 1},{width}"  # a B more than the transcript


def test_a_training_on_labels_beside_the_teacher(here):
    ok("train", words_of("online"))
    ok("train", train_words("transcripts"))
    assert first_epoch("online")["loss_kd"] > 0
    assert first_epoch("online")["loss_kd"] != first_epoch("transcripts")["loss_kd"]


def test_a_training_on_labels_with_a_cache_of_them(here):
    cache("cache", LABELS)
    ok("train", cached_words("cached", "cache"))
    assert first_epoch("cached")["loss_kd"] > 0


def test_a_cache_of_the_transcripts_is_refused(here):
    cache("other", "dump/train")
    code, err = call("train", cached_words("refused", "other"))
    assert code == 1 and "another transcript or other tokens; make the cache again" in err
