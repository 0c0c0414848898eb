r"""Draft a compression plan for a teacher and say what it will cost, before anything runs.

    python -m espnet_kd.bin.plan --teacher_exp exp/asr_teacher --target 0.35 --stages 3 \
        --stats_dir exp/asr_stats_raw_en_char --train_config conf/train_student.yaml \
        --out conf/compression.yaml

Sizes fall by one common factor a stage; where the teacher's and the students' training say it,
each student has a learning rate for its size. `--plan` in the place of `--target` says what the
students of a plan take that is there already: parameters and MB (10^6 bytes) of the checkpoint,
and those on a device of factors and few bits.
What it costs is told in updates, hours of audio and operations; time and memory are measured here
and now: a few
updates of each student with its teacher, on noise of the lengths of the training set.
"""

import argparse
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from espnet_kd.cli import check_out, new_parser, str2bool
from espnet_kd.common.yaml_file import parse_yaml
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import atomic_open
from espnet_kd.machine import cores
from espnet_kd.progress import Progress
from espnet_kd.report.costs import FORWARD, modes_of
from espnet_kd.run.training_options import ESPNET_EPOCHS
from espnet_kd.spec.distillation import IN_STAGE, Distillation
from espnet_kd.spec.option_tables import in_words
from espnet_kd.spec.plan import MOST_STAGES, load_plan, parse_plan
from espnet_kd.spec.stage import FIRST, PREVIOUS, Stage
from espnet_kd.spec.target import BYTES, parse_target
from espnet_kd.spec.training_config import ADAMS, TO_ZERO, TrainingConfig, read_config

