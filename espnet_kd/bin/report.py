r"""Report a run: exp/RESULTS.md, exp/results.json and plots.

    python -m espnet_kd.bin.report --exp exp --inference_tag decode_x \
        --test_sets "test_seen test_new" \
        --model teacher=exp/asr_teacher --model stage1=exp/asr_stage1
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from espnet_kd.cli import new_parser, watts
from espnet_kd.common.records import RESULTS
from espnet_kd.errors import UserError, check_name, run_main
from espnet_kd.fileio import atomic_open
from espnet_kd.report.bootstrap_options import (
    add_bootstrap_options,
    add_margin,
    check_bootstrap,
    margin_of,
)
from espnet_kd.report.caveats import warnings
from espnet_kd.report.environment import environment
from espnet_kd.report.findings import Sources, read_content
from espnet_kd.report.markdown import first_paragraph, results_md
from espnet_kd.report.models import parse_models
from espnet_kd.report.plots import draw
from espnet_kd.report.size_family import Margin
from espnet_kd.report.variants import parse_exported
from espnet_kd.spec.plan import load_plan


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="folder to write the report in")
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=DIR[:FILE.pth]",
        help="once for each model; the first is the first teacher, then students by stage",
    )
    parser.add_argument("--inference_tag", required=True, help="name of the decoding directory")
    parser.add_argument(
        "--decoding",
        choices=("aligned", "stock"),
        help="how chunks were decoded there (bin/decode); default: not chunk by chunk",
    )
    parser.add_argument(
        "--stock_tag",
        help="name of the decoding directory of ESPnet's own streaming, whose WERs are shown too",
    )
    parser.add_argument("--test_sets", nargs="+", required=True, help="names of the test sets")
    parser.add_argument(
        "--inference_model",
        default="valid.loss_transducer.ave.pth",
        help="checkpoint in each DIR that does not name its own",
    )
    parser.add_argument(
        "--title", default="Progressive compression: teacher and students", help="headline"
    )
    parser.add_argument(
        "--left_out",
        action="append",
        default=[],
        metavar="NAME",
        help="once for each model that the run is to have and has not scored; the report says so",
    )
    parser.add_argument(
        "--also_on",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="once for each other path that would have made this very model, and has it instead",
    )
    parser.add_argument("--note", help="shown first, e.g. 'synthetic speech'")
    parser.add_argument("--command", help="command to show that made the run; default: this one")
    parser.add_argument(
        "--speed", type=Path, help="speed.json of measure_speed; without it there is no RTF"
    )
    parser.add_argument(
        "--delay", type=Path, help="delay.json of measure_delay; without it there are no delays"
    )
    parser.add_argument(
        "--exported",
        action="append",
        default=[],
        metavar="NAME/FORMAT=DIR",
        help="once for each exported folder, with the name of its model",
    )
    parser.add_argument(
        "--window",
        action="append",
        default=[],
        metavar="MS=TAG",
        help="once for each decoding in chunks of another length: name of its directory",
    )
    parser.add_argument(
        "--train_watts",
        type=watts,
        help="power in watts that the machine took while training; without it there are no kWh",
    )
    parser.add_argument("--plan", help="compression plan of the run, which may name a margin")
    add_bootstrap_options(parser)
    add_margin(parser)
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    words = sys.argv[1:] if cmd is None else cmd
    args = get_parser().parse_args(words)
    test_sets = " ".join(args.test_sets).split()
    if not test_sets or len(set(test_sets)) != len(test_sets):
        raise UserError(f"--test_sets '{' '.join(test_sets)}': name each test set once")
    check_bootstrap(args)
    if args.exp.exists() and not args.exp.is_dir():
        raise UserError(f"--exp {args.exp}: a file; the folder of the run is expected")

    models = parse_models(args.model, args.inference_model)
    content = read_content(
        models,
        args.inference_tag,
        test_sets,
        args.draws,
        args.seed,
        Sources(
            args.speed,
            args.decoding,
            args.stock_tag,
            _windows(args.window),
            parse_exported(args.exported, [m.name for m in models]),
            args.delay,
            _also_on(args.also_on, [m.name for m in models]),
            args.train_watts,
        ),
        args.draw,
        margin_of(args, _planned(args.plan)),
    )
    env = environment(args.command or f"python -m espnet_kd.bin.report {shlex.join(words)}")

    args.exp.mkdir(parents=True, exist_ok=True)
    plots = draw(content, args.exp)
    if plots is None:
        print("report: no plots: matplotlib is missing (pip install matplotlib)", file=sys.stderr)
    head = {"title": args.title, "note": args.note, "left_out": args.left_out}
    results = {**head, **content.to_json(args.exp), "environment": env}
    text = results_md(content, env, plots or [], args.title, args.note, args.left_out)
    RESULTS.write(args.exp, results)
    with atomic_open(args.exp / "RESULTS.md") as f:
        f.write(text)
    print(first_paragraph(content))
    for sentence in warnings(content.rows, test_sets):
        print(f"report: warning: {sentence}", file=sys.stderr)
    for path in (args.exp / "RESULTS.md", args.exp / RESULTS.file, *(plots or [])):
        print(f"Write {path}")


def _planned(plan: Optional[str]) -> Optional[Margin]:
    margin = load_plan(plan).margin if plan else None
    return None if margin is None else Margin(margin, f"margin in {plan}")


def _also_on(options: Sequence[str], models: Sequence[str]) -> Dict[str, List[str]]:
    paths: Dict[str, List[str]] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (equals and path):
            raise UserError(f"--also_on {option}: not of the form NAME=PATH")
        check_name(f"--also_on {option}: no model", name, models)
        paths.setdefault(name, []).append(path)
    return paths


def _windows(options: Sequence[str]) -> Dict[str, str]:
    windows = {}
    for option in options:
        window, equals, tag = option.partition("=")
        if not (equals and tag and window.isdigit()):
            raise UserError(f"--window {option}: not of the form MILLISECONDS=TAG")
        windows[window] = tag
    return windows


if __name__ == "__main__":
    main()
