"""How text becomes tokens."""

import pytest

from espnet_kd.scoring.units import as_sclite, tokenize


def test_characters_as_asr_sh():
    assert tokenize("  ab  c ", "wer") == ["ab", "c"]
    assert tokenize("  ab  c ", "cer") == ["a", "b", "<space>", "c"]
    assert tokenize("", "cer") == []


@pytest.mark.parametrize("score_type", ["word", "char"])
def test_tokens_are_those_of_espnet(score_type):
    build = pytest.importorskip("espnet2.text.build_tokenizer").build_tokenizer
    text = "it's  a tést 日本 x"
    stock = build(token_type=score_type).text2tokens(" ".join(text.split()))
    assert tokenize(text, {"word": "wer", "char": "cer"}[score_type]) == stock


def test_sclite_markup():
    assert as_sclite(["ÄBc", "@", "wor*", "*", "a\\b", "a-"]) == ["Äbc", "wor", "*", "ab", "a-"]
