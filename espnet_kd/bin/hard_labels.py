"""Write a training set with a teacher's hypotheses in the place of the transcripts."""

import argparse
from pathlib import Path
from typing import Dict, Optional, Sequence

from espnet_kd.cli import new_parser, share
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.frames import samples_of_frame
from espnet_kd.data.hard_labels import hard_labels
from espnet_kd.data.kaldi_dir import read_data_dir, write_data_dir
from espnet_kd.data.tokens import tokenizer
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import read_table, write_table


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--hyp", required=True, help="decoded text of the training set")
    parser.add_argument("--data", required=True, help="the training set, of dump/raw")
    parser.add_argument("--speech_shape", required=True, help="lengths of its utterances")
    parser.add_argument("--config", required=True, help="training config: samples of a frame")
    parser.add_argument("--token_list", required=True, help="tokens.txt of the models")
    parser.add_argument("--token_type", required=True, choices=("char", "bpe", "word"))
    parser.add_argument("--bpemodel", default="none", help="model of --token_type bpe")
    parser.add_argument(
        "--out",
        required=True,
        help="directory to write, with the speech_shape and text_shape.<type> of its utterances",
    )
    parser.add_argument(
        "--max_dropped_share",
        type=share,
        default=0.1,
        help="refuse to leave out a larger share of the utterances",
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Write the data directory."""
    args = get_parser().parse_args(cmd)
    tables = read_data_dir(args.data)
    shapes = read_table(args.speech_shape)
    samples = samples_of_frame(read_yaml(args.config, "derive the student first"), args.config)
    frames = _frames(args.speech_shape, shapes, tables["text"], samples)
    tokens = tokenizer(args.token_type, args.bpemodel)
    labels = hard_labels(tables, read_table(args.hyp), frames, tokens, args.hyp)
    labels.refuse_beyond_share(args.max_dropped_share, args.hyp)

    out, vocabulary = Path(args.out), _count_lines(args.token_list)
    # ESPnet's batch sampler counts elements: length and width.
    lengths = {utt: f"{n},{vocabulary}" for utt, n in labels.lengths.items()}
    write_table(out / f"text_shape.{args.token_type}", lengths)
    write_table(out / "speech_shape", {utt: shapes[utt] for utt in lengths})
    write_data_dir(out, labels.tables)
    print(f"hard labels {out}: {labels.summary()}")


def _count_lines(path: str) -> int:
    try:
        with open(path, "rb") as f:
            return sum(1 for _ in f)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the token list first") from None


def _frames(
    path: str, shapes: Dict[str, str], utts: Dict[str, str], samples: int
) -> Dict[str, int]:
    """Encoder frames of each utterance, rounded down."""
    frames = {}
    for utt in utts:
        if utt not in shapes:
            raise UserError(f"{path}: lacks '{utt}'; collect the statistics of this set again")
        length = shapes[utt].partition(",")[0]
        if not length.isdecimal():
            raise UserError(f"{path}: '{utt}' has the length '{shapes[utt]}', not a number")
        frames[utt] = int(length) // samples
    return frames


if __name__ == "__main__":
    main()
