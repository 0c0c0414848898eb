"""Check that the tokens of a model can write the transcripts of all sets, before it trains."""

import argparse
import logging
from pathlib import Path
from typing import Dict, Optional, Sequence

from espnet_kd.cli import check_out, new_parser, share
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.coverage import Coverage, measure, other_case, read_token_list
from espnet_kd.data.frames import samples_of_frame
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import atomic_open, read_table
from espnet_kd.progress import track


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--data", action="append", required=True, help="set to train or validate on"
    )
    parser.add_argument("--test_data", action="append", default=[], help="set to test on")
    parser.add_argument("--token_list", required=True, help="tokens.txt of the models")
    parser.add_argument("--token_type", required=True, help="char, bpe or word")
    parser.add_argument("--bpemodel", default="none", help="model of --token_type bpe")
    parser.add_argument("--config", required=True, help="training config")
    parser.add_argument(
        "--max_unk_share",
        type=share,
        default=0.02,
        help="refuse if a larger share of the characters of a set of --data becomes <unk>; test "
        "sets are only warned of",
    )
    parser.add_argument("--out", required=True, help="file for one line a set")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Measure every set."""
    args = get_parser().parse_args(cmd)
    check_out("--out", args.out, "a text file", "coverage.txt")
    known = read_token_list(args.token_list)
    from espnet_kd.espnet.training_tokenizer import training_tokenizer

    options = read_yaml(args.config, "it says how transcripts become tokens")
    split = training_tokenizer(args.token_type, args.bpemodel, options)
    samples = samples_of_frame(options, args.config)
    results: Dict[str, Coverage] = {}
    for folder in [*args.data, *args.test_data]:
        texts = read_table(Path(folder) / "text")
        lengths = read_table(Path(folder) / "utt2num_samples")
        frames = {utt: int(n) // samples for utt, n in lengths.items() if n.isdecimal()}
        pairs = track(texts.items(), f"check {folder}", len(texts))
        results[folder] = result = measure(pairs, known, split, frames)
        if not result.unknown:
            logging.info(f"{folder}/text: the tokens of {args.token_list} cover it")
        elif folder in args.test_data or result.share <= args.max_unk_share:
            what = "the models cannot write this, and what scoring tells apart is errors: "
            logging.warning(
                f"{folder}/text: {what if folder in args.test_data else ''}{result.describe()}"
            )
        if result.altered:
            logging.warning(
                f"{folder}/text: {result.altered} of {result.utterances} transcripts are spelled "
                f"differently by the tokens of {args.bpemodel} (e.g. {result.altered_example}: "
                f"'{texts[result.altered_example]}'); scoring compares with what was written"
            )
        if result.crowded:
            logging.warning(
                f"{folder}/text: {result.crowded} of {result.utterances} transcripts have more "
                f"tokens than their audio has encoder frames (e.g. {result.crowded_example}); CTC "
                "learns nothing of them: is it their audio, or the subsampling too strong?"
            )
    for folder in args.data:
        if results[folder].share > args.max_unk_share:
            raise UserError(
                f"{folder}/text: {results[folder].describe()}; "
                f"{other_case(results[folder].unknown, known)}write the transcripts as those that "
                f"{args.token_list} was made of, or allow it with --max_unk_share"
            )
    with atomic_open(args.out) as f:
        for folder, result in results.items():
            f.write(f"{folder} {result.describe() if result.unknown else 'covered'}\n")


if __name__ == "__main__":
    main()
