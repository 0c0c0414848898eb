"""`local/data.sh` of the LibriSpeech recipe, in a recipe folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_kd.fileio import read_table

EGS2 = Path(__file__).resolve().parents[2] / "egs2"
DIGITS = "--train_parts digits-train --dev_parts digits-dev --test_sets digits-dev"
TINY = "--train_parts tiny-train --dev_parts tiny-dev --test_sets tiny-dev"


@pytest.fixture
def data_sh(tmp_path, monkeypatch):
    """Return a function that runs data.sh and returns the finished process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").symlink_to(EGS2 / "TEMPLATE" / "asr_kd" / "scripts")
    (tmp_path / "local").symlink_to(EGS2 / "librispeech" / "asr_kd" / "local")
    (tmp_path / "path.sh").write_text(f"export PYTHONPATH={EGS2.parent}\n")

    def run(options, **environment: str) -> subprocess.CompletedProcess:
        words = options.split() if isinstance(options, str) else options
        env = {k: v for k, v in os.environ.items() if k != "LIBRISPEECH"}
        return subprocess.run(
            ["bash", "local/data.sh", "--python", sys.executable, *words],
            capture_output=True,
            text=True,
            env={**env, **environment},
        )

    return run


def keys(name):
    return set(read_table(f"data/{name}/wav.scp"))


def test_parts_are_combined_and_tests_are_named_as_given(data_sh, make_corpus):
    make_corpus(2, name="part-a", first=0)
    corpus = make_corpus(2, name="part-b", first=10)
    done = data_sh(
        ["--corpus", str(corpus), "--train_parts", "part-a part-b", "--dev_parts", "part-b",
         "--test_sets", "part_b part-b"]
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert keys("dev") == {"7-30-0010", "11-5-0011"} == keys("part_b") == keys("part-b")
    assert keys("train_960") == {"7-30-0000", "11-5-0001"} | keys("dev")


@pytest.mark.parametrize("how", ["option", "environment", "db.sh"])
def test_the_corpus_is_named_in_three_ways(how, data_sh, make_corpus):
    make_corpus(2, name="tiny-dev")
    corpus = str(make_corpus(4))
    Path("db.sh").write_text(f"LIBRISPEECH={corpus if how == 'db.sh' else 'downloads'}\n")
    option = f" --corpus {corpus}" if how == "option" else ""
    done = data_sh(TINY + option, **({"LIBRISPEECH": corpus} if how == "environment" else {}))
    assert done.returncode == 0, done.stderr
    assert [len(keys(name)) for name in ("train_960", "dev", "tiny-dev")] == [4, 2, 2]


@pytest.mark.parametrize(
    "options, words",
    [
        (TINY, "no corpus named, and 'tiny-train' is no part of LibriSpeech that could be down"),
        (TINY + " --corpus absent", "absent: no such corpus folder; unpack the corpus there"),
        (TINY + " --corpus corpus --valid_set tiny-dev --dev_parts tiny-train", "would overwrite"),
        (TINY + " --corpus corpus --train_set tiny-dev", "would overwrite data/tiny-dev"),
        (TINY + " --corpus corpus --train_parts tiny-trian", "(did you mean 'tiny-train'?)"),
    ],
)
def test_refused_in_one_line(options, words, data_sh, make_corpus):
    make_corpus(2, name="tiny-dev")
    make_corpus(4)
    done = data_sh(options)
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert not Path("data").exists()


@pytest.mark.parametrize("where", ["", "downloads"])
def test_without_a_corpus_it_is_downloaded(where, data_sh, make_corpus):
    for name in ("train-clean-5", "dev-clean-2"):
        corpus = make_corpus(2, name=name)
    options = "--train_set train_clean_5 --valid_set dev_clean_2 --test_sets dev_clean_2"
    options += " --mirror http://127.0.0.1:1"
    done = data_sh(options, LIBRISPEECH=where)
    assert done.returncode == 1
    assert "train-clean-5.tar.gz.part cannot be downloaded" in done.stderr.splitlines()[-1]
    (corpus / "LibriSpeech").rename("downloads/LibriSpeech")  # as the downloader leaves it
    done = data_sh(options, LIBRISPEECH=where)
    assert done.returncode == 0, done.stderr
    assert "are there already" in done.stderr
    assert len(keys("train_clean_5")) == len(keys("dev_clean_2")) == 2


def test_options_of_a_download_that_is_not_made(data_sh, make_corpus):
    make_corpus(2, name="tiny-dev")
    corpus = str(make_corpus(4))
    for options, count in (("", 0), (" --mirror eu", 1), (" --keep_archives true", 1)):
        done = data_sh(TINY + options, LIBRISPEECH=corpus)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("data.sh: warning: nothing is downloaded, as --cor") == count


def test_real_digits(data_sh, shared_data):
    done = data_sh(f"--corpus {shared_data}/digits --train_set train {DIGITS}")
    assert done.returncode == 0, done.stderr
    assert [len(keys(name)) for name in ("train", "dev", "digits-dev")] == [1800, 240, 240]
