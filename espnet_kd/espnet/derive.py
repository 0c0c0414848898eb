"""Derive a student's experiment from its teacher's: config, weights, forward check.

What a stage of the plan says of it:

    target, student   the size (`students.target`), or sizes by name
    allocate          how a target becomes sizes: `rule` (`Architecture.shrink_to`) or
                      `sensitivity` (`students.allocate`)
    blocks            which blocks are kept: `spaced`, or those of most `influence` or
                      `skip_loss` (`students.importance`)
    units             which units: by `weight` or by `taylor` (`students.importance`)
    init              whether the weights are kept, `teacher`, or fresh ones are drawn

What must be measured is measured on a few utterances (`measure`).
"""

import copy
import dataclasses
import json
import logging
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
import yaml
from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.errors import UserError, nearest
from espnet_kd.espnet.measure import Sample
from espnet_kd.espnet.options import DistillOptions
from espnet_kd.espnet.task import DistilTransducerTask
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.fileio import atomic_open, atomic_path, save_tensors
from espnet_kd.plan import StagePlan
from espnet_kd.students.allocate import allocate
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.importance import most_important, spaced_blocks
from espnet_kd.students.inherit import inherit
from espnet_kd.students.target import parse_target

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


@dataclasses.dataclass
class Model:
    """A trained transducer and its sizes."""

    config: Dict[str, Any]
    net: torch.nn.Module
    sizes: Architecture

    @property
    def causal(self) -> bool:
        """Whether its convolutions see the past only."""
        main_conf = self.config["encoder_conf"].get("main_conf") or {}
        return bool(main_conf.get("dynamic_chunk_training", False))


def read_model(exp: Path, checkpoint: str) -> Model:
    """Load an experiment's config and checkpoint, checked against each other.

    Raises:
        UserError: see `load_transducer` and `Architecture.from_config`.
    """
    model = load_transducer(str(exp / "config.yaml"), str(exp / checkpoint))
    with open(exp / "config.yaml", encoding="utf-8") as f:
        config = yaml.safe_load(f)
    return Model(config, model, sizes_of(model, config))


def sizes_of(model: torch.nn.Module, config: Mapping[str, Any]) -> Architecture:
    """Read a built model's sizes.

    Raises:
        UserError: the model is not one that we can shrink.
    """
    features = model.frontend.output_size() if model.frontend else config["input_size"]
    sizes = Architecture.from_config(config, features, model.vocab_size)
    built = sum(
        p.numel()
        for part in (model.encoder, model.decoder, model.joint_network)
        for p in part.parameters()
    )
    if built != sizes.params:
        raise UserError(
            f"the config gives {sizes.params:,} parameters by our count, the model has "
            f"{built:,}: it uses an option that cannot be distilled yet"
        )
    return sizes


