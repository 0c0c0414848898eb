"""Transcripts as they go into `dump/raw`: blanks between words, no markup, and what is odd."""

import logging
import re
import unicodedata
from collections import Counter
from typing import Callable, Container, Dict, List, Mapping, Optional, Set

from espnet_kd.data.tokens import BLANK, SOS_EOS, SPACE, UNK
from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, read_table

CHOICES = ("refuse", "remove", "keep")
# As `--cleaner` of ESPnet has them; some need a package of their own.
CLEANERS = ("tacotron", "jaconv", "vietnamese", "korean_cleaner", "whisper_en", "whisper_basic")
# <noise>, [laughter], {breath}: no language has them as words.
SYMBOL = re.compile(r"<(?=\S)[^<>]+(?<=\S)>|\[(?=\S)[^][]+(?<=\S)]|\{(?=\S)[^{}]+(?<=\S)}")
RESERVED = {BLANK, UNK, SOS_EOS, SPACE, "<s>", "</s>"}
NAMED = 5  # symbols in a message

# What is kept as it is, and named: a model learns it as letters.
ODD: Dict[str, Callable[[str], bool]] = {
    "letters that are not composed (Unicode NFC), beside which the composed ones are others": (
        lambda text: not unicodedata.is_normalized("NFC", text)
    ),
    "invisible characters (such as U+200B)": (
        lambda text: any(unicodedata.category(c) == "Cf" for c in text)
    ),
    "the mark of what could not be decoded (U+FFFD)": lambda text: "\ufffd" in text,
}


def clean_transcripts(
    texts: Mapping[str, str],
    symbols: str,
    label: str,
    clean: Optional[Callable[[str], str]] = None,
    removed: Container[str] = (),
) -> Dict[str, str]:
    """Return the transcripts with one blank between words.

    Whatever Unicode calls white space parts words, as it does in scoring. Other characters are
    left alone.

    Args:
        texts: Utterance -> transcript.
        symbols: Treatment of markup such as `<noise>`: `refuse`, `remove` or `keep`, that is,
            spell it out like any word.
        label: Name of the data directory, for messages.
        clean: Makes of a transcript the one that is learnt and scored; None: it is that.
        removed: Words that are taken out, such as `<noise>`, whatever `symbols` says.

    Raises:
        UserError: there is markup, and it is to be refused, or is a name of ESPnet's tokens; or
            there is nothing but empty transcripts, which could not be scored.
    """
    cleaned: Dict[str, str] = {}
    odd: Dict[str, List[str]] = {}  # what -> utterances
    marks: Counter = Counter()
    marked: Dict[str, str] = {}  # symbol -> utterance
    left_out: Counter = Counter()
    for utt, text in texts.items():
        words = " ".join(text.split())
        if removed:
            left_out.update(word for word in words.split() if word in removed)
            words = " ".join(word for word in words.split() if word not in removed)
        if not text.isascii():
            for what, applies in ODD.items():
                if applies(text):
                    odd.setdefault(what, []).append(utt)
            if any(c.isspace() and c not in " \t" for c in text):
                odd.setdefault("white space other than blanks, made blanks", []).append(utt)
        if some := SYMBOL.findall(words):
            marks.update(some)
            marked.update({symbol: utt for symbol in some if symbol not in marked})
            if symbols == "remove":
                words = " ".join(SYMBOL.sub(" ", words).split())
        if clean is not None:
            words = " ".join(clean(words).split())
        cleaned[utt] = words
    if not any(cleaned.values()):
        raise UserError(
            f"{label}/text: none of {len(texts)} transcripts holds a word; a line is "
            "'<utterance> <transcript>'"
        )
    if left_out:
        logging.warning(f"{label}/text: took out {_counted(left_out)}")
    for what, utts in odd.items():
        logging.warning(
            f"{label}/text: {len(utts)} of {len(texts)} transcripts hold {what} (e.g. {utts[0]})"
        )
    if marks:
        _symbols(marks, marked, symbols, label)
    return cleaned


def read_symbols(path: PathLike) -> Set[str]:
    """Read the words that are no language, such as `<noise>`, one a line.

    Raises:
        UserError: No such file, or not UTF-8.
    """
    return set(read_table(path)) - RESERVED


def _counted(words: Counter) -> str:
    return ", ".join(f"{word} {n} times" for word, n in words.most_common(NAMED))


def _symbols(marks: Counter, marked: Dict[str, str], symbols: str, label: str) -> None:
    """Refuse markup, or say what was done with it."""
    what = ", ".join(f"{s} {n} times (e.g. in {marked[s]})" for s, n in marks.most_common(NAMED))
    if len(marks) > NAMED:
        what += f" and {len(marks) - NAMED} others"
    if symbols == "remove":
        logging.warning(f"{label}/text: took symbols out of the transcripts: {what}")
        return
    reserved = sorted(RESERVED & marks.keys())
    if symbols == "keep" and reserved:
        raise UserError(
            f"{label}/text: {', '.join(reserved)} (e.g. in {marked[reserved[0]]}) is the name of "
            "a token of ESPnet's and cannot be text; --text_symbols remove takes it out"
        )
    if symbols == "refuse":
        raise UserError(
            f"{label}/text: symbols in the transcripts: {what}; models would learn to spell them "
            "letter by letter, and scoring would count them as words. --text_symbols remove takes "
            "them out of all sets, --text_symbols keep leaves them as text"
        )
    logging.warning(f"{label}/text: symbols are spelled out like words: {what}")
