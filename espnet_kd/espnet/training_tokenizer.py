"""What splits a transcript into tokens in a training: ours where it can, else ESPnet's."""

from typing import Any, Mapping

from espnet_kd.data.tokens import Tokenizer, tokenizer
from espnet_kd.errors import check_choice


def training_tokenizer(token_type: str, bpemodel: str, options: Mapping[str, Any]) -> Tokenizer:
    """Return what splits a transcript into tokens in a training with these options.

    Args:
        token_type: `char`, `bpe` or `word`.
        bpemodel: File of the BPE model; `none`: there is none.
        options: The training's config.

    Raises:
        UserError: no such type, or the BPE model cannot be read.
    """
    check_choice("--token_type", token_type, ("char", "bpe", "word"))
    cleaner, symbols = options.get("cleaner"), options.get("non_linguistic_symbols")
    if not (cleaner or symbols):
        return tokenizer(token_type, bpemodel)
    # Seldom, and slow: ESPnet's own.
    from espnet2.text.build_tokenizer import build_tokenizer
    from espnet2.text.cleaner import TextCleaner

    espnet_tokenizer = build_tokenizer(
        token_type=token_type,
        bpemodel=bpemodel,
        non_linguistic_symbols=symbols,
        g2p_type=options.get("g2p"),
    )
    clean = TextCleaner(cleaner)
    return lambda text: espnet_tokenizer.text2tokens(clean(text))
