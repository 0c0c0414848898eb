"""Derive a student's experiment from its teacher's: config, weights, forward check."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import torch
import yaml

from espnet_kd.common.records import STUDENT
from espnet_kd.errors import UserError
from espnet_kd.espnet.first_conformer import first_weights
from espnet_kd.espnet.measure import Sample
from espnet_kd.espnet.moments import moments_for, place_in_schedule
from espnet_kd.espnet.plan_checks import check_chunks, check_options, check_plan
from espnet_kd.espnet.stock import build, forward_check, read_model
from espnet_kd.fileio import atomic_open, atomic_path, save_tensors
from espnet_kd.methods import method_named
from espnet_kd.methods.additions import asked_for
from espnet_kd.methods.protocol import Job
from espnet_kd.plan.planned_sizes import sizes_by_way
from espnet_kd.plan.student import Student
from espnet_kd.spec.size_table import SHAPES
from espnet_kd.spec.stage import FIRST, PREVIOUS, THROUGH, Stage
from espnet_kd.spec.training_config import TrainingConfig, overruled
from espnet_kd.students.checkpoint_size import beside
from espnet_kd.students.model_config import config_of

# What makes the model and its input: a student has its teacher's, sizes apart.
MODEL_KEYS = (
    "token_list",
    "input_size",
    "frontend",
    "frontend_conf",
    "normalize",
    "normalize_conf",
    "encoder_conf",
    "decoder",
    "decoder_conf",
    "joint_network_conf",
    "model_conf",
    "use_preprocessor",
    "token_type",
    "bpemodel",
    "non_linguistic_symbols",
    "cleaner",
    "g2p",
)


def train_config(
    stage: Stage,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
    base: TrainingConfig,
    teacher_files: Tuple[Path, Path],
    first_files: Tuple[Path, Path],
) -> Dict[str, Any]:
    """Compose the student's training config.

    Args:
        stage: The stage of the plan.
        teacher: The teacher's config.
        student: Parts of it that a student of these sizes has (`config_of`).
        base: The recipe's training config for students (optimizer, batches, ...).
        teacher_files: Config and checkpoint of the model whose posteriors it learns.
        first_files: Config and checkpoint of the run's first teacher.

    Raises:
        UserError: the base config or the plan names an option that training does not have.
    """
    config = {key: teacher[key] for key in MODEL_KEYS if key in teacher}
    config.update(student)
    config["model_conf"] = dict(config.get("model_conf") or {})
    config["model_conf"].pop("warmup_steps", None)  # ESPnet derives it from the scheduler
    check_options([stage], base)
    config = overruled(config, base, stage.train)
    if stage.epochs is not None:
        config["max_epoch"] = stage.epochs
    kd = stage.kd_conf(base)
    if kd.distils:
        names = map(str, teacher_files)
        kd = kd.changed(**dict(zip(("teacher_config", "teacher_model"), names)))
        if kd.first_weight and teacher_files == first_files:
            logging.info("first_weight is left out: the teacher is the first one")
            kd = kd.without("first_weight")
        elif kd.first_weight:
            names = map(str, first_files)
            kd = kd.changed(**dict(zip(("first_teacher_config", "first_teacher_model"), names)))
    kd.complete(stage.where)
    config["kd_conf"] = kd.written
    return config


def derive(
    stage: Student,
    teacher_exp: Path,
    teacher_model: str,
    first_exp: Path,
    first_model: str,
    base: TrainingConfig,
    out: Path,
    data: Optional[Path] = None,
    utterances: int = 48,
    planned: Sequence[Stage] = (),
    template: Optional[Path] = None,
    taught_by: Optional[Path] = None,
    overruled_by: Sequence[str] = (),
) -> Dict[str, Any]:
    """Write `student.yaml`, `init.pth` and `student.json` into `out`, and perhaps `moments.pth`.

    Args:
        stage: The stage of the plan.
        teacher_exp: Experiment of the teacher.
        teacher_model: Checkpoint of the teacher.
        first_exp: Experiment of the run's first teacher.
        first_model: Checkpoint of the first teacher.
        base: The recipe's training config for students.
        out: The student's experiment.
        data: Directory with wav.scp and text to measure on; None: nothing is measured.
        utterances: Number of utterances.
        planned: All stages of the plan, which are checked too.
        template: Training config of a conformer: the first student of a teacher that cannot be
            cut is as it says.
        taught_by: Experiment of the model that teaches; None: the teacher, or what the stage
            says of the first one.
        overruled_by: Names of options that the training's command line gives.

    Returns:
        The contents of `student.json`.

    Raises:
        UserError: see the functions above.
    """
    teacher = read_model(teacher_exp, teacher_model, template)
    same = teacher_exp.resolve() == first_exp.resolve()
    first = teacher if same else read_model(first_exp, first_model, template)
    others = beside(first.net.state_dict(), first.config).trained_with(base.options)
    check_plan(planned, first.sizes, base, others, overruled_by)
    check_chunks(planned, base, teacher.config)
    files = (teacher_exp / "config.yaml", teacher_exp / teacher_model)
    first_files = (first_exp / "config.yaml", first_exp / first_model)
    first_files = files if same and first_model == teacher_model else first_files
    taught_files = files
    if taught_by is not None:
        taught_files = (taught_by / "config.yaml", taught_by / teacher_model)
        for file in taught_files:
            if not file.is_file():
                raise UserError(
                    f"--taught_by_exp {taught_by}: {file}: no such file; name the experiment of "
                    "the model that teaches"
                )
    elif stage.taught_by == FIRST:
        taught_files = first_files
    elif stage.taught_by != PREVIOUS:
        raise UserError(
            f"{stage.at('teacher')}: '{stage.taught_by}': name its experiment with --taught_by_exp"
        )
    if teacher.taught_by is not None:
        _check_first(stage)
    sample = None
    if data is not None:
        chunk_size = stage.kd_conf(base).valid_chunk_size
        sample = Sample(teacher.teacher, files[0], data, utterances, chunk_size)
    sizes = sizes_by_way(stage, first.sizes, out, others) if stage.stages_above else None
    above = others._replace(weights=teacher.config.get("model_conf") or {})
    above = above.trained_with(base.options, stage.train.options)

    def of_training(part: Dict[str, Any]) -> Dict[str, Any]:
        return {k: x for k, x in overruled(part, base, stage.train).items() if k in part}

    job = Job(stage, teacher, first.sizes, sample, build, sizes, above, of_training)
    prepared = method_named(stage.method).prepare(job)
    student = prepared.sizes
    student_config = config_of(student, teacher.config, prepared.kept)
    config = train_config(stage, teacher.config, student_config, base, taught_files, first_files)
    moments = None
    if stage.anneal == THROUGH:
        config["scheduler_conf"] = place_in_schedule(stage, config.get("scheduler_conf"))
        moments = moments_for(stage, teacher_exp, teacher.net, prepared)
        if moments is not None:
            config["init_moments"] = str(out / "moments.pth")
    method_conf = dict(prepared.method_conf)
    if method_conf:
        method_conf = config["method_conf"] = {"method": stage.method, **method_conf}
    state = prepared.state
    if state is not None:
        if teacher.taught_by is not None:
            state = first_weights(state, build(config).state_dict(), teacher.taught_by)
        state = _without_dropped_heads(state, config)
    net = forward_check(config, state, method_conf)
    taught = state is not None or config["kd_conf"].get("objective", "none") != "none"

    facts = {
        "stage": stage.number,
        "name": stage.name,
        "path": stage.path,
        # Who trains from fresh weights without distillation has none.
        "teacher": str(teacher_exp) if taught else None,
        "first_teacher": str(first_exp),
        "init": stage.init,
        "labels": stage.labels,
        # A stand-in's blocks are nobody's.
        "kept_blocks": prepared.kept if teacher.taught_by is None else [],
        "params": student.params,
        "params_by_part": student.count(),
        "teacher_params": teacher.sizes.params,
        "first_teacher_params": first.sizes.params,
        "compression": 1 - student.params / first.sizes.params,
        "sizes": dataclasses.asdict(student),
        **prepared.report,
    }
    if stage.anneal == THROUGH:
        facts["anneal"] = stage.anneal
    if stage.label_set:
        facts["label_set"] = stage.label_set
    if stage.label_teachers is not None:
        facts["label_teachers"] = list(stage.label_teachers)
    if stage.select is not None:
        facts["select"] = stage.select.values
    if taught and taught_files != files:
        facts["taught_by"] = str(taught_files[0].parent)
    if sample is not None:
        facts["before_training"] = _before_training(sample, teacher.teacher, net)
        facts["derivation"] = {
            "utterances": sample.utterances,
            "audio_seconds": round(sample.audio_seconds, 2),
            "work": sample.work,
        }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "init.pth") as tmp:
        save_tensors(net.state_dict(), tmp, torch.save)
    if moments is None:
        (out / "moments.pth").unlink(missing_ok=True)
    else:
        with atomic_path(out / "moments.pth") as tmp:
            save_tensors(moments, tmp, torch.save)
    STUDENT.write(out, facts)
    with atomic_open(out / "student.yaml") as f:  # last: its presence says all is there
        yaml.safe_dump(config, f, sort_keys=False, allow_unicode=True)
    return facts


def _check_first(stage: Stage) -> None:
    """Refuse what asks for blocks of a teacher that cannot be cut.

    Raises:
        UserError: the stage measures them, keeps its teacher's sizes, or adds to its weights.
    """
    plain = {"method": "cut", "blocks": "spaced", "units": "weight", "allocate": "rule"}
    for key, value in plain.items():
        if getattr(stage, key) not in (value, *(SHAPES if key == "allocate" else ())):
            raise UserError(
                f"{stage.at(key)}: '{getattr(stage, key)}' needs a teacher that can be cut; "
                f"say '{value}' for its first student"
            )
    for addition, _ in asked_for(stage.method_conf):
        if addition.inherits or addition.of_cut:
            raise UserError(
                f"{stage.at('method_conf')}.{addition.name}: needs a teacher that can be cut; "
                "leave it to the stage after its first student"
            )


def _before_training(
    sample: Sample, teacher: torch.nn.Module, student: torch.nn.Module
) -> Dict[str, Any]:
    """Measure what survives: RNN-T loss in nats an utterance, WER of greedy search in %."""
    return {
        "utterances": sample.utterances,
        "teacher_loss": sample.loss(teacher),
        "loss": sample.loss(student),
        "teacher_wer": sample.error_rate(teacher),
        "wer": sample.error_rate(student),
    }


def _without_dropped_heads(
    state: Dict[str, torch.Tensor], config: Mapping[str, Any]
) -> Dict[str, torch.Tensor]:
    """Leave out auxiliary heads that the student is trained without."""
    weights = config["model_conf"]
    heads = {
        "ctc_lin.": weights.get("auxiliary_ctc_weight", 0) > 0,
        "lm_lin.": weights.get("auxiliary_lm_loss_weight", 0) > 0,
    }
    return {
        name: tensor
        for name, tensor in state.items()
        if all(wanted or not name.startswith(head) for head, wanted in heads.items())
    }
