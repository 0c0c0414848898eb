"""Token lists as stage 5 of ESPnet's `asr.sh` makes them."""

from collections import Counter
from typing import Callable, Iterable, List

from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, atomic_open, read_table

BLANK, UNK, SOS_EOS, SPACE = "<blank>", "<unk>", "<sos/eos>", "<space>"
Tokenizer = Callable[[str], List[str]]


def read_sentences(path: PathLike) -> List[str]:
    """Return the non-empty transcripts of a Kaldi `text`, white space made single.

    Raises:
        UserError: no such file, or no transcript in it.
    """
    sentences = [" ".join(words.split()) for words in read_table(path).values()]
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise UserError(f"{path}: no transcript in it")
    return sentences


def count_tokens(sentences: Iterable[str], token_type: str) -> List[str]:
    """Return characters or words, the most frequent first, ties in order of appearance.

    This is what `espnet2.bin.tokenize_text --write_vocabulary true` does, without its
    ten seconds of imports.
    """
    counter: Counter = Counter()
    for sentence in sentences:
        counter.update(sentence if token_type == "char" else sentence.split())
    tokens = sorted(counter, key=lambda token: -counter[token])
    return [SPACE if token == " " else token for token in tokens]


def write_token_list(path: PathLike, tokens: List[str]) -> None:
    """Write `tokens` between `<blank>`, `<unk>` and `<sos/eos>`.

    Raises:
        UserError: the text contains one of these symbols as a word.
    """
    clash = {BLANK, UNK, SOS_EOS}.intersection(tokens)
    if clash:
        raise UserError(f"{path}: the text contains the reserved token {min(clash)}")
    with atomic_open(path) as f:
        f.writelines(f"{token}\n" for token in [BLANK, UNK, *tokens, SOS_EOS])


def tokenizer(token_type: str, bpemodel: str) -> Tokenizer:
    """Return what splits text into tokens.

    Args:
        token_type: `char`, `word` or `bpe`.
        bpemodel: The sentencepiece model of `bpe`.

    Raises:
        UserError: the model cannot be read.
    """
    if token_type == "char":
        return lambda text: [SPACE if c == " " else c for c in text]
    if token_type == "word":
        return str.split
    import sentencepiece  # here: the others need none

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=bpemodel)
    except (OSError, RuntimeError) as e:
        raise UserError(f"--bpemodel {bpemodel}: not a sentencepiece model: {e}") from None
    return lambda text: pieces.encode(text, out_type=str)
