"""Stage 5: token lists equal to those of ESPnet's own tools."""

import random
import subprocess
import sys

import pytest

from espnet_kd.data.tokens import count_tokens, read_sentences

WORDS = "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE O'CLOCK Ä É 零 ß don't".split()


@pytest.fixture
def text(tmp_path):
    rng = random.Random(0)
    lines = [f"u{n:03d} {' '.join(rng.choices(WORDS, k=6))}\n" for n in range(200)]
    path = tmp_path / "text"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_characters_and_words_equal_espnet_s_tokenize_text(text, ok, tmp_path):
    tokenize_text = pytest.importorskip("espnet2.bin.tokenize_text")
    for token_type in ("char", "word"):
        # The options are those of stage 5 of asr.sh.
        tokenize_text.main(
            ["--token_type", token_type, "--input", str(text),
             "--output", str(tmp_path / "espnet.txt"), "--field", "2-", "--cleaner", "none",
             "--g2p", "none", "--write_vocabulary", "true", "--add_symbol", "<blank>:0",
             "--add_symbol", "<unk>:1", "--add_symbol", "<sos/eos>:-1"]
        )  # fmt: skip
        ok("make_tokens", "--text", text, "--token_type", token_type, "--out", tmp_path / "own")
        own = (tmp_path / "own" / "tokens.txt").read_text(encoding="utf-8")
        assert own == (tmp_path / "espnet.txt").read_text(encoding="utf-8")


def test_ties_stay_in_order_of_appearance():
    assert count_tokens(["BA A", "B"], "char") == ["B", "A", "<space>"]
    assert count_tokens(["Z Y X", "X"], "word") == ["X", "Z", "Y"]


def test_a_long_transcript_is_not_passed_over(ok, tmp_path):
    path = tmp_path / "text"
    path.write_text(f"u1 {'AB BA ' * 50}\nu2 {'CD DC ' * 1000}\n")
    ok("make_tokens", "--text", path, "--nbpe", 9, "--out", tmp_path)
    tokens = "".join((tmp_path / "tokens.txt").read_text().split("\n")[2:-2])
    assert set("ABCD") <= set(tokens)


@pytest.mark.parametrize("mode", ["unigram", "bpe"])
def test_bpe_equals_spm_train_and_the_lines_of_asr_sh(mode, text, ok, tmp_path):
    import sentencepiece

    sentences = tmp_path / "train.txt"
    sentences.write_text("\n".join(read_sentences(text)) + "\n", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(sentences), vocab_size=45, model_type=mode, model_prefix=str(tmp_path / "ref"),
        character_coverage=1.0, input_sentence_size=100000000, minloglevel=1,
    )  # fmt: skip
    vocab = (tmp_path / "ref.vocab").read_text(encoding="utf-8")
    out = tmp_path / "own"
    ok("make_tokens", "--text", text, "--token_type", "bpe", "--nbpe", 45, "--bpemode", mode,
       "--out", out)  # fmt: skip
    assert (out / "bpe.vocab").read_text(encoding="utf-8") == vocab
    tokens = (out / "tokens.txt").read_text(encoding="utf-8").splitlines()
    pieces = [line.split("\t")[0] for line in vocab.splitlines()]
    assert tokens == ["<blank>", "<unk>", *pieces[3:], "<sos/eos>"]
    assert len(tokens) == 45
    own = sentencepiece.SentencePieceProcessor(model_file=str(out / "bpe.model"))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "ref.model"))
    for sentence in read_sentences(text):
        assert own.encode(sentence) == reference.encode(sentence)


@pytest.mark.parametrize("mode", ["unigram", "bpe"])
def test_too_large_a_vocabulary_names_the_largest(mode, text, cli, tmp_path):
    argv = ["--text", text, "--token_type", "bpe", "--bpemode", mode, "--out", tmp_path / "own"]
    code, err = cli("make_tokens", *argv, "--nbpe", 5000)
    assert code == 1
    assert "--nbpe 5000 is too large for this text; the largest possible is " in err
    assert not (tmp_path / "own").exists()
    largest = int(err.split()[-1])
    assert cli("make_tokens", *argv, "--nbpe", largest)[0] == 0
    assert len((tmp_path / "own" / "tokens.txt").read_text().splitlines()) == largest
    assert cli("make_tokens", *argv, "--nbpe", largest + 1)[0] == 1


def test_importing_no_espnet_and_no_torch():
    # Stages 1 to 5 start in a tenth of a second because of it.
    verbs = "prepare_librispeech perturb_speed format_audio filter_lengths make_tokens".split()
    code = "import sys\n" + "".join(f"import espnet_kd.bin.{verb}\n" for verb in verbs)
    code += "assert not {'torch', 'espnet2', 'scipy', 'soxr'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_symbols_are_tokens_and_rare_characters_are_not(tmp_path, ok):
    lines = [f"u{n} the <noise> words\n" for n in range(200)]
    (tmp_path / "text").write_text("".join([*lines, "v Z\n"]))
    (tmp_path / "symbols").write_text("<noise>\n")
    for symbols in "<noise>", tmp_path / "symbols":
        out = tmp_path / f"out{len(str(symbols))}"
        ok("make_tokens", "--text", tmp_path / "text", "--nbpe", 13, "--bpe_nlsyms", symbols,
           "--bpe_char_cover", "0.99", "--out", out)  # fmt: skip
        tokens = (out / "tokens.txt").read_text().splitlines()
        assert "<noise>" in tokens and "Z" not in tokens