OBJECTIVE = "collapsed"
# Values of what stands for a training set, and is measured with.
POSSIBLE = {
    "seconds": (0.1, 3600),
    "labels": (1, 10_000),
    "batch": (1, 10_000),
    "threads": (1, 999),
}


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    matched = in_words(Distillation, IN_STAGE)
    parser = new_parser(
        __doc__, epilog=f"a stage of the plan may hold:\n{in_words(Stage)}\n{matched}"
    )
    add = parser.add_argument
    model = "valid.loss_transducer.ave.pth"
    add("--teacher_exp", required=True, help="experiment of the teacher")
    add("--teacher_model", default=model, help="checkpoint in it")
    add("--template", help="training config of a conformer, for a teacher that cannot be cut")
    size = "a share of the teacher's parameters, a number of them, or a size such as '1.8 MB'"
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--target", help=f"size of the last student: {size}")
    which.add_argument("--plan", help="a plan that is there already; nothing is drafted")
    add("--stages", type=int, help="number of students; default: each about 2.25 times smaller")
    add("--objective", help=f"objective of every stage, by default {OBJECTIVE}")
    add("--epochs", type=int, help="epochs of each student, by default those of --train_config")
    add("--train_config", help="training config for students; its batches are measured")
    add("--out", help="file for the plan, which is printed otherwise")
    add("--force", type=str2bool, default=False, help="write over an existing plan")
    group = parser.add_argument_group("estimate")
    add = group.add_argument
    add("--no_estimate", action="store_true", help="measure no time and no memory")
    add("--stats_dir", help="exp/asr_stats_*: lengths of the training set")
    add("--seconds", type=float, default=12.0, help="length of an utterance, without --stats_dir")
    add("--labels", type=int, default=60, help="labels of an utterance, without --stats_dir")
    add("--batch", type=int, default=16, help="utterances of a batch, without --stats_dir")
    add(
        "--device",
        choices=("cpu", "cuda"),
        help="where to measure, by default cuda where there is one",
    )
    add("--threads", type=int, default=1, help="CPU threads, one as the recipe's trainings")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Print the table; print or write the plan."""
    args = get_parser().parse_args(cmd)
    target = _checked(args)
    base = read_config(args.train_config)

    import torch  # takes seconds: not before the cheap checks are done

    torch.set_num_threads(1)  # what is measured is measured in a fork

    from espnet_kd.espnet.versions import quiet_import

    with quiet_import():
        from espnet_kd.espnet.estimate import Planned, derive_all
        from espnet_kd.espnet.plan_checks import check_chunks, check_plan
        from espnet_kd.espnet.stock import read_model
    from espnet_kd.plan.draft import draft, geometric, stages_for, table
    from espnet_kd.students.checkpoint_size import beside, checkpoint_bytes

    template = Path(args.template) if args.template else None
    model = read_model(Path(args.teacher_exp), args.teacher_model, template)
    file = Path(args.teacher_exp, args.teacher_model)
    teacher = Planned(model.config, model.sizes, file.stat().st_size)
    others = beside(model.net.state_dict(), model.config).trained_with(base.options)
    text = ""
    if args.plan:
        plan = load_plan(args.plan)
    else:
        whole = teacher.sizes.params, checkpoint_bytes(teacher.sizes, others)
        steps = geometric(target, args.stages or stages_for(target, *whole), *whole)
        rate = _rate(model.config, base)
        text = draft(
            args.teacher_exp, teacher.sizes, steps, args.objective, args.epochs, rate, others
        )
        plan = parse_plan(text, args.out or "the plan")
    stages = plan.stages
    with plan.lines_in_messages():
        if args.plan:
            check_plan(stages, teacher.sizes, base, others)
            check_chunks(stages, base, teacher.config)
        students = derive_all(stages, teacher, base, others)
    rows = [_row("teacher", "", teacher)]
    rows += [_row(s.name, str(s.target or ""), m) for s, m in zip(stages, students)]
    models = [teacher, *students]
    lengths = [_lengths(m.config, teacher.config, args) for m in students]
    notes = _add_device_form(rows, models)
    notes += _add_counts(rows, stages, models, lengths, base)
    if not args.no_estimate:
        notes += _add_costs(rows, stages, models, lengths, args)
    for row, planned in zip(rows, [teacher, *students]):
        row["sizes"] = planned.sizes.in_words()
    print(table(rows))
    print(*notes, sep="\n", end="\n" if notes else "")
    if not args.out:
        print(f"\n{text}" if text else "", end="")
        return
    with atomic_open(args.out) as f:
        f.write(text)
    print(f"Write {args.out}")


def _checked(args: argparse.Namespace) -> Any:
    """Refuse what needs no teacher to be refused; return the target, if there is one."""
    for name, (least, most) in POSSIBLE.items():
        value = getattr(args, name)
        if not least <= value <= most:  # NaN is not either
            raise UserError(f"--{name} {value:g}: from {least:g} to {most:g} are possible")
    if args.plan:
        for name in ("out", "stages", "epochs", "objective"):
            value = getattr(args, name)
            if value is not None:
                raise UserError(f"--{name} {value}: nothing is drafted with --plan; leave it out")
        return None
    args.objective = args.objective or OBJECTIVE
    try:
        target = parse_yaml(args.target, "--target").data  # as it would be read in a plan
    except UserError:
        target = args.target
    parse_target(target, "--target")
    if args.stages is not None and not 1 <= args.stages <= MOST_STAGES:
        raise UserError(f"--stages {args.stages}: from 1 to {MOST_STAGES} are possible")
    if args.epochs is not None and args.epochs < 1:
        raise UserError(f"--epochs {args.epochs}: at least 1 is needed")
    if args.out:
        check_out("--out", args.out, "a YAML file", "conf/compression.yaml")
    if args.out and Path(args.out).exists() and not args.force:
        raise UserError(f"{args.out}: is there already; --force true writes over it")
    return target


def _rate(config: Mapping[str, Any], base: TrainingConfig) -> Optional[float]:
    """Return the teacher's highest rate, where it says something of the students'.

    It does if both are trained by Adam, and a student's rate falls to zero.
    """
    kinds = {str(options.get("optim")) for options in (config, base.options)}
    rate = (config.get("optim_conf") or {}).get("lr")
    falls = base.options.get("scheduler") == TO_ZERO
    return rate if falls and kinds <= set(ADAMS) and isinstance(rate, float) else None


def _row(name: str, target: str, model: Any) -> Dict[str, str]:
    return {
        "student": name,
        "target": target,
        "parameters": f"{model.sizes.params:,}",
        "MB": f"{model.bytes / BYTES['MB']:.2f}",
    }


def _add_device_form(rows: List[Dict[str, str]], models: Sequence[Any]) -> List[str]:
    """Add what is held on a device, if a method has a form for it, in the words of the report."""
    notes = [
        "MB: the checkpoint file, 10^6 bytes, as a target in MB and the report have it; a "
        "student's is at most so large."
    ]
    if any(model.device for model in models):
        for row, model in zip(rows, models):
            taken = model.device
            row["parameters on a device"] = f"{taken.params:,}" if taken else ""
            row["MB on a device"] = f"{taken.bytes / BYTES['MB']:.2f}" if taken else ""
    return notes


def _taught_by(stage: Stage, above: Any, students: Mapping[str, Any], first: Any) -> Optional[Any]:
    """Return the model that teaches a stage, if one does."""
    if not stage.kd.distils:
        return None
    if stage.taught_by == PREVIOUS:
        return students.get(stage.method_conf.made_of or "", above)
    return first if stage.taught_by == FIRST else students[stage.taught_by]


def _first_too(stage: Stage, by_first: bool, base: TrainingConfig) -> bool:
    """Return whether the first teacher teaches a stage beside another one."""
    return not by_first and bool(stage.kd_conf(base).first_weight)


def _second_exit(stage: Stage, above: Any, student: Any) -> int:
    """Return the parameters of a second student that an update trains, too; 0: there is none."""
    from espnet_kd.methods.cascade import second_exit_params

    cascade = getattr(stage.method_conf, "cascade", None)
    return second_exit_params(student.sizes, above.sizes, cascade) if cascade else 0


def _inside(stage: Stage, stages: Sequence[Stage], students: Mapping[str, Any]) -> float:
    """Return the parameters of the members that an update trains beside the largest."""
    from espnet_kd.students.nested_units import params_of_update

    nested = getattr(stage.method_conf, "nested", None)
    if nested is None:
        return 0.0
    members = [s.name for s in stages if s.method_conf.made_of == stage.name]
    params = [students[name].sizes.params for name in (stage.name, *members)]
    return params_of_update(params, nested.draw) - params[0]


def _lengths(config: Mapping[str, Any], first: Mapping[str, Any], args: argparse.Namespace) -> Any:
    """Return the batches of a student's training."""
    from espnet_kd.espnet.batches import of_training, stated

    if not args.stats_dir:
        return stated(args.seconds, args.labels, args.batch, first)
    return of_training(Path(args.stats_dir), first.get("token_type") or "bpe", config)


