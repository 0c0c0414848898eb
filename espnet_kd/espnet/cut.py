"""Students cut out of a trained ESPnet transducer.

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
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import torch
from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.measure import Sample
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.spec.stage import Stage
from espnet_kd.students.allocate import allocate
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.importance import most_important, spaced_blocks
from espnet_kd.students.inherit import inherit


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
    config = read_yaml(exp / "config.yaml", "a teacher is needed")
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


def build(config: Dict[str, Any]) -> torch.nn.Module:
    """Build a model as stock ESPnet would, in eval mode."""
    # ESPnet writes into the dicts it is given.
    args = Namespace(**copy.deepcopy({"init": None, "specaug": None, **config}))
    return ASRTransducerTask.build_model(args).eval()


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

    def __init__(self, stage: Stage, teacher: Model, sample: Optional[Sample]) -> None:
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
            params = stage.target.params(first.params)
            if stage.allocate == "sensitivity":
                return allocate(teacher, params, self._untrained_loss, where)
            return teacher.shrink_to(params, where)
        student = teacher.with_sizes(stage.sizes, f"{stage.where}.student")
        trained_on = student == teacher and not stage.kd.distils
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