class Cutter:
    """Cuts students out of a teacher as a stage of the plan says.

    Args:
        stage: The stage.
        teacher: The teacher.
        sample: Utterances to measure on; None if there are none.

    Attributes:
        importance: Score of each of the teacher's blocks; None if none was measured.

    Raises:
        UserError: the stage asks for something to be measured and there is nothing to
            measure it on.
    """

    def __init__(self, stage: StagePlan, teacher: Model, sample: Optional[Sample]) -> None:
        for key, plain in (("blocks", "spaced"), ("units", "weight"), ("allocate", "rule")):
            value = getattr(stage, key)
            if value != plain and sample is None:
                raise UserError(
                    f"{stage.where}.{key}: '{value}' is measured on utterances: name a data "
                    f"directory with --data, or say '{plain}'"
                )
        self.stage, self.teacher, self.sample = stage, teacher, sample
        self.importance: Optional[List[float]] = None
        if stage.blocks != "spaced":
            self.importance = getattr(sample, stage.blocks)(teacher.net)
        self.scores = sample.taylor(teacher.net) if stage.units == "taylor" else None

    def kept_blocks(self, count: int) -> List[int]:
        """Choose `count` of the teacher's blocks."""
        if self.importance is None:
            return spaced_blocks(self.teacher.sizes.num_blocks, count)
        return most_important(self.importance, count)

    def cut(self, student: Architecture) -> Dict[str, torch.Tensor]:
        """Return the inherited weights of a student."""
        teacher = self.teacher
        return inherit(
            teacher.net.state_dict(),
            teacher.sizes,
            student,
            self.kept_blocks(student.num_blocks),
            teacher.causal,
            self.scores,
        )

    def sizes(self, first: Architecture) -> Architecture:
        """Decide the student's sizes.

        Args:
            first: Sizes of the run's first teacher.

        Raises:
            UserError: the student is not smaller than its teacher. Only a stage that does
                not distil may have a student of the same sizes: it trains the teacher on.
        """
        stage, teacher = self.stage, self.teacher.sizes
        if stage.target is not None:
            where = f"{stage.where}.target"
            params = parse_target(stage.target, where).params(first.params)
            if stage.allocate == "sensitivity":
                return allocate(teacher, params, self._untrained_loss, where)
            return teacher.shrink_to(params, where)
        student = teacher.with_sizes(stage.sizes, f"{stage.where}.student")
        trained_on = student == teacher and stage.kd.get("objective") == "none"
        if student.params >= teacher.params and not trained_on:
            raise UserError(
                f"{stage.where}.student: {student.params:,} parameters are not fewer than its "
                f"teacher's {teacher.params:,}; 'objective: none' trains the same sizes on"
            )
        return student

    def _untrained_loss(self, student: Architecture) -> float:
        """Loss of a student before training, nats an utterance."""
        config = self.teacher.config
        config = {**config, **student.to_config(config, self.kept_blocks(student.num_blocks))}
        net = build(config)
        net.load_state_dict(self.cut(student))
        return self.sample.loss(net)


def train_config(
    stage: StagePlan,
    teacher: Model,
    student: Architecture,
    kept: "list[int]",
    base: Mapping[str, Any],
    teacher_files: Tuple[Path, Path],
) -> Dict[str, Any]:
    """Compose the student's training config.

    Args:
        stage: The stage of the plan.
        teacher: The teacher.
        student: The student's sizes.
        kept: The teacher's blocks that the student's come from.
        base: The recipe's training config for students (optimizer, batches, ...).
        teacher_files: Its `config.yaml` and checkpoint.

    Raises:
        UserError: the base config or the plan names an option that training does not have.
    """
    config = {key: teacher.config[key] for key in MODEL_KEYS if key in teacher.config}
    config.update(student.to_config(teacher.config, kept))
    model_conf = dict(config.get("model_conf") or {})
    model_conf.pop("warmup_steps", None)  # ESPnet derives it from the scheduler
    parser = DistilTransducerTask.get_parser()
    known = {action.dest for action in parser._actions}
    for where, part in (
        (base.get("__file__", "training config"), base),
        (stage.where, stage.train),
    ):
        for key, value in part.items():
            if key == "__file__":
                continue
            if key not in known:
                raise UserError(f"{where}: unknown training option '{key}'{nearest(key, known)}")
            if key == "model_conf":
                model_conf.update(value)
            elif isinstance(value, dict) and isinstance(config.get(key), dict):
                config[key] = {**config[key], **value}
            else:
                config[key] = value
    config["model_conf"] = model_conf
    if stage.epochs is not None:
        config["max_epoch"] = stage.epochs
    kd = _kd_conf(stage, base)
    if kd.get("objective", "none") != "none":
        kd["teacher_config"], kd["teacher_model"] = map(str, teacher_files)
    DistillOptions.from_dict(kd, stage.where)
    config["kd_conf"] = kd
    return config


def build(config: Dict[str, Any]) -> torch.nn.Module:
    """Build a model as stock ESPnet would, in eval mode."""
    # ESPnet writes into the dicts it is given.
    args = Namespace(**copy.deepcopy({"init": None, "specaug": None, **config}))
    return ASRTransducerTask.build_model(args).eval()


