r"""Measure how fast the models of a report decode, and write speed.json.

    python -m espnet_kd.bin.measure_speed --model teacher=exp/asr_teacher \
        --model stage1=exp/kd_stage1 --data dump/raw/test --inference_config conf/decode.yaml \
        --inference_args "--streaming true" --out exp/speed.json

All models decode the same few utterances in one process on one thread, in turn, so that
whatever else the machine does slows all of them alike; before, each loads and decodes in a
process of its own, whose peak memory is measured. What they recognise is not kept.
"""

import argparse
import shlex
from pathlib import Path

from espnet_kd.cli import new_parser
from espnet_kd.common.records import SPEED
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.deploy.artifact import is_exported, of_experiment, of_exported
from espnet_kd.errors import UserError, run_main
from espnet_kd.report.models import parse_models


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=DIR[:FILE.pth]",
        help="once for each model, as for the report; DIR may be an exported folder, too",
    )
    parser.add_argument(
        "--inference_model",
        default="valid.loss_transducer.ave.pth",
        help="checkpoint in each DIR that does not name its own",
    )
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="once for each set of dump/raw"
    )
    parser.add_argument("--inference_config", help="decoding config")
    parser.add_argument("--inference_args", default="", help="other options of decoding")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


@run_main
def main(cmd=None) -> None:
    """Measure."""
    args = get_parser().parse_args(cmd)
    models = {
        m.name: of_exported(m.dir) if is_exported(m.dir) else of_experiment(m.dir, m.checkpoint)
        for m in parse_models(args.model, args.inference_model)
    }
    for path in (path for artifact in models.values() for path in artifact.files.values()):
        if not path.is_file():
            raise UserError(f"{path}: no such file; train the model first (stage 11 or 16)")
    try:
        words = shlex.split(args.inference_args)
    except ValueError as e:
        raise UserError(f"--inference_args {args.inference_args}: {e}") from None
    if args.out.name != SPEED.file:
        raise UserError(f"--out {args.out}: the file must be called {SPEED.file}")
    if args.inference_config:
        read_yaml(args.inference_config, "--inference_config names it")
        words = ["--config", args.inference_config, *words]

    from espnet_kd.deploy import speed  # imports numpy and, in the end, ESPnet

    SPEED.write(args.out.parent, speed.measure(models, speed.choose(args.data), words))


if __name__ == "__main__":
    main()
