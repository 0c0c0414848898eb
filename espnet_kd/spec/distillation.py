"""The distillation options: `kd_conf` of a training config, and a stage's own.

A stage of a plan, the plan's `train: {kd_conf: ...}` and the training config are laid over one
another as typed objects (`Options.over`); what was read is not checked a second time.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Tuple

from espnet_kd.errors import UserError, shown
from espnet_kd.spec.heard import check_heard
from espnet_kd.spec.option import FromCache, Options, known_options, option
from espnet_kd.spec.reader import read
from espnet_kd.spec.values import (
    MOST,
    block_pairs,
    rising_shares,
    schedule,
    three_weights,
    two_weights,
)

OBJECTIVES = ("collapsed", "full", "top_k", "full_sum")
NODES = ("all", "occupancy", "one_best")
DIVERGENCES = ("forward", "reverse", "symmetric")
NORMALIZATIONS = ("path", "node", "sum")

_ENCODER = FromCache((0,), "0: it holds nothing of the encoder")


def _weight(doc: str, default: float = 0.0, **known: Any) -> Any:
    return option(default, doc, least=0, most=MOST, published=True, **known)


@dataclasses.dataclass(frozen=True)
class Objective(Options):
    """The distillation loss: the part of the teacher that is matched, and where.

    Attributes:
        objective: `collapsed`: {blank, next label, rest} (arXiv 2011.06110); `full`: the
            vocabulary (arXiv 1503.02531); `top_k`: the teacher's k likeliest tokens and
            the rest; `full_sum`: log P(y | x) (arXiv 2303.05958).
        divergence: `forward`, `reverse` or `symmetric`: see `losses.kl.divergence`.
        temperature: Divides the logits of both; the loss is multiplied by its square
            (Hinton et al. 2015, section 2).
        normalize: See `losses.reduce_nodes`.
        nodes: `all` with equal weight; `occupancy`: each by the probability that a path of
            the teacher visits it; `one_best`: those of the teacher's best path alone
            (Yang et al. 2021, arXiv 2110.03334).
        frame_shift: The student's frame t is compared with the teacher's frame
            t - frame_shift: a streaming student emits later than a full-context teacher.
            Frames without a partner count nothing.
        top_k: k of `top_k`.
        lattice: `full`, or `band`: RNN-T loss and distillation are restricted to the rows of
            each frame that the teacher's paths visit, exact inside (`lattice.banded`).
        band_kept: Share of a frame's visits that the band keeps at least.
        band_rows: Instead, rows of a frame that the band has at least; 0: by `band_kept`.
    """

    objective: str = option(
        "collapsed",
        "what of the teacher is matched: {blank, next label, rest}, the vocabulary, its k "
        "likeliest tokens and the rest, the probability of the transcript",
        choices=OBJECTIVES,
        published=True,
    )
    divergence: str = option(
        "forward",
        "KL(teacher, student), the other way round, their mean",
        choices=DIVERGENCES,
        published=True,
    )
    temperature: float = option(
        1.0,
        "divides the logits of both; the loss is multiplied by its square",
        least=0.001,
        most=1000,
        published=True,
        cache=FromCache((1,), "1: it cannot be re-tempered"),
    )
    normalize: str = option(
        "path",
        "the mean over the lattice's nodes times the nodes that one path visits, that mean, or "
        "the sum over all nodes",
        choices=NORMALIZATIONS,
        published=True,
    )
    nodes: str = option(
        "all",
        "where in the lattice: everywhere, where the teacher's paths go, on its best path",
        choices=NODES,
        published=True,
    )
    frame_shift: int = option(
        0,
        "the student's frame t is compared with the teacher's frame t - frame_shift",
        published=True,
    )
    top_k: int = option(8, "k of `objective: top_k`", least=1, published=True)
    lattice: str = option(
        "full",
        "the whole lattice, or in training only the rows of each frame where the teacher's paths "
        "go: less time and memory",
        choices=("full", "band"),
        published=True,
    )
    band_kept: float = option(
        0.999,
        "share of the teacher's paths in a frame that `lattice: band` keeps at least",
        least=0.5,
        most=1,
        published=True,
    )
    band_rows: int = option(
        0,
        "rows of a frame that `lattice: band` has at least, instead; 0: as many as `band_kept` "
        "wants",
        least=0,
        published=True,
    )

    def clash(self) -> Optional[Tuple[str, str]]:
        """Return an option that would be passed over in silence, and why; None: there is none.

        Numbers of what is not chosen, such as `top_k` with another objective, may stand there.
        """
        idle: Dict[str, str] = {}
        if self.objective == "full_sum":
            names = ("divergence", "temperature", "normalize", "nodes", "frame_shift")
            idle = dict.fromkeys(names, "objective 'full_sum'")
        if self.objective != "none" and self.lattice == "band":
            idle["frame_shift"] = "lattice 'band', which lies around the teacher's own frames,"
        elif self.objective != "none":  # whoever names a band means to have it
            idle.update(dict.fromkeys(("band_kept", "band_rows"), "lattice 'full'"))
        defaults = {field.name: field.default for field in dataclasses.fields(Objective)}
        for name, where in idle.items():
            value = getattr(self, name)
            if value != defaults[name]:
                return name, f"found {shown(value)}, which {where} has no use for; leave it out"
        return None

    def __post_init__(self) -> None:
        # For those who write Python: what YAML holds has been read before.
        for field, facts in known_options(type(self)).values():
            value = getattr(self, field.name)
            if facts.choices and value not in facts.choices:
                raise ValueError(f"{field.name} must be one of {facts.choices}: got '{value}'")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive: got {self.temperature}")


@dataclasses.dataclass(frozen=True)
class Distillation(Objective):
    """Options of `kd_conf`.

    Attributes:
        objective: `none` trains with the RNN-T loss alone; the others are `Objective`'s.
        weight: lambda of L = L_RNNT + lambda * distillation loss.
        weight_schedule: Points (update, factor): lambda is multiplied by a factor that goes
            linearly from point to point and stays at the last. [[0, 0], [500, 1]]: the
            teacher is faded in over 500 updates.
        ctc_weight: Weight of the divergence of the auxiliary CTC heads
            (`losses.encoder.ctc_kl`), which teacher and student must both have.
        encoder_weight: Weight of the distance of the encoder outputs
            (`losses.encoder.encoder_distance`); the student gets a projection to the
            teacher's width, `kd_projection`, which decoding passes over.
        layers: Pairs [student's block, teacher's block] of encoder blocks, counted from 0,
            whose outputs are compared as those of the encoders are; where the widths
            differ the student gets a projection each, `kd_layers`, which decoding passes
            over.
        layer_weight: Weight of the mean of these distances.
        auxiliary: Pairs of blocks with an auxiliary layer (`espnet.auxiliary_layers`).
        auxiliary_weights: Weights of its three losses.
        auxiliary_future: Frames ahead that are predicted.
        relations: Pairs of blocks whose relations to the past are compared.
        relation_weight: Weight of that.
        two_modes: Weights of what the student learns with full context, of its transcripts and
            of itself under a chunk mask (`espnet.two_modes`).
        first_weight: m of (1 - m) * D(teacher) + m * D(first teacher), the distillation loss
            on the lattice; the auxiliary losses above are the teacher's alone.
        curriculum: Shares of the teacher's own epochs: it teaches as it was after these, in
            turn and in equal parts of the training, at last as the plan has it
            (`espnet.curriculum`). None: as the plan has it from the beginning.
        teacher_features: `shared`: the teacher hears the student's SpecAugment draw;
            `clean`: the features without it.
        teacher_context: `shared`: the teacher attends under the student's chunk mask;
            `full`: to the whole utterance.
        teacher_dtype: `bfloat16` halves the teacher's memory (`FrozenTeacher`).
        first_teacher_config: The first teacher's `config.yaml`.
        first_teacher_model: Checkpoint of the first teacher.
        teacher_config: The teacher's `config.yaml`.
        teacher_model: The teacher's checkpoint.
        teacher_cache: Directory of a teacher cache (`espnet_kd.bin.cache_teacher`), which
            takes the teacher's place; the two keys above are then only compared with it.
        agreement_every: Batches from one in which the agreement with the teacher is measured to
            the next, in training; 0: in validation alone.
        valid_chunk_size: Encoder frames a chunk in validation, 0 for full context; by
            default `short_chunk_size` of the encoder. ESPnet draws a chunk size in
            validation too, which makes the choice of a checkpoint random.
    """

    objective: str = option(
        "none",
        "what of the teacher is matched: nothing, {blank, next label, rest}, the vocabulary, "
        "its k likeliest tokens and the rest, the probability of the transcript; a stage's "
        "default is `collapsed`",
        choices=("none", *OBJECTIVES),
        published=True,
        cache=FromCache(("collapsed", "full_sum"), "'collapsed' or 'full_sum'"),
    )
    weight: float = _weight("λ of L = L_RNNT + λ · distillation loss", 1.0)
    weight_schedule: Optional[List[List[float]]] = option(
        None,
        "λ is multiplied by a factor that goes linearly from point to point",
        read=schedule,
        values="`[[update, factor], ...]`",
        published=True,
    )
    ctc_weight: float = _weight("also match the auxiliary CTC heads", cache=_ENCODER)
    encoder_weight: float = _weight("also match the encoder outputs", cache=_ENCODER)
    layers: Optional[List[List[int]]] = option(
        None,
        "also match the outputs of these encoder blocks, counted from 0",
        read=block_pairs,
        values="`[[student's block, teacher's block], ...]`",
        published=True,
    )
    layer_weight: float = _weight("weight of `layers`", cache=_ENCODER)
    auxiliary: Optional[List[List[int]]] = option(
        None,
        "put a layer of full context on these encoder blocks of a streaming student, in training "
        "alone, and compare it with the teacher's, which hears the whole utterance",
        read=block_pairs,
        values="`[[student's block, teacher's block], ...]`",
        published=True,
        cache=FromCache((None,), "left out: it holds nothing of the encoder"),
    )
    auxiliary_weights: Tuple[float, ...] = option(
        (0.01, 0.0005, 0.005),
        "weights of `auxiliary`, a frame each: outputs, relations of frames, the future",
        read=three_weights,
        values="three numbers",
        published=True,
    )
    auxiliary_future: int = option(
        2,
        "frames N ahead that the last of the `auxiliary` layers predicts, and none of them hears",
        least=0,
        most=100,
        published=True,
    )
    relations: Optional[List[List[int]]] = option(
        None,
        "also match how each frame relates to those before it, in the queries, keys and values of "
        "these encoder blocks: without layers of its own",
        read=block_pairs,
        values="`[[student's block, teacher's block], ...]`",
        published=True,
    )
    relation_weight: float = _weight("weight of `relations`, a frame", cache=_ENCODER)
    two_modes: Optional[Tuple[float, ...]] = option(
        None,
        "learn full context beside streaming in each update: weights of L_RNNT with full context "
        "and of the symmetric KL between both modes, over the vocabulary",
        read=two_weights,
        values="two numbers, such as `[1, 0.6]`",
        published=True,
    )
    first_weight: float = option(
        0.0,
        "share m of the run's first teacher: (1 − m) · D(teacher) + m · D(first teacher)",
        least=0,
        most=1,
        published=True,
        cache=FromCache((0,), "0: it holds one teacher"),
    )
    curriculum: Optional[List[float]] = option(
        None,
        "the teacher teaches as it was after these shares of its own epochs, in turn, and at last "
        "as it is; it must have kept these epochs",
        read=rising_shares,
        values="`[0.2, 0.4, 0.7]`",
        published=True,
        cache=FromCache((None,), "left out: it holds one teacher"),
    )
    teacher_features: str = option(
        "shared",
        "whether the teacher hears the student's SpecAugment",
        choices=("shared", "clean"),
        published=True,
        cache=FromCache(("clean",), "'clean': it holds no draw of SpecAugment"),
    )
    teacher_context: str = option(
        "shared",
        "whether the teacher attends under the student's chunk mask, or to the whole utterance",
        choices=("shared", "full"),
        published=True,
        cache=FromCache(("full",), "'full' or left out: it was made with one chunk size"),
    )
    teacher_dtype: str = option(
        "float32",
        "in what the teacher is held and computed; the lattice stays in float32",
        choices=("float32", "bfloat16"),
        published=True,
    )
    first_teacher_config: Optional[str] = option(
        None, "the first teacher's `config.yaml`", file=True
    )
    first_teacher_model: Optional[str] = option(None, "its checkpoint", file=True)
    teacher_config: Optional[str] = option(None, "the teacher's `config.yaml`", file=True)
    teacher_model: Optional[str] = option(None, "its checkpoint", file=True)
    teacher_cache: Optional[str] = option(
        None, "a teacher cache, which takes the teacher's place", file=True
    )
    agreement_every: int = option(
        25,
        "of how many batches of a training one is asked for its `agreement` with the teacher; 0: "
        "only those of a validation are",
        least=0,
        neutral=True,
    )
    valid_chunk_size: Optional[int] = option(
        None,
        "encoder frames a chunk in validation, 0: full context",
        least=0,
        in_stage=False,
    )

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

    def measures_agreement(self, batch: int, training: bool) -> bool:
        """Tell whether a batch, the first of an epoch being 0, is asked for its agreement."""
        every = self.agreement_every
        return not training or (every > 0 and batch % every == 0)

    def check_together(self, where: str) -> None:
        """Refuse layers without their weight, and what others leave nothing to do.

        Args:
            where: Name of the place, for messages.

        Raises:
            UserError: options that do not go together.
        """
        clash = self.clash()
        if clash is not None:
            raise UserError(f"{where}.{': '.join(clash)}")
        check_heard(self, where)

    def complete(self, where: str = "kd_conf") -> Distillation:
        """Return the options of a training, which need a teacher or its cache.

        Args:
            where: Name of the place, for messages.

        Raises:
            UserError: options that do not go together, such as an objective without a teacher.
        """
        self.check_together(where)
        if self.distils and self.teacher_cache:
            self._check_for_cache(where)
            return dataclasses.replace(self, teacher_features="clean")
        if self.distils and not (self.teacher_config and self.teacher_model):
            raise UserError(
                f"{where}: objective '{self.objective}' needs teacher_config and teacher_model"
            )
        if self.first_weight > 0 and not (self.first_teacher_config and self.first_teacher_model):
            raise UserError(
                f"{where}: first_weight {self.first_weight} needs first_teacher_config and "
                "first_teacher_model"
            )
        return self

    def _check_for_cache(self, where: str) -> None:
        """Refuse what a cache of collapsed posteriors, made once, cannot serve."""
        for key, (field, facts) in known_options(type(self)).items():
            value = getattr(self, field.name)
            if facts.cache is None or value in facts.cache.values:
                continue
            if key in self.written or value != field.default:
                raise UserError(
                    f"{where}.{key}: with a teacher cache it must be {facts.cache.because}; "
                    f"found '{value}'"
                )

    def check_top_k(self, vocab: int, where: str = "kd_conf") -> None:
        """Refuse more likeliest tokens than there are.

        Raises:
            UserError: `top_k` leaves no token to the rest.
        """
        if self.objective == "top_k" and self.top_k >= vocab:
            raise UserError(
                f"{where}.top_k: must be below the vocabulary, {vocab} tokens; found {self.top_k} "
                "('objective: full' takes them all)"
            )

    def check_band(self, band: int, where: str = "kd_conf: ") -> None:
        """Refuse objectives that need the whole lattice of a teacher.

        Raises:
            UserError: a cache with this band cannot serve these options.
        """
        if band and (self.objective != "collapsed" or self.nodes != "all"):
            raise UserError(
                f"{where}a teacher cache with a band serves objective 'collapsed' with nodes "
                f"'all', found '{self.objective}' with '{self.nodes}'; make it with --band 0"
            )


# Keys of a stage that are distillation options.
IN_STAGE = [
    key
    for key, (_, facts) in known_options(Distillation).items()
    if facts.in_stage and not facts.file
]


def read_kd_conf(conf: Optional[Mapping[str, Any]], where: str = "kd_conf") -> Distillation:
    """Read the `kd_conf` of a training, each option by itself; None: no distillation.

    Args:
        conf: The options as a config holds them.
        where: Name of the place, for messages.

    Raises:
        UserError: see `read`.
    """
    return read(Distillation, conf or {}, where)
