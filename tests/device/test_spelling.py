"""Tokens to words."""

import pytest

from espnet_kd.device.spelling import Spelling, Word

CHARS = ["<blank>", "<unk>", "<space>", "A", "B"]
PIECES = ["<blank>", "<unk>", "\u2581", "\u2581he", "llo", "\u2581A"]


@pytest.mark.parametrize(
    ("tokens", "kind", "labels", "words"),
    [
        (CHARS, "char", [2, 3, 4, 2, 2, 4], [Word("AB", 1, 3), Word("B", 5, 6)]),
        (CHARS, "char", [3, 2], [Word("A", 0, 1)]),
        (CHARS, "char", [], []),
        (
            PIECES,
            "bpe",
            [3, 4, 5, 2, 4],
            [Word("hello", 0, 2), Word("A", 2, 3), Word("llo", 4, 5)],
        ),
        (CHARS, "word", [3, 4], [Word("A", 0, 1), Word("B", 1, 2)]),
    ],
)
def test_words(tokens, kind, labels, words):
    spelling = Spelling(tokens, kind)
    assert spelling.words(labels) == words
    assert spelling.text(labels) == " ".join(w.text for w in words)
