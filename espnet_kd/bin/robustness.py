r"""Compare what conditions cost models: ROBUSTNESS.md and robustness.json.

    python -m espnet_kd.bin.robustness --exp exp --inference_tag decode_x --test_sets test \
        --model teacher=exp/asr_x --model stage1=exp/kd_x_stage1

The first model is the teacher. Stage 22 of asr_kd.sh calls it. Runs with other seeds are pooled by

    python -m espnet_kd.bin.robustness --run exp/seed1 --run exp/seed2 --exp exp/pooled

into ROBUSTNESS.md and robustness_pooled.json.
"""

import argparse
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from espnet_kd.cli import check_out, new_parser
from espnet_kd.common.json_file import rounded, write_json
from espnet_kd.common.records import ROBUSTNESS, heard_experiments, seen_from
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import atomic_open
from espnet_kd.report.bootstrap_options import add_bootstrap_options, check_bootstrap
from espnet_kd.report.interactions import Heard, interactions, pool, read_heard
from espnet_kd.report.models import Model, parse_models
from espnet_kd.report.robustness_page import pooled_json, pooled_page, robustness_page
from espnet_kd.scoring.bootstrap import DRAWS, SEED

PAGE = "ROBUSTNESS.md"
POOLED = "robustness_pooled.json"


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--exp", type=Path, required=True, help="folder to write into")
    add("--model", action="append", default=[], metavar="NAME=DIR", help="the teacher first")
    add("--inference_tag", default="", help="name of the directories of decodings")
    add("--test_sets", default="", help="names of the test sets")
    help_ = "folder of a run that stage 22 is through with; several are pooled"
    add("--run", action="append", type=Path, default=[], metavar="EXP", help=help_)
    add_bootstrap_options(parser)
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Compare."""
    args = get_parser().parse_args(cmd)
    check_bootstrap(args)
    check_out("--exp", args.exp / PAGE, "a file", "exp/ROBUSTNESS.md")
    if args.run:
        _check_runs(args)
        heard = [_heard_in(run, args.draw) for run in args.run]
        runs = [str(run) for run in args.run]
        pooled = pool(heard)
        page = pooled_page(pooled, heard[0], runs)
        write_json(args.exp / POOLED, rounded(pooled_json(pooled, heard[0], runs)))
    else:
        sets = args.test_sets.split()
        if len(args.model) < 2 or not sets or not args.inference_tag:
            raise UserError(
                "--model for the teacher and a student, --test_sets and --inference_tag are needed"
            )
        models = parse_models(args.model, "")
        mine = read_heard(models, args.inference_tag, sets, args.draw)
        rows = interactions(mine, args.draws, args.seed)
        page = robustness_page(rows, mine, args.inference_tag)
        record = {
            "inference_tag": args.inference_tag,
            "test_sets": sets,
            "models": {m.name: str(m.dir) for m in models},
            "relative_dirs": {m.name: seen_from(args.exp, m.dir) for m in models},
            "drawn": {h.test_set: h.grouping.to_json() for h in mine},
            "under": [row.to_json() for row in rows],
        }
        ROBUSTNESS.write(args.exp, record)
    with atomic_open(args.exp / PAGE) as f:
        f.write(page)
    print(f"wrote {args.exp / PAGE}")


def _check_runs(args: argparse.Namespace) -> None:
    """Refuse what cannot be pooled, and a place where a run's own page would be lost.

    Raises:
        UserError: fewer than two different runs, runs that share a student, options of a single
            one, or such a place.
    """
    single = [key for key in ("model", "inference_tag", "test_sets") if getattr(args, key)]
    if single:
        raise UserError(f"--{single[0]}: is of one run; those of --run say it themselves")
    drawn = [key for key, usual in (("draws", DRAWS), ("seed", SEED))
             if getattr(args, key) != usual]  # fmt: skip
    if drawn:
        raise UserError(
            f"--{drawn[0]}: nothing is drawn where runs are pooled (--run): their variance is "
            "estimated; leave it out"
        )
    if len({run.resolve() for run in args.run}) < max(2, len(args.run)):
        raise UserError("--run: name two folders of runs or more, each once")
    if (args.exp / ROBUSTNESS.file).exists():
        raise UserError(
            f"--exp {args.exp}: holds the {PAGE} of a run, which would be written over; name "
            "another folder"
        )
    reported: Dict[Path, Path] = {}
    for run in args.run:
        _, *students = heard_experiments(run, ROBUSTNESS.read(run)).values()
        for exp in students:  # they may have one teacher
            other = reported.setdefault(exp.resolve(), run)
            if other != run:
                raise UserError(f"--run {other} and --run {run}: both heard {exp}")


def _heard_in(run: Path, drawn_by: str) -> List[Heard]:
    """Read what the models of a finished run made of all conditions."""
    record = ROBUSTNESS.read(run)
    heard = heard_experiments(run, record).items()
    models = [Model(name, k, folder, Path()) for k, (name, folder) in enumerate(heard)]
    return read_heard(models, record["inference_tag"], record["test_sets"], drawn_by)


if __name__ == "__main__":
    main()
