r"""Measure how fast the models of a report decode, and write speed.json.

    python -m espnet_kd.bin.measure_speed --model teacher=exp/asr_teacher \
        --model stage1=exp/kd_stage1 --data dump/raw/test --inference_config conf/decode.yaml \
        --inference_args "--streaming true" --out exp/speed.json

All models decode the same few utterances in one process on one thread, in turn, so that
whatever else the machine does slows all of them alike; before, each loads and decodes in a
process of its own, whose peak memory is measured. What they recognise is not kept.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.common.records import SPEED
from espnet_kd.deploy.measuring import add_measuring_options, artifacts_of, decoding_words
from espnet_kd.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add_measuring_options(parser)
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Measure."""
    args = get_parser().parse_args(cmd)
    models, words = artifacts_of(args), decoding_words(args, SPEED)

    from espnet_kd.deploy import speed  # imports numpy and, in the end, ESPnet

    SPEED.write(args.out.parent, speed.measure(models, speed.choose(args.data), words))


if __name__ == "__main__":
    main()
