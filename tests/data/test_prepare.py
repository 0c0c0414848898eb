"""Stage 1: what a corpus becomes, and what is skipped."""

import logging
import os

import pytest

from espnet_kd.data import librispeech
from espnet_kd.fileio import read_table


def test_tables_are_kaldi_s(make_corpus, ok, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    corpus = make_corpus(4)
    ok("prepare_librispeech", "--corpus", corpus, "--set", "tiny-train", "--out", tmp_path / "d")
    root = corpus / "LibriSpeech" / "tiny-train"
    assert (tmp_path / "d" / "wav.scp").read_text().splitlines() == [
        f"11-5-0001 {root}/11/5/11-5-0001.flac",
        f"11-5-0003 {root}/11/5/11-5-0003.flac",
        f"7-30-0000 {root}/7/30/7-30-0000.flac",
        f"7-30-0002 {root}/7/30/7-30-0002.flac",
    ]
    assert (tmp_path / "d" / "text").read_text().startswith("11-5-0001 WORD1 OF TEST\n")
    assert (tmp_path / "d" / "utt2spk").read_text().startswith("11-5-0001 11-5\n")
    assert (tmp_path / "d" / "spk2utt").read_text() == (
        "11-5 11-5-0001 11-5-0003\n7-30 7-30-0000 7-30-0002\n"
    )
    assert "4 utterances, 0.00 hours, 2 speakers, 2 speaker-chapters" in caplog.text
    assert sorted(os.listdir(tmp_path / "d")) == ["spk2utt", "text", "utt2spk", "wav.scp"]


@pytest.mark.parametrize("extension", ["flac", "wav", "ogg", "opus", "mp3"])
def test_any_audio_that_soundfile_reads(extension, make_corpus):
    tables = librispeech.prepare(str(make_corpus(2, extension=extension)), ["tiny-train"], 0)
    assert [path.rsplit(".")[-1] for path in tables["wav.scp"].values()] == [extension] * 2


def test_the_corpus_or_its_parent_and_underscores(make_corpus):
    corpus = make_corpus(2)
    expected = librispeech.prepare(str(corpus), ["tiny-train"], 0)
    assert librispeech.prepare(str(corpus / "LibriSpeech"), ["tiny-train"], 0) == expected
    assert librispeech.prepare(str(corpus), ["tiny_train"], 0) == expected


def test_sets_are_combined(make_corpus):
    make_corpus(2, name="a")
    corpus = make_corpus(2, name="b", first=2)
    tables = librispeech.prepare(str(corpus), ["a", "b"], 0)
    assert sorted(tables["wav.scp"]) == ["11-5-0001", "11-5-0003", "7-30-0000", "7-30-0002"]


def test_bad_ones_are_skipped_and_counted_up_to_the_share(make_corpus, caplog):
    corpus = make_corpus(10)
    chapter = corpus / "LibriSpeech" / "tiny-train" / "7" / "30"
    (chapter / "7-30-0000.flac").unlink()
    (chapter / "7-30-0002.flac").write_bytes(b"")
    (chapter / "7-30-0004.flac").write_text("no audio")
    (chapter / "7-30-0098.flac").write_bytes((chapter / "7-30-0006.flac").read_bytes())
    (chapter / "._7-30-0006.flac").write_bytes(b"macOS")
    tables = librispeech.prepare(str(corpus), ["tiny-train"], 4 / 11)
    assert sorted(tables["wav.scp"])[-2:] == ["7-30-0006", "7-30-0008"]
    assert len(tables["wav.scp"]) == 7
    assert "skipped 1 transcripts without audio: 7-30-0000" in caplog.text
    assert "skipped 1 sound files without transcript: " in caplog.text
    assert "skipped 2 unusable sound files: " in caplog.text
    with pytest.raises(librispeech.UserError, match="4 of 11 utterances are unusable"):
        librispeech.prepare(str(corpus), ["tiny-train"], 3 / 11)


def test_flac_is_preferred_where_an_utterance_has_two_files(make_corpus):
    corpus = make_corpus(2, extension="wav")
    make_corpus(2, extension="flac")
    for path in corpus.rglob("*.trans.txt"):  # written twice
        path.write_text(path.read_text().splitlines()[0] + "\n")
    tables = librispeech.prepare(str(corpus), ["tiny-train"], 0)
    assert all(path.endswith(".flac") for path in tables["wav.scp"].values())


def test_real_digits(shared_data, ok, tmp_path):
    ok("prepare_librispeech", "--corpus", shared_data / "digits", "--set", "digits-dev",
       "--out", tmp_path / "dev")  # fmt: skip
    assert len(read_table(tmp_path / "dev" / "wav.scp")) == 240
    assert len(read_table(tmp_path / "dev" / "spk2utt")) == 6
