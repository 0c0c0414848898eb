"""Choosing what of a teacher a student keeps: sizes, blocks, units."""

from typing import Any, Callable, Dict, List, Optional

import torch

from espnet_kd.errors import UserError
from espnet_kd.methods.protocol import Model
from espnet_kd.spec.size_table import PER_BLOCK, SHAPES
from espnet_kd.spec.stage import Stage
from espnet_kd.students.allocate import allocate
from espnet_kd.students.architecture import PARAMETERS, Architecture
from espnet_kd.students.checkpoint_size import (
    NOTHING,
    Beside,
    bytes_of_file,
    filled,
    filled_by_block,
    fits_in,
    for_target,
)
from espnet_kd.students.hard_concrete import live_sizes
from espnet_kd.students.importance import fitting_blocks, most_important, spaced_blocks
from espnet_kd.students.inherit import cut_alike, inherit
from espnet_kd.students.model_config import config_of


class Cutter:
    """Cuts students out of a teacher as a stage of the plan says.

    Args:
        stage: The stage.
        teacher: The teacher.
        sample: Utterances to measure on; None if there are none.
        build: Builds a stock ESPnet model of a config.

    Attributes:
        importance: Score of each of the teacher's blocks; None if none was measured.

    Raises:
        UserError: the stage asks for something to be measured and there is nothing to
            measure it on.
    """

    def __init__(
        self,
        stage: Stage,
        teacher: Model,
        sample: Optional[Any],
        build: Callable[[Dict[str, Any]], torch.nn.Module],
    ) -> None:
        for key, plain in (("blocks", "spaced"), ("units", "weight"), ("allocate", "rule")):
            value = getattr(stage, key)
            if value not in (plain, "learned", *SHAPES) and sample is None:
                raise UserError(
                    f"{stage.at(key)}: '{value}' is measured on utterances: name a data "
                    f"directory with --data, or say '{plain}'"
                )
        self.stage, self.teacher, self.sample, self.build = stage, teacher, sample, build
        self.cascade = getattr(stage.method_conf, "cascade", None)
        self.free = teacher.sizes.num_blocks  # blocks to choose from
        if self.cascade is not None:  # the last ones are those that look ahead
            self.free -= self.cascade.lookahead_blocks
        self.importance: Optional[List[float]] = None
        if stage.blocks != "spaced":
            self.importance = getattr(sample, stage.blocks)(teacher.net)
        self.scores = None
        if stage.units != "weight":
            assert sample is not None  # as checked above
            self.scores = sample.taylor(teacher.net, by_change=stage.units == "taylor_change")

    def kept_blocks(self, count: int) -> List[int]:
        """Choose `count` of the teacher's blocks.

        Raises:
            UserError: a cascade leaves fewer to choose from.
        """
        if self.cascade is not None:
            self.cascade.check_blocks(self.teacher.sizes.num_blocks, count, self.stage.where)
        if self.importance is None:
            return spaced_blocks(self.free, count)
        return most_important(self.importance[: self.free], count)

    def blocks_of(self, student: Architecture) -> List[int]:
        """Choose the teacher's block for each of a student's.

        Raises:
            UserError: blocks differ, and no choice of them is as large as the student's.
        """
        preferred, teacher = self.kept_blocks(student.num_blocks), self.teacher.sizes
        if not (teacher.blocks_differ or student.blocks_differ):
            return preferred
        kept = fitting_blocks(
            preferred,
            self.free,
            lambda b, i: all(student.size_of(a, b) <= teacher.size_of(a, i) for a in PER_BLOCK),
        )
        if kept is None:
            sizes = "; ".join(
                f"{a.key} {student.of_blocks(a)} from {teacher.of_blocks(a)}" for a in PER_BLOCK
            )
            raise UserError(
                f"{self.stage.where}: no choice of the teacher's blocks, in their order, is as "
                f"large as the student's: {sizes}; name smaller sizes, or leave the path out "
                "(--paths)"
            )
        return kept

    def cut(self, student: Architecture) -> Dict[str, torch.Tensor]:
        """Return the inherited weights of a student."""
        return self.cut_blocks(student, self.blocks_of(student))

    def cut_blocks(self, student: Architecture, kept: List[int]) -> Dict[str, torch.Tensor]:
        """Return the inherited weights of a student of some of the teacher's blocks."""
        teacher = self.teacher
        weights = teacher.net.state_dict()
        return inherit(weights, teacher.sizes, student, kept, teacher.causal, self.scores)

    def cut_alike(
        self, student: Architecture, tensors: Dict[str, torch.Tensor]
    ) -> Dict[str, torch.Tensor]:
        """Cut other tensors of the teacher's parameters as `cut` cuts these.

        Args:
            student: The student's sizes.
            tensors: Such tensors by the parameter's name, such as an optimizer's moments.

        Returns:
            Those of parameters that are plain parts of the teacher's.
        """
        teacher = self.teacher
        weights = teacher.net.state_dict()
        kept = self.blocks_of(student)
        return cut_alike(
            tensors, weights, teacher.sizes, student, kept, teacher.causal, self.scores
        )

    def sizes(self, first: Architecture, others: Beside = NOTHING) -> Architecture:
        """Decide the student's sizes.

        Args:
            first: Sizes of the run's first teacher.
            others: What a checkpoint of the student will hold beside.

        Raises:
            UserError: the student is not smaller than its teacher. Only a stage that does
                not distil may have a student of the same sizes: it trains the teacher on.
        """
        stage, teacher = self.stage, self.teacher.sizes
        if stage.target is not None:
            where = stage.at("target")
            if stage.allocate == "learned":
                return self._learned(stage.target.params(first.params))
            if stage.allocate == "sensitivity":
                most = stage.target.bytes
                wanted = stage.target.params(first.params) if most is None else most
                counted = PARAMETERS if most is None else bytes_of_file(others)
                student = allocate(
                    teacher,
                    wanted,
                    self._untrained_loss,
                    where,
                    kept=self.kept_blocks,
                    counted=counted,
                )
                if most is not None:
                    whole = teacher.with_blocks(self.kept_blocks(student.num_blocks))
                    fits = fits_in(most, others)
                    student = filled_by_block(filled(student, whole, fits), whole, fits)
                return student
            given = stage.target, first.params, others, where, self.kept_blocks
            return for_target(teacher, *given, shape=SHAPES[stage.allocate])
        assert stage.sizes is not None  # where no target is
        student = teacher.with_sizes(stage.sizes, stage.at("student"), self.kept_blocks)
        trained_on = student == teacher and not stage.kd.distils
        if student.params >= teacher.params and not trained_on:
            raise UserError(
                f"{stage.at('student')}: {student.params:,} parameters are not fewer than its "
                f"teacher's {teacher.params:,}; 'objective: none' trains the same sizes on"
            )
        return student

    def _learned(self, params: int) -> Architecture:
        """Return the sizes of what the teacher's gates have left.

        Raises:
            UserError: nothing was closed, or more is left than the target allows.
        """
        teacher, where = self.teacher.sizes, self.stage.at("allocate")
        student = live_sizes(self.teacher.net.state_dict(), teacher)
        if student == teacher:
            raise UserError(
                f"{where}: 'learned' needs a teacher with closed gates, and no unit of this one "
                "is closed: say 'method_conf: {gates: ...}' in the stage before"
            )
        if student.params > params:
            raise UserError(
                f"{where}: the teacher's gates have left {student.params:,} parameters, the "
                f"target is {params:,}: say the same in its 'gates' and in 'target'"
            )
        return student

    def _untrained_loss(self, student: Architecture) -> float:
        """Loss of a student before training, nats an utterance."""
        config = self.teacher.config
        config = {**config, **config_of(student, config, self.blocks_of(student))}
        net = self.build(config)
        net.load_state_dict(self.cut(student))
        assert self.sample is not None  # as checked above all
        return self.sample.loss(net)
