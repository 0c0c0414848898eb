"""The distillation options, `kd_conf` in a training config."""

import dataclasses
from typing import Any, Dict, Mapping, Optional

from espnet_kd.errors import UserError, nearest
from espnet_kd.losses import KINDS, NORMALIZATIONS

CHOICES = {
    "objective": ("none", "collapsed", "full"),
    "divergence": KINDS,
    "normalize": NORMALIZATIONS,
    "teacher_features": ("shared", "clean"),
    "teacher_context": ("shared", "full"),
}


@dataclasses.dataclass(frozen=True)
class DistillOptions:
    """What `kd_conf` may hold.

    Attributes:
        objective: `none` trains with the RNN-T loss alone; `collapsed`: KL over {blank,
            next label, rest}; `full`: KL over the vocabulary.
        divergence: `forward`: KL(teacher || student); `reverse`; `symmetric`.
        weight: lambda of L = L_RNNT + lambda * divergence.
        temperature: Divides the logits of teacher and student.
        normalize: How node divergences are summed: see `losses.reduce_nodes`.
        teacher_config: The teacher's `config.yaml`.
        teacher_model: The teacher's checkpoint.
        teacher_features: `shared`: the teacher hears the student's SpecAugment draw;
            `clean`: the features without it.
        teacher_context: `shared`: the teacher attends under the student's chunk mask;
            `full`: to the whole utterance.
        valid_chunk_size: Encoder frames a chunk in validation, 0 for full context; by
            default `short_chunk_size` of the encoder. ESPnet draws a chunk size in
            validation too, which makes the choice of a checkpoint random.
    """

    objective: str = "none"
    divergence: str = "forward"
    weight: float = 1.0
    temperature: float = 1.0
    normalize: str = "path"
    teacher_config: Optional[str] = None
    teacher_model: Optional[str] = None
    teacher_features: str = "shared"
    teacher_context: str = "shared"
    valid_chunk_size: Optional[int] = None

    @property
    def distils(self) -> bool:
        """Whether a teacher takes part."""
        return self.objective != "none"

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any], where: str = "kd_conf") -> "DistillOptions":
        """Check names, types and values.

        Args:
            conf: The options as a config holds them.
            where: Name of the place, for messages.

        Raises:
            UserError: unknown key (naming the nearest right one), wrong type or value, or
                an objective without a teacher.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        values: Dict[str, Any] = {}
        for key, value in conf.items():
            if key not in fields:
                known = ", ".join(fields)
                raise UserError(
                    f"{where}: unknown key '{key}'{nearest(key, fields)}; known: {known}"
                )
            values[key] = _checked(where, key, value, fields[key].default)
        options = cls(**values)
        if options.weight < 0:
            raise UserError(f"{where}.weight: must not be negative, found {options.weight}")
        if options.temperature <= 0:
            raise UserError(f"{where}.temperature: must be positive, found {options.temperature}")
        if options.distils and not (options.teacher_config and options.teacher_model):
            raise UserError(
                f"{where}: objective '{options.objective}' needs teacher_config and teacher_model"
            )
        return options


def _checked(where: str, key: str, value: Any, default: Any) -> Any:
    """Return `value` in its type, or raise UserError."""
    if key in CHOICES and value not in CHOICES[key]:
        hint = nearest(str(value), CHOICES[key])
        raise UserError(f"{where}.{key}: '{value}' is not one of {CHOICES[key]}{hint}")
    if isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"{where}.{key}: expected a number, found '{value}'")
        return float(value)
    if key == "valid_chunk_size" and value is not None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(f"{where}.{key}: expected a whole number >= 0, found '{value}'")
    return value
