"""Options of command lines that measure all models of a report together."""

import argparse
import shlex
from pathlib import Path
from typing import Any, Dict, List

from espnet_kd.cli import check_out
from espnet_kd.common.json_file import Record
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.deploy.artifact import Artifact, is_exported, of_experiment, of_exported
from espnet_kd.errors import UserError
from espnet_kd.report.models import parse_models


def add_measuring_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of command lines that measure all models of a report together."""
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


def artifacts_of(args: argparse.Namespace) -> Dict[str, Artifact]:
    """Return the files of each model by its name.

    Raises:
        UserError: one is missing.
    """
    models = {
        m.name: of_exported(m.dir) if is_exported(m.dir) else of_experiment(m.dir, m.checkpoint)
        for m in parse_models(args.model, args.inference_model)
    }
    for path in (path for artifact in models.values() for path in artifact.files.values()):
        if not path.is_file():
            raise UserError(f"{path}: no such file; train the model first (stage 11 or 16)")
    return models


def decoding_words(args: argparse.Namespace, record: Record[Any]) -> List[str]:
    """Return the options of decoding, once it is known that the record can be written.

    Raises:
        UserError: they cannot be split, their config cannot be read, or `--out` is no such file.
    """
    try:
        words = shlex.split(args.inference_args)
    except ValueError as e:
        raise UserError(f"--inference_args {args.inference_args}: {e}") from None
    check_out("--out", args.out, "a JSON file", record.file)
    if args.out.name != record.file:
        raise UserError(f"--out {args.out}: the file must be called {record.file}")
    if args.inference_config:
        read_yaml(args.inference_config, "--inference_config names it")
        words = ["--config", args.inference_config, *words]
    return words
