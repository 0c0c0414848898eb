"""What the tokens of a model cannot write: counted in every set before anything trains."""

import logging
from pathlib import Path

import pytest

LOWER = [f"u{n} we like the {animal}s of this land" for n, animal in enumerate(("cat", "dog"))]


@pytest.fixture
def sets(tmp_path, monkeypatch, ok):
    """Return a function that writes sets, and the words of a command that checks them."""
    monkeypatch.chdir(tmp_path)

    def make(token_type, **texts):
        for name, lines in {"teacher": LOWER, **texts}.items():
            Path(name).mkdir()
            Path(name, "text").write_text("".join(f"{line}\n" for line in lines), "utf-8")
            samples = "".join(f"{line.split()[0]} 32000\n" for line in lines)
            Path(name, "utt2num_samples").write_text(samples)
        Path("config.yaml").write_text("frontend_conf: {hop_length: 160}\n")
        ok("make_tokens", "--text", "teacher/text", "--token_type", token_type, "--nbpe", "20",
           "--out", "tokens")  # fmt: skip
        words = ["check_text", "--token_list", "tokens/tokens.txt", "--token_type", token_type]
        words += ["--bpemodel", "tokens/bpe.model", "--out", "coverage.txt"]
        words += ["--config", "config.yaml"]
        for name in texts:
            words += ["--test_data" if name.startswith("test") else "--data", name]
        return words

    return make


def upper(lines):
    return [line[:3] + line[3:].upper() for line in lines]


@pytest.mark.parametrize("token_type", ["char", "bpe"])
@pytest.mark.parametrize("name", ["train", "dev"])
def test_a_teacher_of_lower_case_and_a_corpus_of_upper_case(token_type, name, sets, cli):
    others = {"train": LOWER, "dev": LOWER}
    code, err = cli(*sets(token_type, **{**others, name: upper(LOWER)}))
    assert code == 1
    line = err.splitlines()[-1]
    # 46 letters and 12 blanks; sentencepiece puts one more before the first word.
    share = "46 of 58 characters (79.31%)" if token_type == "char" else "46 of 60 characters"
    assert f"check_text: error: {name}/text: {share}" in line
    assert "are <unk>: 'E' (U+0045) 6 times, 'T' (U+0054) 5 times" in line
    assert "e.g. in u0; the tokens have these letters in lower case only; " in line
    assert line.endswith("or allow it with --max_unk_share")
    assert not Path("coverage.txt").exists()


@pytest.mark.parametrize("token_type", ["char", "bpe"])
def test_a_few_unknown_characters_are_told(token_type, sets, ok, caplog):
    caplog.set_level(logging.INFO)
    words = sets(token_type, train=LOWER, dev=[*LOWER * 2, "u9 cat\xa0dog"][-3:])
    ok(*words, "--max_unk_share", "0.05")
    assert "train/text: the tokens of tokens/tokens.txt cover it" in caplog.text
    if token_type == "char":
        assert "dev/text: 1 of 65 characters (1.54%) are <unk>: '\xa0' (U+00A0)" in caplog.text
        code_line = Path("coverage.txt").read_text(encoding="utf-8").splitlines()
        assert code_line[0] == "train covered" and code_line[1].startswith("dev 1 of 65")


def test_a_test_set_is_only_warned_of(sets, ok, caplog):
    ok(*sets("char", train=LOWER, test=upper(LOWER)))
    assert (
        "test/text: the models cannot write this, and what scoring tells apart is errors: 46 "
        in caplog.text
    )
    assert [r.levelname for r in caplog.records if r.levelname != "INFO"] == ["WARNING"]


def test_the_share_is_an_option(sets, cli):
    words = sets("char", train=[*LOWER, "u2 \xe9t\xe9"])
    code, err = cli(*words, "--max_unk_share", "0.01")
    assert (
        code == 1 and "2 of 61 characters (3.28%) are <unk>: '\xe9'" in err and "case" not in err
    )
    assert cli(*words, "--max_unk_share", "0.04")[0] == 0
    assert cli(*words, "--max_unk_share", "1")[0] == 0


def test_text_that_sentencepiece_rewrites_is_told(sets, ok, caplog):
    ok(*sets("bpe", train=LOWER, test=["u1 we like", "u2 \uff57e lik\uff45"]))
    words = "test/text: 1 of 2 transcripts are spelled differently by the tokens of tokens/bpe."
    assert words in caplog.text and "(e.g. u2: '\uff57e lik\uff45')" in caplog.text


@pytest.mark.parametrize("token_type", ["char", "bpe"])
def test_unknown_is_what_is_unknown_to_espnet(token_type, sets, ok, caplog):
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.token_id_converter import TokenIDConverter

    text = "we L\xc4KE the cats Of this\u3000land \u2581x <unk> \u200b"
    words = sets(token_type, test=["u1 " + text], train=LOWER)
    ok(*words)
    split = build_tokenizer(token_type, bpemodel="tokens/bpe.model")
    tokens = split.text2tokens(text)
    ids = TokenIDConverter("tokens/tokens.txt").tokens2ids(tokens)
    count = sum(len(t.replace("<space>", " ")) for t, i in zip(tokens, ids) if i == 1)
    total = sum(len(t.replace("<space>", " ")) for t in tokens)
    assert f": {count} of {total} characters" in caplog.text


def test_the_config_may_bring_symbols_and_a_cleaner(sets, ok, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    words = sets("char", train=["u1 WE like <noise>"])
    Path("symbols").write_text("<noise>\n")
    tokens = Path("tokens/tokens.txt").read_text().replace("<unk>\n", "<unk>\n<noise>\n")
    Path("tokens/tokens.txt").write_text(tokens.replace("<sos/eos>", "W\nE\n<sos/eos>"))
    Path("config.yaml").write_text("non_linguistic_symbols: symbols\ncleaner: null\n")
    ok(*words)
    assert "cover it" in caplog.text


def test_more_tokens_than_frames_are_told(sets, ok, caplog):
    words = sets("char", train=LOWER)
    # 29 characters; a frame has 640 samples.
    Path("train/utt2num_samples").write_text(f"u0 {29 * 640 - 1}\nu1 {29 * 640}\n")
    ok(*words)
    assert "train/text: 1 of 2 transcripts have more tokens than their audio has" in caplog.text
    assert "(e.g. u0)" in caplog.text


@pytest.mark.parametrize("tokens", [None, b"a\nb\n", b"<unk>\n\xff\n"])
def test_no_token_list(tokens, sets, cli):
    words = sets("char", train=LOWER)
    Path("tokens/tokens.txt").unlink() if tokens is None else Path(
        "tokens/tokens.txt"
    ).write_bytes(tokens)
    code, err = cli(*words)
    assert code == 1 and "error: tokens/tokens.txt: " in err and err.count("\n") == 1