def _epochs(model: Any) -> int:
    return model.config.get("max_epoch") or ESPNET_EPOCHS


def _add_counts(
    rows: List[Dict[str, str]],
    stages: Sequence[Stage],
    models: Sequence[Any],
    lengths: Sequence[Any],
    base: TrainingConfig,
) -> List[str]:
    """Add the costs that are known without a measurement, in the units of the report."""
    first = models[0].sizes.params
    totals = dict.fromkeys(("updates", "hours", "teacher-epochs"), 0.0)
    rows[0].update(dict.fromkeys(("epochs", *totals), ""))
    students = {stage.name: model for stage, model in zip(stages, models[1:])}
    for row, stage, above, model, batches in zip(rows[1:], stages, models, models[1:], lengths):
        teacher = _taught_by(stage, above, students, models[0])
        kd = model.config.get("kd_conf") or {}
        forward = FORWARD * teacher.sizes.params if teacher else 0
        if teacher is not None and _first_too(stage, teacher is models[0], base):
            forward += FORWARD * first
        epochs, second = _epochs(model), _second_exit(stage, above, model)
        trained = modes_of(kd) * model.params + second + _inside(stage, stages, students)
        if second and kd.get("teacher_context", "shared") == "shared":
            forward *= 2  # longer chunks, too
        counts = {
            "updates": epochs * (batches.count // (model.config.get("accum_grad") or 1)),
            "hours": epochs * (batches.hours or 0.0),
            "teacher-epochs": epochs * (trained + forward) / first,
        }
        row["epochs"] = str(epochs)
        row["updates"] = f"{counts['updates']:,}" if batches.count else "?"
        row["hours"] = f"{counts['hours']:,.1f}" if batches.count else "?"
        row["teacher-epochs"] = f"{counts['teacher-epochs']:.2f}"
        totals = {name: total + counts[name] for name, total in totals.items()}
    known = ""
    if all(batches.count for batches in lengths):
        known = f"{totals['updates']:,.0f} updates, {totals['hours']:,.1f} hours of audio, "
    notes = []
    if any(stage.label_set for stage in stages):
        notes.append("A stage with a 'label_set' is counted as if that were the training set.")
    if any(stage.labels == "teacher" for stage in stages):
        notes.append("The decoding of hard labels comes on top.")
    return [
        *notes,
        f"All students together: {known}{totals['teacher-epochs']:.2f} epochs of the teacher's "
        "training by the number of operations, on-line (docs/results.md, 'What it cost').",
    ]


def _add_costs(
    rows: List[Dict[str, str]],
    stages: Sequence[Stage],
    models: Sequence[Any],
    lengths: Sequence[Any],
    args: argparse.Namespace,
) -> List[str]:
    """Add the columns of time and memory; return what is to be said below the table."""
    import torch

    from espnet_kd.espnet.estimate import estimate

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    total, busy, first_too = 0.0, os.getloadavg()[0], False
    base = read_config(args.train_config)
    threads = args.threads
    progress = Progress("estimate", len(stages), "student", interval=0)
    rows[0].update(dict.fromkeys(("s/update", "min/epoch", "min", "peak GB"), ""))
    students = {stage.name: model for stage, model in zip(stages, models[1:])}
    for row, stage, above, model, batches in zip(rows[1:], stages, models, models[1:], lengths):
        teacher = _taught_by(stage, above, students, models[0])
        first_too |= teacher is not None and _first_too(stage, teacher is models[0], base)
        config = teacher.config if teacher else None
        cost = estimate(model.config, config, batches, device, threads)
        minutes = [cost.minutes(batches.count, n) for n in (1, _epochs(model))]
        total += minutes[1]
        row["s/update"] = f"{cost.step_seconds:.3f}"
        row["min/epoch"] = f"{minutes[0]:.1f}" if batches.count else "?"
        row["min"] = f"{minutes[1]:,.1f}" if batches.count else "?"
        row["peak GB"] = f"{cost.peak_bytes / 1e9:.2f}"
        progress.update(note=stage.name)
    place = "cuda" if device == "cuda" else f"{threads} thread(s) of a CPU"
    notes = [f"Measured on {place} with {batches.source}; online distillation."]
    notes.append("Reading of audio, validation and decoding come on top.")
    if first_too:
        notes.append("So does the first teacher beside the current one (first_weight).")
    if any(s.kd.distils and s.kd_conf(base).lattice == "band" for s in stages):
        notes.append(
            "Students in a band are counted as on the whole lattice: random weights have no paths."
        )
    if any(s.method_conf.made_of is not None for s in stages):
        notes.append("Of a family's training the largest member alone is measured.")
    if any(getattr(s.method_conf, "cascade", None) is not None for s in stages):
        notes.append("Of a cascade's training the streaming student alone is measured.")
    if batches.count:
        notes.append(f"All students together: {total:,.1f} minutes.")
    if device == "cpu" and busy > cores() - threads + 0.5:
        notes.append(f"The machine had other work (load {busy:.1f}): alone it will be faster.")
    return notes


if __name__ == "__main__":
    main()
