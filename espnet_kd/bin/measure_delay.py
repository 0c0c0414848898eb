r"""Measure how late the tokens of a report's models come, and write delay.json.

    python -m espnet_kd.bin.measure_delay --model teacher=exp/asr_teacher \
        --model stage1=exp/kd_stage1 --model stage1/int8=exp/kd_stage1/exported/int8 \
        --data dump/raw/test --inference_args "--streaming true" --out exp/delay.json

The delay of a token is the time from which on a device can show it, minus that at which the first
model, hearing the whole utterance, has it in an alignment of the transcript. All models decode by
greedy search, at most an hour of the sets together, and their word errors are counted, too.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.common.records import DELAY
from espnet_kd.deploy.measuring import add_measuring_options, artifacts_of, decoding_words
from espnet_kd.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add_measuring_options(parser)
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Measure."""
    args = get_parser().parse_args(cmd)
    models = artifacts_of(args)
    aligner = next(iter(models))
    if models[aligner].runtime != "espnet":
        raise UserError(f"--model {aligner}=...: the first model aligns: name an experiment first")
    words = decoding_words(args, DELAY)

    from espnet_kd.deploy import delay  # imports numpy and, in the end, ESPnet

    figures = delay.measure(models, aligner, delay.choose(args.data), words)
    DELAY.write(args.out.parent, figures)


if __name__ == "__main__":
    main()
