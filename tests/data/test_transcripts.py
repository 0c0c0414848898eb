"""Stage 3: what becomes of the transcripts."""

import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_kd.data.tokens import count_tokens
from espnet_kd.data.transcripts import clean_transcripts
from espnet_kd.fileio import read_table
from espnet_kd.scoring.units import tokenize

SPACES = "\t \xa0\u1680\u2003\u2009\u2028\u2029\u202f\u205f\u3000"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Return a function that writes `data/set` with these bytes as `text`."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.flac", np.full(16000, 0.1), 16000)

    def make(text: bytes):
        Path("data/set").mkdir(parents=True, exist_ok=True)
        Path("data/set/text").write_bytes(text)
        utts = [line.split()[0].decode() for line in text.decode("utf-8-sig").encode().split(b"\n")
                if line.strip()]  # fmt: skip
        for name, value in (("wav.scp", "a.flac"), ("utt2spk", "s")):
            Path("data/set", name).write_text("".join(f"{utt} {value}\n" for utt in utts))

    return make


FORMAT = ["format_audio", "--data", "data/set", "--out", "dump/set"]


def test_one_definition_of_a_space(corpus, ok, caplog):
    from espnet2.fileio.read_text import read_2columns_text
    from espnet2.text.char_tokenizer import CharTokenizer

    lines = [f"u{n} ONE{space}TWO{space} THREE{space}" for n, space in enumerate(SPACES)]
    corpus("".join(f"{line}\n" for line in lines).encode())
    ok(*FORMAT)
    ours, theirs = read_table("dump/set/text"), read_2columns_text("dump/set/text")
    assert ours == theirs == {f"u{n}": "ONE TWO THREE" for n in range(len(SPACES))}
    known = set(count_tokens(theirs.values(), "char"))
    tokens = CharTokenizer().text2tokens(theirs["u2"])
    assert set(tokens) <= known and tokens == tokenize(ours["u2"], "cer")
    words = "9 of 11 transcripts hold white space other than blanks, made blanks (e.g. u2)"
    assert words in caplog.text


def test_a_corpus_of_windows_is_the_same_corpus(corpus, ok):
    from espnet2.fileio.read_text import read_2columns_text

    corpus(b"\xef\xbb\xbfu1 ONE TWO\r\nu2 THREE\r\n")
    ok(*FORMAT)
    assert Path("dump/set/text").read_bytes() == b"u1 ONE TWO\nu2 THREE\n"
    assert read_2columns_text("dump/set/text") == {"u1": "ONE TWO", "u2": "THREE"}


def test_a_set_without_a_word_is_refused_before_anything_trains(corpus, cli):
    corpus(b"u1\nu2  \n")
    code, err = cli(*FORMAT)
    assert code == 1 and "data/set/text: none of 2 transcripts holds a word" in err


def test_a_carriage_return_cuts_no_text(corpus, cli):
    corpus(b"u1 ONE\rTWO\nu2 THREE\n")
    code, err = cli(*FORMAT)
    assert code == 1 and "data/set/text:1: a carriage return (\\r) stands inside the line" in err


@pytest.mark.parametrize(
    "symbol",
    ["<noise>", "[laughter]", "[background noise]", "{breath}", "<unk>", "<space>", "<sos/eos>"],
)
def test_symbols_are_refused_until_somebody_decides(symbol, corpus, cli, ok, caplog):
    corpus(f"u1 ONE\nu2 TWO {symbol} THREE {symbol}\nu3 {symbol}\n".encode())
    code, err = cli(*FORMAT)
    assert code == 1
    for words in (
        f"data/set/text: symbols in the transcripts: {symbol} 3 times (e.g. in u2);",
        "--text_symbols remove takes them out of all sets",
    ):
        assert words in err
    assert not Path("dump/set").exists()
    ok(*FORMAT, "--text_symbols", "remove")
    assert read_table("dump/set/text") == {"u1": "ONE", "u2": "TWO THREE", "u3": ""}
    assert f"took symbols out of the transcripts: {symbol} 3 times" in caplog.text
    code, err = cli(*FORMAT, "--text_symbols", "keep")
    if symbol in ("<unk>", "<space>", "<sos/eos>"):
        assert code == 1 and f"{symbol} (e.g. in u2) is the name of a token of ESPnet's" in err
    else:
        assert code == 0 and f"symbols are spelled out like words: {symbol} 3 t" in caplog.text
        assert read_table("dump/set/text")["u3"] == symbol


