"""The distillation options, `kd_conf` in a training config. Plans check theirs without torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from espnet_kd import kd_option_checks as check
from espnet_kd.choices import DIVERGENCES, NODES, NORMALIZATIONS, OBJECTIVES
from espnet_kd.errors import UserError, check_choice, check_name, shown

if TYPE_CHECKING:
    from espnet_kd.objective import Objective

CHOICES = {
    "objective": ("none",) + OBJECTIVES,
    "divergence": DIVERGENCES,
    "normalize": NORMALIZATIONS,
    "nodes": NODES,
    "teacher_features": ("shared", "clean"),
    "teacher_context": ("shared", "full"),
    "teacher_dtype": ("float32", "bfloat16"),
}
LEAST = {"valid_chunk_size": 0, "top_k": 1, "frame_shift": None}  # of whole numbers
LISTS = {"weight_schedule": check.schedule, "layers": check.block_pairs}
CACHED = ("collapsed", "full_sum")  # objectives that a teacher cache can serve


@dataclasses.dataclass(frozen=True)
class DistillOptions:
    """What `kd_conf` may hold.

    Attributes:
        objective: `none` trains with the RNN-T loss alone; the others, and `divergence`,
            `temperature`, `normalize`, `nodes`, `frame_shift` and `top_k`, are those of
            `espnet_kd.objective.Objective`.
        weight: lambda of L = L_RNNT + lambda * distillation loss.
        weight_schedule: Points (update, factor): lambda is multiplied by a factor that goes
            linearly from point to point and stays at the last. [[0, 0], [500, 1]]: the
            teacher is faded in over 500 updates.
        ctc_weight: Of the divergence of the auxiliary CTC heads (`losses.encoder.ctc_kl`),
            which teacher and student must both have.
        encoder_weight: Of the distance of the encoder outputs
            (`losses.encoder.encoder_distance`); the student gets a projection to the
            teacher's width, `kd_projection`, which decoding passes over.
        layers: Pairs [student's block, teacher's block] of encoder blocks, counted from 0,
            whose outputs are compared as those of the encoders are; where the widths
            differ the student gets a projection each, `kd_layers`, which decoding passes
            over.
        layer_weight: Of the mean of these distances.
        first_weight: m of (1 - m) * D(teacher) + m * D(first teacher), the distillation loss
            on the lattice; the auxiliary losses above are the teacher's alone.
        first_teacher_config: The first teacher's `config.yaml`.
        first_teacher_model: Its checkpoint.
        teacher_config: The teacher's `config.yaml`.
        teacher_model: The teacher's checkpoint.
        teacher_cache: Directory of a teacher cache (`espnet_kd.bin.cache_teacher`), which
            takes the teacher's place; the two keys above are then only compared with it.
        teacher_features: `shared`: the teacher hears the student's SpecAugment draw;
            `clean`: the features without it.
        teacher_context: `shared`: the teacher attends under the student's chunk mask;
            `full`: to the whole utterance.
        teacher_dtype: `bfloat16` halves the teacher's memory (`FrozenTeacher`).
        valid_chunk_size: Encoder frames a chunk in validation, 0 for full context; by
            default `short_chunk_size` of the encoder. ESPnet draws a chunk size in
            validation too, which makes the choice of a checkpoint random.
    """

    objective: str = "none"
    divergence: str = "forward"
    weight: float = 1.0
    weight_schedule: Optional[List[List[float]]] = None
    temperature: float = 1.0
    normalize: str = "path"
    nodes: str = "all"
    frame_shift: int = 0
    top_k: int = 8
    ctc_weight: float = 0.0
    encoder_weight: float = 0.0
    layers: Optional[List[List[int]]] = None
    layer_weight: float = 0.0
    first_weight: float = 0.0
    first_teacher_config: Optional[str] = None
    first_teacher_model: Optional[str] = None
    teacher_config: Optional[str] = None
    teacher_model: Optional[str] = None
    teacher_cache: Optional[str] = None
    teacher_features: str = "shared"
    teacher_context: str = "shared"
    teacher_dtype: str = "float32"
    valid_chunk_size: Optional[int] = None

    @property
    def distils(self) -> bool:
        """Whether a teacher takes part."""
        return self.objective != "none"

    def weight_at(self, update: float) -> float:
        """Return lambda after `update` updates of the student."""
        if not self.weight_schedule:
            return self.weight
        (x0, y0), *rest = self.weight_schedule
        for x1, y1 in rest:
            if update < x1:
                part = max(0.0, (update - x0) / (x1 - x0))
                return self.weight * (y0 + part * (y1 - y0))
            x0, y0 = x1, y1
        return self.weight * y0

    @property
    def matched(self) -> Objective:
        """What the lattice loss needs of the options."""
        from espnet_kd.objective import Objective

        names = [f.name for f in dataclasses.fields(Objective)]
        values = {name: getattr(self, name) for name in names}
        # Without distillation there is no teacher, and the objective is not looked at.
        return Objective(**(values if self.distils else {**values, "objective": "collapsed"}))

    @classmethod
    def checked(cls, conf: Mapping[str, Any], where: str) -> Dict[str, Any]:
        """Check names, types and values, each by itself.

        Args:
            conf: The options as a config or a stage of a plan holds them.
            where: Name of the place, for messages.

        Raises:
            UserError: unknown key (naming the nearest right one), wrong type or value.
        """
        if not isinstance(conf, Mapping):
            raise UserError(f"{where}: expected options by name, found {shown(conf)}")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        values: Dict[str, Any] = {}
        for key, value in conf.items():
            check_name(f"{where}: unknown key", key, fields)
            values[key] = _checked(where, key, value, fields[key].default)
            if key.endswith("weight") and values[key] < 0:
                raise UserError(f"{where}.{key}: must not be negative, found {values[key]}")
        temperature = values.get("temperature", 1)
        if not 0 < temperature:
            raise UserError(f"{where}.temperature: must be positive, found {temperature}")
        if not 0.001 <= temperature <= 1000:
            raise UserError(
                f"{where}.temperature: expected a number from 0.001 to 1000, found {temperature}"
            )
        if values.get("first_weight", 0) > 1:
            raise UserError(
                f"{where}.first_weight: a share of the distillation loss is at most 1, found "
                f"{values['first_weight']}"
            )
        return values

    def check_layers(self, where: str) -> None:
        """Refuse layers without their weight, and the other way round.

        Args:
            where: Name of the place, for messages.

        Raises:
            UserError: one of the two is missing.
        """
        if (self.layers is None) != (self.layer_weight == 0):
            raise UserError(
                f"{where}: layers {self.layers} with layer_weight {self.layer_weight}: give both "
                "or neither"
            )

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any], where: str = "kd_conf") -> DistillOptions:
        """Check the options of a training.

        Args:
            conf: The options as a config holds them.
            where: Name of the place, for messages.

        Raises:
            UserError: see `checked`, and options that do not go together, such as an
                objective without a teacher.
        """
        options = cls(**cls.checked(conf, where))
        options.check_layers(where)
        if options.distils and options.teacher_cache:
            _check_for_cache(where, options, conf)
            return dataclasses.replace(options, teacher_features="clean")
        if options.distils and not (options.teacher_config and options.teacher_model):
            raise UserError(
                f"{where}: objective '{options.objective}' needs teacher_config and teacher_model"
            )
        if options.first_weight > 0 and not (
            options.first_teacher_config and options.first_teacher_model
        ):
            raise UserError(
                f"{where}: first_weight {options.first_weight} needs first_teacher_config and "
                "first_teacher_model"
            )
        return options


def check_top_k(options: DistillOptions, vocab: int, where: str = "kd_conf") -> None:
    """Refuse more likeliest tokens than there are.

    Raises:
        UserError: `top_k` leaves no token to the rest.
    """
    if options.objective == "top_k" and options.top_k >= vocab:
        raise UserError(
            f"{where}.top_k: must be below the vocabulary, {vocab} tokens; found {options.top_k} "
            "('objective: full' takes them all)"
        )


def check_band(band: int, options: DistillOptions, where: str = "kd_conf: ") -> None:
    """Refuse objectives that need the whole lattice of a teacher.

    Raises:
        UserError: a cache with this band cannot serve these options.
    """
    if band and (options.objective != "collapsed" or options.nodes != "all"):
        raise UserError(
            f"{where}a teacher cache with a band serves objective 'collapsed' with nodes 'all', "
            f"found '{options.objective}' with '{options.nodes}'; make it with --band 0"
        )


def _checked(where: str, key: str, value: Any, default: Any) -> Any:
    """Return `value` in its type, or raise UserError."""
    if key in CHOICES:
        check_choice(f"{where}.{key}", value, CHOICES[key])
    where = f"{where}.{key}"
    if isinstance(default, float):
        return check.number(where, value)
    if value is None and default is None:
        return None
    if key in LEAST:
        return check.whole_number(where, value, LEAST[key])
    if key in LISTS:
        return LISTS[key](where, value)
    if not isinstance(value, str):
        raise UserError(f"{where}: a name is expected, found {shown(value)}")
    return value


def _check_for_cache(where: str, options: DistillOptions, conf: Mapping[str, Any]) -> None:
    """Refuse what a cache of collapsed posteriors, made once, cannot serve."""
    wants = {
        "objective": (options.objective in CACHED, " or ".join(f"'{name}'" for name in CACHED)),
        "temperature": (options.temperature == 1, "1: it cannot be re-tempered"),
        "ctc_weight": (options.ctc_weight == 0, "0: it holds nothing of the encoder"),
        "encoder_weight": (options.encoder_weight == 0, "0: it holds nothing of the encoder"),
        "layer_weight": (options.layer_weight == 0, "0: it holds nothing of the encoder"),
        "first_weight": (options.first_weight == 0, "0: it holds one teacher"),
        "teacher_features": (
            conf.get("teacher_features", "clean") == "clean",
            "'clean': it holds no draw of SpecAugment",
        ),
        "teacher_context": (
            conf.get("teacher_context", "full") == "full",
            "'full' or left out: it was made with one chunk size",
        ),
    }
    for key, (fits, expected) in wants.items():
        if not fits:
            found = getattr(options, key)
            raise UserError(
                f"{where}.{key}: with a teacher cache it must be {expected}; found '{found}'"
            )
