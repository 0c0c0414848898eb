"""Stage 5: the token list, and for BPE its model, from the training transcripts."""

import argparse
import logging
from pathlib import Path
from typing import List, Optional, Sequence

from espnet_kd.cli import new_parser, positive_int, share
from espnet_kd.data.bpe import make_bpe
from espnet_kd.data.tokens import count_tokens, read_sentences, write_token_list
from espnet_kd.errors import run_main
from espnet_kd.fileio import read_table


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--text", required=True, help="Kaldi text file of the training set")
    parser.add_argument(
        "--token_type", choices=("char", "bpe", "word"), default="bpe", help="kind of tokens"
    )
    parser.add_argument("--nbpe", type=positive_int, default=500, help="size of the BPE list")
    parser.add_argument(
        "--bpemode", choices=("unigram", "bpe"), default="unigram", help="kind of BPE model"
    )
    parser.add_argument(
        "--bpe_char_cover", type=share, default=1.0, help="share of characters that BPE covers"
    )
    parser.add_argument(
        "--bpe_nlsyms", default="", help="words that are BPE tokens as they are: a,b or a file"
    )
    parser.add_argument("--out", required=True, help="directory for tokens.txt and bpe.model")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Make the token list."""
    args = get_parser().parse_args(cmd)
    out = Path(args.out)
    sentences = read_sentences(args.text)
    if args.token_type == "bpe":
        symbols = _symbols(args.bpe_nlsyms)
        make_bpe(sentences, args.nbpe, args.bpemode, out, args.bpe_char_cover, symbols)
    else:
        write_token_list(out / "tokens.txt", count_tokens(sentences, args.token_type))
    with open(out / "tokens.txt", encoding="utf-8") as f:
        logging.info(f"wrote {out / 'tokens.txt'}: {sum(1 for _ in f)} tokens")


def _symbols(words: str) -> List[str]:
    """Read `a,b`, or a file with one a line, as ESPnet does."""
    if Path(words).is_file():
        return list(read_table(words))
    return [word for word in words.split(",") if word]


if __name__ == "__main__":
    main()
