"""Sizes from which the first student of a teacher that cannot be cut is made."""

import dataclasses
from typing import Any, Optional

from espnet_kd.errors import UserError
from espnet_kd.spec.size_table import RULE, Shape
from espnet_kd.students.architecture import Architecture, Chooser


@dataclasses.dataclass(frozen=True)
class StandIn(Architecture):
    """A conformer in the place of the teacher: sizes of a template, the count of the teacher.

    Attributes:
        teacher_params: Parameters of the teacher, encoder, predictor and joint network.
    """

    teacher_params: int = 0

    @property
    def conformer(self) -> Architecture:
        """Return the sizes alone."""
        sizes = {f.name: getattr(self, f.name) for f in dataclasses.fields(Architecture)}
        return Architecture(**sizes)

    @property
    def params(self) -> int:
        """Parameters of the teacher."""
        return self.teacher_params

    def in_words(self) -> str:
        """Return which sizes its first student is made from; they are not the teacher's."""
        return f"not cut; the first student is made from {self.conformer.in_words()}"

    def resized(self, **sizes: Any) -> Architecture:
        """Return a conformer of other sizes."""
        return self.conformer.resized(**sizes)

    def with_predictor(
        self, kind: str, where: str = "student", context: Optional[int] = None
    ) -> Architecture:
        """Return a conformer with another kind of predictor."""
        return self.conformer.with_predictor(kind, where, context)

    def shrink_to(
        self, params: int, where: str, kept: Optional[Chooser] = None, shape: Shape = RULE
    ) -> Architecture:
        """Return the template's conformer if it is small enough, or shrink it.

        Raises:
            UserError: `params` is not less than the teacher has; see `Architecture.shrink_to`.
        """
        if params >= self.params:
            raise UserError(
                f"{where}: {params} parameters are not fewer than the teacher's {self.params}"
            )
        conformer = self.conformer
        if conformer.params <= params:
            return conformer
        return conformer.shrink_to(params, where, kept, shape)
