r"""Derive a compression stage's student: its sizes, its first weights, its training config.

    python -m espnet_kd.bin.derive_student --plan conf/compression.yaml --stage 1 \
        --teacher_exp exp/asr_teacher --train_config conf/train_student.yaml \
        --data dump/raw/valid --out exp/asr_kd_stage1

With `--data`, what is left of the teacher before any training is measured on some of its
utterances, and the plan may choose blocks, units and sizes by measurement.
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

import yaml

from espnet_kd.cli import new_parser, positive_int, str2bool
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import run_main
from espnet_kd.fileio import atomic_open
from espnet_kd.plan.baselines import scheduled
from espnet_kd.plan.selection import add_plan_options, student_of
from espnet_kd.plan.student import Student
from espnet_kd.run.training_options import ESPNET_EPOCHS, update_config
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import TrainingConfig, read_config


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    model = "valid.loss_transducer.ave.pth"
    add_plan_options(parser)
    parser.add_argument(
        "--training_only",
        type=str2bool,
        default=False,
        help="only bring student.yaml up to date: its epochs, its batches, and what else does not "
        "change what is learnt",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--stage", type=int, help="stage of the plan, from 1")
    which.add_argument("--student", help="name of a student of any path")
    parser.add_argument("--teacher_exp", required=True, help="experiment of the teacher")
    parser.add_argument("--teacher_model", default=model, help="checkpoint in it")
    parser.add_argument(
        "--first_teacher_exp",
        help="experiment of the run's first teacher; by default the teacher's",
    )
    parser.add_argument("--first_teacher_model", default=model, help="checkpoint in it")
    parser.add_argument(
        "--taught_by_exp",
        help="experiment of the model whose posteriors it learns, with a checkpoint of the "
        "teacher's name; by default the teacher's or, as the plan says, the first teacher's",
    )
    parser.add_argument(
        "--template",
        help="training config of a conformer: what the first student of a teacher that cannot be "
        "cut is like, sizes apart",
    )
    parser.add_argument("--data", help="data directory (wav.scp, text) to measure models on")
    parser.add_argument(
        "--utterances", type=positive_int, default=48, help="utterances of --data that are used"
    )
    parser.add_argument(
        "--overruled",
        default="",
        help="names of options, without dashes, that the training's command line will give: the "
        "config's and the plan's are not checked",
    )
    parser.add_argument("--out", required=True, help="experiment of the student")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Derive and print the sizes."""
    args = get_parser().parse_args(cmd)
    plan = load_plan(args.plan)
    base = read_config(args.train_config)
    if args.student is not None:
        stage = student_of(args, args.student, plan)
    else:
        number = plan.stage(args.stage).number
        chain = [Student.of(stage) for stage in plan.stages]
        stage = scheduled(chain, base.max_epoch or ESPNET_EPOCHS)[number - 1]
    if args.training_only:
        _update_training(Path(args.out) / "student.yaml", stage, base)
        print(f"{stage.name}: epochs and batches of {args.out}/student.yaml are up to date")
        return

    from espnet_kd.espnet.derive import derive

    first = args.first_teacher_exp or args.teacher_exp
    with plan.lines_in_messages():
        facts = derive(
            stage,
            Path(args.teacher_exp),
            args.teacher_model,
            Path(first),
            args.first_teacher_model if args.first_teacher_exp else args.teacher_model,
            base,
            Path(args.out),
            Path(args.data) if args.data else None,
            args.utterances,
            plan.stages,
            Path(args.template) if args.template else None,
            Path(args.taught_by_exp) if args.taught_by_exp else None,
            args.overruled.split(),
        )
    parts = ", ".join(f"{k} {v:,}" for k, v in facts["params_by_part"].items())
    if "effective_params" in facts:
        parts += f"; {facts['effective_params']:,} where factors are computed with"
    if "mean_bits" in facts:
        parts += f"; {facts['mean_bits']:.2f} bits a weight in {len(facts['bits'])} matrices"
    kept = f"blocks {facts['kept_blocks']}" if facts["kept_blocks"] else "none of the blocks"
    print(
        f"{stage.name}: {facts['params']:,} parameters ({parts}), "
        f"{100 * facts['compression']:.1f} % smaller than the first teacher; {kept} of "
        f"{args.teacher_exp}{_survives(facts)}; {args.out}/student.yaml{_too_early(args.out)}"
    )


def _too_early(out: str) -> str:
    """Say that the teacher may emit before the student has heard enough."""
    from espnet_kd.espnet.plan_checks import taught_too_early

    config = read_yaml(Path(out) / "student.yaml", "derivation has written it")
    teacher = (config.get("kd_conf") or {}).get("teacher_config")
    if teacher is None:
        return ""
    early = taught_too_early(config, read_yaml(teacher, "the student's config names it"))
    return f"; warning: it {early}" if early else ""


def _update_training(path: Path, stage: Student, base: TrainingConfig) -> None:
    wanted = {**base.options, **stage.train.options}
    if stage.epochs is not None:
        wanted["max_epoch"] = stage.epochs
    config = update_config(read_yaml(path, "stage 16 derives it"), wanted)
    with atomic_open(path) as f:
        yaml.safe_dump(config, f, sort_keys=False, allow_unicode=True)


def _survives(facts: dict) -> str:
    """Say what was measured before training, if anything was."""
    left = facts.get("before_training")
    if left is None:
        return ""
    return (
        f"; before training, on {left['utterances']} utterances: RNN-T loss {left['loss']:.2f} "
        f"nats an utterance (teacher {left['teacher_loss']:.2f}), WER {left['wer']:.1f} % "
        f"(teacher {left['teacher_wer']:.1f} %)"
    )


if __name__ == "__main__":
    main()