def forward_check(
    config: Dict[str, Any], state: Optional[Mapping[str, torch.Tensor]]
) -> torch.nn.Module:
    """Build the student as stock ESPnet would, load its weights, run a second of noise.

    Args:
        config: The student's config.
        state: Inherited weights; None leaves the random ones.

    Returns:
        The model that was run.

    Raises:
        RuntimeError: the model cannot be built or its output is not finite: our mistake.
    """
    model = build(config)
    if state is not None:
        model.load_state_dict(state)
    if model.frontend is None:
        speech = torch.randn(1, 100, config["input_size"])
    else:
        speech = torch.randn(1, 16000) * 0.1
    with torch.no_grad():
        enc, _ = model.encode(speech, torch.tensor([speech.size(1)]))
        model.decoder.set_device(enc.device)
        dec = model.decoder(torch.zeros(1, 2, dtype=torch.long))
        logits = model.joint_network(enc.unsqueeze(2), dec.unsqueeze(1))
    if not torch.isfinite(logits).all():
        raise RuntimeError("forward check failed: the student's output is not finite")
    logging.info("forward check passed: logits %s", tuple(logits.shape))
    return model


def derive(
    stage: StagePlan,
    teacher_exp: Path,
    teacher_model: str,
    first_exp: Path,
    first_model: str,
    base: Mapping[str, Any],
    out: Path,
    data: Optional[Path] = None,
    utterances: int = 48,
) -> Dict[str, Any]:
    """Write `student.yaml`, `init.pth` and `student.json` into `out`.

    Args:
        stage: The stage of the plan.
        teacher_exp: Experiment of the teacher.
        teacher_model: Its checkpoint.
        first_exp: Experiment of the run's first teacher.
        first_model: Its checkpoint.
        base: The recipe's training config for students.
        out: The student's experiment.
        data: Directory with wav.scp and text to measure on; None: nothing is measured.
        utterances: How many of them.

    Returns:
        The contents of `student.json`.

    Raises:
        UserError: see the functions above.
    """
    teacher = read_model(teacher_exp, teacher_model)
    same = teacher_exp.resolve() == first_exp.resolve()
    first = teacher if same else read_model(first_exp, first_model)
    files = (teacher_exp / "config.yaml", teacher_exp / teacher_model)
    sample = None
    if data is not None:
        chunk_size = _kd_conf(stage, base).get("valid_chunk_size")
        sample = Sample(teacher.net, files[0], data, utterances, chunk_size)
    cutter = Cutter(stage, teacher, sample)
    student = cutter.sizes(first.sizes)
    kept = cutter.kept_blocks(student.num_blocks)
    config = train_config(stage, teacher, student, kept, base, files)
    state = None
    if stage.init == "teacher":
        state = _without_dropped_heads(cutter.cut(student), config)
    net = forward_check(config, state)

    facts = {
        "stage": stage.number,
        "name": stage.name,
        "teacher": str(teacher_exp),
        "first_teacher": str(first_exp),
        "init": stage.init,
        "kept_blocks": kept,
        "params": student.params,
        "params_by_part": student.count(),
        "teacher_params": teacher.sizes.params,
        "first_teacher_params": first.sizes.params,
        "compression": 1 - student.params / first.sizes.params,
        "sizes": dataclasses.asdict(student),
    }
    if hasattr(stage, "path"):
        facts["path"] = stage.path
    if cutter.importance is not None:
        facts["importance"] = {stage.blocks: cutter.importance}
    if sample is not None:
        facts["before_training"] = _before_training(sample, teacher.net, net)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "init.pth") as tmp:
        save_tensors(net.state_dict(), tmp, torch.save)
    with atomic_open(out / "student.json") as f:
        json.dump(facts, f, indent=1)
    with atomic_open(out / "student.yaml") as f:  # last: its presence says all is there
        yaml.safe_dump(config, f, sort_keys=False, allow_unicode=True)
    return facts


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


def _kd_conf(stage: StagePlan, base: Mapping[str, Any]) -> Dict[str, Any]:
    """What training config and plan say of `kd_conf`."""
    return {
        **(base.get("kd_conf") or {}),
        **(stage.train.get("kd_conf") or {}),
        **stage.kd,
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
