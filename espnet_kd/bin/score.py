r"""Score decoded text: WER and CER with sclite's counts.

    python -m espnet_kd.bin.score --ref dump/raw/test/text \
        --hyp exp/asr_x/decode_y/test/text --out exp/asr_x/decode_y/test

Writes score_wer/ and score_cer/ (ref.trn, hyp.trn, result.txt, counts.tsv) as stage 13 of
ESPnet's asr.sh does; without sclite our scorer counts the same. A file utt2condition
('<utt> <label>') beside --ref is copied: the report breaks the error rates down by label. So is
utt2source ('<utt> <recording>'), which says what of a set was made of one recording.
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import read_table
from espnet_kd.scoring.conditions import copy_labels
from espnet_kd.scoring.score import pair_up, score, warn
from espnet_kd.scoring.units import TYPES


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--ref", type=Path, required=True, help="text of the test set")
    parser.add_argument("--hyp", type=Path, required=True, help="decoded text")
    parser.add_argument("--out", type=Path, required=True, help="score_* are made in here")
    parser.add_argument("--utt2spk", type=Path, help="default: beside --ref")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    refs = read_table(args.ref)
    hyps = pair_up(refs, read_table(args.hyp), args.ref, args.hyp)
    utt2spk = args.utt2spk or args.ref.with_name("utt2spk")
    speakers = read_table(utt2spk)
    for utt in refs:
        if utt not in speakers:
            raise UserError(f"{utt2spk}: no speaker for '{utt}' of {args.ref}")
    copy_labels(args.ref.parent, refs, args.out)
    left_out = args.ref.with_name("left_out")
    if left_out.exists():
        count = len(left_out.read_text(encoding="utf-8").splitlines())
        warn(f"{count} utterances of this set could not be used and are not scored: {left_out}")
    for score_type in TYPES:
        out = args.out / f"score_{score_type}"
        result = score(refs, hyps, speakers, out, score_type)
        print(f"Write {score_type} result in {out}/result.txt")
        rows = [line for line in result.splitlines() if "SPKR" in line or "Avg" in line]
        print(*rows[:2], sep="\n")


if __name__ == "__main__":
    main()