def test_ordinary_text_is_left_alone(caplog):
    caplog.set_level(logging.INFO)
    texts = {"a": "(LAUGHS) I <3 YOU, 2 > 1 *REALLY*", "b": "DON'T\u2019 \xc4\xdf \u4f60\u597d"}
    assert clean_transcripts(texts, "refuse", "set") == texts
    assert not caplog.messages


@pytest.mark.parametrize(
    "text, words",
    [
        ("CAFE\u0301", "hold letters that are not composed"),
        ("ONE\u200bTWO", "hold invisible characters"),
        ("CAF\ufffd", "hold the mark of what could not be decoded"),
    ],
)
def test_what_is_odd_is_kept_and_named(text, words, caplog):
    texts = {"a": "ONE", "b": text, "c": text}
    assert clean_transcripts(texts, "refuse", "set") == texts
    (message,) = caplog.messages
    assert "set/text: 2 of 3 transcripts" in message and words in message and "(e.g. b)" in message


@pytest.fixture
def shouted(tmp_path, monkeypatch):
    """A data directory of two utterances, with a module of a cleaner beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("data").mkdir()
    soundfile.write("a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 3200), 16000)
    for name, value in ("wav.scp", "a.wav"), ("text", "Mr. <spk> one <noise> [uh] 2"):
        Path("data", name).write_text(f"a {value}\nb {value}\n")
    functions = "def up(t): return t.upper()", "def no(t): return 3", "def bad(t): t.x"
    Path("mine.py").write_text("\n".join(functions))
    Path("typing_error.py").write_text("def up(t)")
    Path("symbols").write_text("<noise>\n<spk>\n")
    return "format_audio", "--data", "data", "--out", "out"


NEEDS_TACOTRON = pytest.mark.skipif(
    find_spec("tacotron_cleaner") is None, reason="of an extra of ESPnet's from 202611 on"
)


@pytest.mark.parametrize(
    "words, text",
    [
        ("--cleaner mine:up --nlsyms_txt symbols --text_symbols remove", "MR. ONE 2"),
        ("--nlsyms_txt symbols --text_symbols keep", "Mr. one [uh] 2"),
        pytest.param(
            "--cleaner tacotron --text_symbols remove", "MISTER ONE TWO", marks=NEEDS_TACOTRON
        ),
    ],
)
def test_transcripts_are_cleaned(words, text, shouted, ok):
    ok(*shouted, *words.split())
    assert read_table("out/text") == {"a": text, "b": text}


@pytest.mark.parametrize(
    "words, message",
    [
        ("--cleaner mine:gone", "--cleaner mine:gone: module 'mine' has no attribute 'gone'"),
        ("--cleaner nowhere:f", "--cleaner nowhere:f: No module named 'nowhere'"),
        ("--cleaner typing_error:up", "--cleaner typing_error:up: SyntaxError("),
        ("--cleaner mine:no", "--cleaner mine:no: makes int of 'Mr."),
        ("--cleaner mine:bad", "--cleaner mine:bad: fails on 'Mr. <spk>"),
        ("--cleaner tacotrn", "--cleaner: 'tacotrn' is not one of none, tacotron"),
        ("--nlsyms_txt gone", "gone: no such file"),
        ("--nlsyms_txt symbols", "symbols in the transcripts: [uh] 2 times"),
    ],
)
def test_a_cleaner_that_fails_is_one_line(words, message, shouted, cli):
    code, err = cli(*shouted, *words.split())
    assert code == 1 and message in err.splitlines()[-1], err
