"""Stage 1 with --corpus: a corpus of one's own -> data/<set> for training, validation, tests."""

import argparse
import hashlib
import json
import logging
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, share, str2bool
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.import_corpus import KINDS, SetNames, import_corpus
from espnet_kd.data.kaldi_dir import write_data_dir
from espnet_kd.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--corpus", required=True, help="file or folder to read")
    add(
        "--data",
        choices=("", *KINDS),
        default="",
        help="csv, tsv, jsonl: a table with a column of sound files and one of transcripts, or a "
        "folder with a table a set; folder: sound files with a .txt of the same name beside each; "
        "kaldi: data directories of Kaldi or ESPnet, dump/raw included; none: guess",
    )
    add("--train_set", default="train", help="name of the training set")
    add("--valid_set", default="dev", help="name of the validation set")
    add("--test_sets", default="test", help="names of the test sets, separated by spaces")
    add("--out", default="data", help="folder in which a data directory a set is written")
    add(
        "--max_bad_share",
        type=share,
        default=0.02,
        help="refuse if a larger share lacks audio or transcript",
    )
    add(
        "--digest",
        type=str2bool,
        default=False,
        help="print a checksum of what would be written, the audio itself excepted, and write "
        "nothing",
    )
    add(
        "--untranscribed",
        type=str2bool,
        default=False,
        help="transcripts of the training set may be missing: a teacher's take their place",
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Import the corpus."""
    args = get_parser().parse_args(cmd)
    if not args.corpus.strip():
        raise UserError("--corpus is empty; name a file or folder")
    names = SetNames(args.train_set, args.valid_set, tuple(args.test_sets.split()))
    bad = BadItems(args.corpus, args.max_bad_share)
    corpus = Path(args.corpus).expanduser()
    sets = import_corpus(args.data, corpus, names, bad, args.untranscribed)
    if args.digest:
        print(hashlib.sha256(json.dumps(sets, sort_keys=True).encode()).hexdigest()[:16])
        return
    for name, tables in sets.items():
        write_data_dir(Path(args.out) / name, tables)
        bad.write(Path(args.out) / name)
    logging.info(f"wrote {', '.join(str(Path(args.out) / name) for name in sets)}")


if __name__ == "__main__":
    main()
