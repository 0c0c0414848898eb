"""Tokens to text: characters with a space symbol, pieces with a mark, whole words."""

import dataclasses
from pathlib import Path
from typing import List, Sequence

from espnet_kd.device.description import REMAKE, TOKENS
from espnet_kd.errors import UserError, shown

SPACE = "<space>"  # among characters
MARK = "\u2581"  # with which a piece begins that begins a word


@dataclasses.dataclass(frozen=True)
class Word:
    """A word and the places of its labels: from the first up to, without, the last."""

    text: str
    first: int
    last: int


def read_tokens(folder: Path) -> List[str]:
    """Read `tokens.txt`: a line `<token> <id>` each, by rising numbers from 0.

    Raises:
        UserError: there is none, or a line is another.
    """
    path = folder / TOKENS
    tokens: List[str] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; {REMAKE}") from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        token, _, index = line.rpartition(" ")
        if not token or index != str(len(tokens)):
            raise UserError(
                f"{path}: line {number}: expected '<token> {len(tokens)}', found {shown(line)}; "
                f"{REMAKE}"
            )
        tokens.append(token)
    if not tokens:
        raise UserError(f"{path}: no tokens; {REMAKE}")
    return tokens


class Spelling:
    """The text that labels spell.

    Args:
        tokens: All tokens, by label.
        token_type: `char`, `bpe` or `word`.
    """

    def __init__(self, tokens: Sequence[str], token_type: str) -> None:
        self.tokens, self.token_type = tokens, token_type

    def words(self, labels: Sequence[int]) -> List[Word]:
        """Return the words of some labels."""
        words: List[Word] = []
        text, first = "", 0
        for place, label in enumerate(labels):
            token = self.tokens[label]
            space, begins = token == SPACE, self.token_type == "word"
            if self.token_type == "bpe" and token.startswith(MARK):
                token, begins = token[len(MARK) :], True
            if (space or begins) and text:
                words.append(Word(text, first, place))
                text = ""
            if not space:
                first = first if text else place
                text += token
        return words + ([Word(text, first, len(labels))] if text else [])

    def text(self, labels: Sequence[int]) -> str:
        """Return the words of some labels with spaces between them."""
        return " ".join(word.text for word in self.words(labels))
