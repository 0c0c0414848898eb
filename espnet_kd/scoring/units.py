"""Text to scored tokens: split as ESPnet's asr.sh does, compared as sclite does."""

import re
import string
from typing import List

SPACE = "<space>"
TYPES = ("wer", "cer")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def tokenize(text: str, score_type: str) -> List[str]:
    """Split a transcript into words (`wer`) or characters (`cer`), as asr.sh stage 13.

    Source: `espnet2.bin.tokenize_text -f 2- --token_type {word,char}`; runs of white
    space count as one, and a space between words is the character `<space>`.
    """
    words = text.split()
    if score_type == "wer":
        return words
    return [SPACE if c == " " else c for c in " ".join(words)]


def as_sclite(tokens: List[str]) -> List[str]:
    r"""Return `tokens` as sclite compares them.

    Checked against sclite 2.10: only ASCII letters lose their case (its default has no
    notion of UTF-8), `@` is the empty word, a last `*` is an annotation, `\` escapes.
    Not followed: `{a / b}` (alternatives) and lines that begin with `;;` or `**`
    (comments); `score.py` warns when these make a difference.
    """
    keys = [re.sub(r"\\(.?)", r"\1", token.translate(_LOWER)) for token in tokens if token != "@"]
    return [key[:-1] if len(key) > 1 and key.endswith("*") else key for key in keys]
