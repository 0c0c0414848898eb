"""Which part of a text the tokens of a model cannot write: what becomes `<unk>`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, Mapping, Set, Tuple

from espnet_kd.data.tokens import SPACE, UNK, Tokenizer
from espnet_kd.errors import UserError, shown

WORD_MARK = "\u2581"  # begins a piece of sentencepiece that begins a word
NAMED = 5  # characters in a message


@dataclass
class Coverage:
    """Share of the text of a data set that the tokens cover.

    Attributes:
        characters: All characters, blanks between words included.
        unknown: Characters in tokens that are `<unk>`, by character.
        utterances: Utterances of the set.
        example: The first utterance with such a token.
        altered: Utterances whose tokens spell another text, although all are known.
        altered_example: The first of them.
        crowded: Utterances with more tokens than encoder frames.
        crowded_example: The first of them.
    """

    characters: int = 0
    unknown: Counter = field(default_factory=Counter)
    utterances: int = 0
    example: str = ""
    altered: int = 0
    altered_example: str = ""
    crowded: int = 0
    crowded_example: str = ""

    @property
    def share(self) -> float:
        """Share of the characters that become `<unk>`."""
        return sum(self.unknown.values()) / self.characters if self.characters else 0.0

    def describe(self) -> str:
        """Share, most frequent characters and an utterance."""
        named = ", ".join(
            f"'{c}' (U+{ord(c):04X}) {n} times" for c, n in self.unknown.most_common(NAMED)
        )
        more = len(self.unknown) - NAMED
        return (
            f"{sum(self.unknown.values())} of {self.characters} characters ({self.share:.2%}) are "
            f"{UNK}: {named}{f' and {more} others' if more > 0 else ''}, e.g. in {self.example}"
        )


def read_token_list(path: str) -> Set[str]:
    """Read `tokens.txt` as ESPnet does.

    Raises:
        UserError: it is missing, not UTF-8, has no `<unk>`, or a duplicate.
    """
    try:
        with open(path, encoding="utf-8") as f:
            lines = [line[0] + line[1:].rstrip() for line in f]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the token list first") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 ({e.reason} at byte {e.start})") from None
    tokens = set(lines)
    if UNK not in tokens:
        raise UserError(f"{path}: holds no {UNK}; it is no token list of ESPnet's")
    if len(tokens) < len(lines):
        duplicate = next(token for token in tokens if lines.count(token) > 1)
        raise UserError(f"{path}: duplicate token {shown(duplicate)}")
    return tokens


def measure(
    texts: Iterable[Tuple[str, str]],
    known: Set[str],
    tokenizer: Tokenizer,
    frames: Mapping[str, int],
) -> Coverage:
    """Count what of the texts is covered.

    Args:
        texts: Utterance and transcript of each, as ESPnet would read it.
        known: The token list.
        tokenizer: Splits text into tokens, as ESPnet would.
        frames: Encoder frames of utterances, where they are known.
    """
    coverage = Coverage()
    for utt, text in texts:
        coverage.utterances += 1
        tokens = tokenizer(text)
        spelled = [" " if token == SPACE else token.replace(WORD_MARK, " ") for token in tokens]
        coverage.characters += sum(map(len, spelled))
        if len(tokens) > frames.get(utt, len(tokens)):
            coverage.crowded += 1
            coverage.crowded_example = coverage.crowded_example or utt
        unknown = [s for token, s in zip(tokens, spelled) if token not in known]
        if unknown:
            coverage.unknown.update("".join(unknown))
            coverage.example = coverage.example or utt
        elif text.split() not in ("".join(spelled).split(), spelled):  # or tokens are words
            coverage.altered += 1
            coverage.altered_example = coverage.altered_example or utt
    return coverage


def other_case(unknown: Mapping[str, int], known: Iterable[str]) -> str:
    """Say so if most of what is unknown would be known in the other case; else `""`."""
    letters = set("".join(token for token in known if not token.startswith("<")))
    kinds: Dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper}
    for name, change in kinds.items():
        cured = sum(n for c, n in unknown.items() if change(c) != c and change(c) in letters)
        if 2 * cured > sum(unknown.values()):
            return f"the tokens have these letters in {name} case only; "
    return ""
