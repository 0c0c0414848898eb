"""Checks of a plan that need ESPnet or a teacher, before the first student is trained."""

import contextlib
from typing import Any, Mapping, Sequence

from espnet_kd.errors import UserError, nearest
from espnet_kd.espnet.task import DistilTransducerTask
from espnet_kd.espnet.training_parts import Place, check_parts
from espnet_kd.methods import method_named
from espnet_kd.plan.planned_sizes import NotMeasured, sizes_of_way
from espnet_kd.spec.contradictions import check_annealed_by
from espnet_kd.spec.family_plan import DECIDED
from espnet_kd.spec.option_values import wrong_values
from espnet_kd.spec.stage import Stage
from espnet_kd.spec.training_config import TrainingConfig, overruled
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.checkpoint_size import NOTHING, Beside


def check_options(stages: Sequence[Stage], base: TrainingConfig) -> None:
    """Check the names of training options.

    Args:
        stages: Stages of a plan.
        base: The recipe's training config for students.

    Raises:
        UserError: training has no such option (naming the nearest right one).
    """
    known = {action.dest for action in DistilTransducerTask.get_parser()._actions}
    for part in (base, *(stage.train for stage in stages)):
        for key in part.options:
            if key not in known:  # hundreds are known: not listed
                hint = nearest(key, known)
                raise UserError(f"{part.where}: unknown training option '{key}'{hint}")


def check_trainings(
    stages: Sequence[Stage], base: TrainingConfig, overruled_by: Sequence[str] = ()
) -> None:
    """Check values of training options, and whether the parts that they name can be built.

    Args:
        stages: Stages of a plan; none: the base alone is checked.
        base: The recipe's training config for students.
        overruled_by: Names of options that the trainings' command line gives.

    Raises:
        UserError: ESPnet would refuse a value.
    """
    parser = DistilTransducerTask.get_parser()
    actions = [action for action in parser._actions if action.option_strings]
    # Of the others derivation builds the student.
    left_out = {f"{key}{end}" for key in ("optim", "scheduler") for end in ("", "_conf")}
    left_out = {key for key in left_out if key.removesuffix("_conf") in overruled_by}
    default = {"optim": parser.get_default("optim")}
    for part in (base, *(stage.train for stage in stages)):
        given = {key: value for key, value in part.options.items() if key not in overruled_by}
        for key, problem in wrong_values(given, actions):
            raise UserError(f"{part.where}: {key}: {problem}")
    for train in [stage.train for stage in stages] or [TrainingConfig()]:
        options = overruled(default, base, train)
        options = {key: value for key, value in options.items() if key not in left_out}
        check_parts(options, parser.get_default("model_conf"), place_in(base, train))


def place_in(*parts: TrainingConfig) -> Place:
    """Return a function that says where an option stands: in the last part that has it.

    An option that none has belongs to the place of what it is of: `optim_conf` to that of `optim`.
    """

    def place(name: str) -> str:
        for wanted in (name, name.partition(".")[0].removesuffix("_conf")):
            for part in reversed(parts):
                if _has(part.options, wanted):
                    return f"{part.where}: {name}"
        return f"{parts[0].where}: {name}"

    return place


def _has(options: Any, name: str) -> bool:
    for key in name.split("."):
        if not isinstance(options, Mapping) or key not in options:
            return False
        options = options[key]
    return True


def check_chunks(
    stages: Sequence[Stage], base: TrainingConfig, teacher: Mapping[str, Any]
) -> None:
    """Refuse chunks where training draws none.

    Args:
        stages: Stages of a plan.
        base: The recipe's training config for students.
        teacher: Config of the model that they come from.

    Raises:
        UserError: a training names chunks, and the teacher's encoder is not trained in any.
    """
    main = (teacher.get("encoder_conf") or {}).get("main_conf") or {}
    if main.get("dynamic_chunk_training"):
        return
    for part in (base, *(stage.train for stage in stages)):
        for key in part.chunks:
            raise UserError(
                f"{part.where}: encoder_conf.main_conf.{key}: no chunks are drawn: the teacher's "
                "encoder is not trained in any (dynamic_chunk_training is false); leave it out"
            )


def taught_too_early(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    """Say that a student learns when to emit from a teacher of longer chunks; else nothing.

    A teacher emits a word as soon as it has heard enough, which in a longer chunk is sooner than a
    student can: on digit strings that begin with speech such students guess the first word before
    they have heard it (docs/results/noisy_digits.md, 'Chunks of 160 ms').

    Args:
        student: Its training config.
        teacher: Config of the model whose posteriors it learns.
    """
    ours, theirs = (
        ((config.get("encoder_conf") or {}).get("main_conf") or {}).get("short_chunk_size")
        for config in (student, teacher)
    )
    distils = (student.get("kd_conf") or {}).get("objective", "none") != "none"
    if not (distils and ours and theirs and ours < theirs):
        return ""
    return (
        f"trains for chunks of up to {ours} frames, and is taught by a model of up to {theirs}, "
        "which may emit before such a student has heard enough; compare with 'objective: none' "
        "(docs/plan.md), or take a teacher that was trained for such chunks from the start"
    )


def check_plan(
    stages: Sequence[Stage],
    first: Architecture,
    base: TrainingConfig,
    others: Beside = NOTHING,
    overruled_by: Sequence[str] = (),
) -> None:
    """Find mistakes in later stages before the first student is trained.

    Args:
        stages: All stages of the plan. Sizes are followed down to the first that is measured.
        first: Sizes of the run's first teacher.
        base: The recipe's training config for students.
        others: What a checkpoint of the first teacher, trained by `base`, holds beside.
        overruled_by: Names of options that the trainings' command line gives.

    Raises:
        UserError: an option that training does not have or a value that it refuses, methods in
            an order that undoes one of them, more likeliest tokens than there are, two modes of
            a family, or sizes that cannot be.
    """
    check_options(stages, base)
    check_trainings(stages, base, overruled_by)
    check_annealed_by(stages, base)
    for stage in stages:
        kd = stage.kd_conf(base)
        kd.check_top_k(first.vocab, stage.where)
        if kd.two_modes and getattr(stage.method_conf, "nested", None) is not None:
            raise UserError(
                f"{stage.where}: kd_conf.two_modes {list(kd.two_modes)} of the training config: "
                f"{DECIDED['two_modes']}; leave it out"
            )
    for before, stage in zip(stages, stages[1:]):
        method = method_named(before.method)
        if method.followed_by is not None and stage.method not in method.followed_by:
            raise UserError(
                f"{stage.at('method')}: '{stage.method}' cannot follow '{before.name}', a student "
                f"of '{before.method}': {method.undone}"
            )
    with contextlib.suppress(NotMeasured):
        sizes_of_way(stages, first, others=others)
