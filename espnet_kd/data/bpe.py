"""BPE model and token list, as `spm_train` in stage 5 of ESPnet's `asr.sh` makes them."""

import io
import re
from pathlib import Path
from typing import List, Sequence

from espnet_kd.data.tokens import write_token_list
from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open, atomic_path

MAX_BYTES = 4192  # of a sentence, by default of sentencepiece
META_PIECES = 3  # <unk>, <s>, </s>: replaced by ESPnet's <blank>, <unk>, <sos/eos>


def make_bpe(
    sentences: List[str],
    vocabulary: int,
    mode: str,
    out: Path,
    coverage: float = 1.0,
    symbols: Sequence[str] = (),
) -> None:
    """Train a BPE model; write `bpe.model`, `bpe.vocab` and, last, `tokens.txt` to `out`.

    Args:
        sentences: The text.
        vocabulary: Size of the token list, special tokens included.
        mode: `unigram` or `bpe`.
        out: The directory.
        coverage: Share of the text's characters that get tokens; the others become `<unk>`.
        symbols: Words that are tokens as they are.

    Raises:
        UserError: the text cannot give a vocabulary of this size.
    """
    import sentencepiece  # here: token lists of characters need none

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            # Below 4 sentencepiece has no room for its own and fails without a reason.
            vocab_size=max(vocabulary, 4),
            model_type=mode,
            character_coverage=coverage,
            user_defined_symbols=list(symbols),
            input_sentence_size=100000000,
            # Longer ones would be passed over without a word.
            max_sentence_length=max(MAX_BYTES, *(len(s.encode()) for s in sentences)),
            minloglevel=2,
        )
    except RuntimeError as e:
        raise UserError(_explain(str(e), vocabulary)) from None
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(len(processor))]
    with atomic_path(out / "bpe.model") as tmp, open(tmp, "wb") as f:
        f.write(model.getvalue())
    with atomic_open(out / "bpe.vocab") as f:
        f.writelines(f"{piece}\t{processor.get_score(i):g}\n" for i, piece in enumerate(pieces))
    write_token_list(out / "tokens.txt", pieces[META_PIECES:])


def _explain(error: str, vocabulary: int) -> str:
    too_large = re.search(r"Vocabulary size too high.*value <= (\d+)", error)
    if too_large:
        return (
            f"--nbpe {vocabulary} is too large for this text; the largest possible is "
            f"{too_large[1]}"
        )
    too_small = re.search(r"smaller than required_chars. \d+ vs (\d+)", error)
    if too_small:
        return (
            f"--nbpe {vocabulary} is too small for the characters of this text; the smallest "
            f"possible is {too_small[1]}"
        )
    return f"--nbpe {vocabulary}: sentencepiece failed: {' '.join(error.split())}"


def check_pieces(model: Path, tokens: List[str], where: str) -> None:
    """Refuse a BPE model whose pieces are not the tokens of a token list.

    Args:
        model: A `bpe.model`.
        tokens: The token list; names in angle brackets may be there beside the pieces.
        where: Origin of the list, for the message.

    Raises:
        UserError: the file is no BPE model, or they differ; names the first.
    """
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        pieces = [processor.id_to_piece(i) for i in range(len(processor))]
    except (RuntimeError, OSError) as e:
        reason = " ".join(str(e).split())
        raise UserError(f"{model}: not a BPE model of sentencepiece: {reason}") from None

    def plain(names: List[str]) -> "dict[str, None]":
        return {name: None for name in names if not (name[:1] == "<" and name[-1:] == ">")}

    of_model, of_list = plain(pieces), plain(tokens)
    for name, a, b in ((model, of_model, of_list), (where, of_list, of_model)):
        other = [piece for piece in a if piece not in b]
        if other:
            raise UserError(
                f"{model}: not the BPE model of {where}: {len(other)} of the {len(a)} pieces of "
                f"{name} are not in the other, '{other[0]}' is the first"
            )
