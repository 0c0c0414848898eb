"""Write the lengths of a set's utterances and transcripts from its tables; no audio is read."""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import read_table, write_table


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", required=True, help="data directory of stages 3 and 4")
    parser.add_argument("--token_type", required=True, help="char, bpe or word")
    parser.add_argument("--bpemodel", default="none", help="model of --token_type bpe")
    parser.add_argument("--config", required=True, help="training config")
    parser.add_argument("--out", required=True, help="folder for speech_shape and text_shape")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Write both tables, as ESPnet's collection of statistics does."""
    args = get_parser().parse_args(cmd)
    from espnet_kd.espnet.training_tokenizer import training_tokenizer

    options = read_yaml(args.config, "it says how transcripts become tokens")
    split = training_tokenizer(args.token_type, args.bpemodel, options)
    texts, samples = (read_table(f"{args.data}/{name}") for name in ("text", "utt2num_samples"))
    lengths = {}
    for utt in read_table(f"{args.data}/wav.scp"):
        for name, table in (("text", texts), ("utt2num_samples", samples)):
            if utt not in table:
                raise UserError(f"{args.data}/{name}: lacks '{utt}'; run stages 3 and 4 again")
        lengths[utt] = samples[utt], str(len(split(texts[utt])))
    for name, column in (("speech_shape", 0), ("text_shape", 1)):
        write_table(Path(args.out) / name, {utt: pair[column] for utt, pair in lengths.items()})


if __name__ == "__main__":
    main()
