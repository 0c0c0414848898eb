"""The sizes of a conformer transducer, as arithmetic.

`model_config` reads them in ESPnet's config and writes them there.
"""

import dataclasses
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from espnet_kd.errors import UserError, check_choice
from espnet_kd.spec.named_sizes import WIDE_AS_EMBEDDING, NamedSizes, check_depth
from espnet_kd.spec.size_table import (
    AXES,
    BY_NAME,
    PER_BLOCK,
    PER_HEAD,
    RULE,
    Axis,
    PerBlock,
    Shape,
    each,
)
from espnet_kd.spec.values import whole_number
from espnet_kd.students.importance import spaced_blocks
from espnet_kd.students.parameter_counts import count
from espnet_kd.students.predictors import PREDICTORS

LEAST = 1 / 16  # factor of all widths that sizes for a target go down to

# Chooses so many of a model's blocks: their numbers, rising.
Chooser = Callable[[int], Sequence[int]]

# What a size may be that is no number of something.
CHOICES = {
    "subsampling": (2, 4, 6),
    "decoder": tuple(PREDICTORS),
    "rnn_type": ("lstm", "gru"),
}


class Counted(NamedTuple):
    """What a target counts.

    Attributes:
        unit: Its name, for messages.
        size: Counts it.
    """

    unit: str
    size: Callable[["Architecture"], int]


PARAMETERS = Counted("parameters", lambda model: model.params)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Everything that decides the number of parameters.

    What blocks may differ in (`spec.size_table`) is a number if they are alike, else a tuple with
    a number for each.

    Attributes:
        features: Input features F.
        vocab: Vocabulary V.
        num_blocks: Conformer blocks.
        hidden_size: Width D of the residual stream.
        linear_size: Units of each feed-forward module (two a block).
        heads: Attention heads.
        kernel_size: Taps of the depthwise convolution.
        conv_size: Channels of the convolution front end, of its last layers if `vgg_like`.
        conv_size1: Channels of its first layers if `vgg_like`, else 0.
        subsampling: Factor of the subsampling.
        decoder: Kind of the predictor, a key of `predictors.PREDICTORS`.
        rnn_type: `lstm` or `gru`.
        rnn_layers: Layers of the predictor.
        embed_size: Width of the label embedding.
        decoder_size: Width of the predictor's output.
        joint_size: Width of the joint network.
        lin_dec_bias: Whether the joint's predictor projection has a bias.
        context: Labels that an averaged predictor hears; of others 1, which says nothing.
    """

    features: int
    vocab: int
    num_blocks: int
    hidden_size: int
    linear_size: PerBlock
    heads: int
    kernel_size: PerBlock
    conv_size: int
    conv_size1: int
    subsampling: int
    decoder: str
    rnn_type: str
    rnn_layers: int
    embed_size: int
    decoder_size: int
    joint_size: int
    lin_dec_bias: bool = True
    context: int = 1

    def __post_init__(self) -> None:
        """Write what is alike in all blocks as a number: one way to say it."""
        for axis in PER_BLOCK:
            sizes = getattr(self, axis.field)
            if isinstance(sizes, (list, tuple)):
                alike = len(sizes) == self.num_blocks and len(set(sizes)) == 1
                object.__setattr__(self, axis.field, sizes[0] if alike else tuple(sizes))

    @property
    def axes(self) -> List[Axis]:
        """Return the directions in which this model can shrink."""
        gone = set(PREDICTORS[self.decoder].fixed)
        if self.conv_size1:
            gone.add("conv_size")  # a VGG-like front end is kept whole
        return [axis for axis in AXES if axis.field not in gone]

    def grid(self, axis: Axis) -> int:
        """Return what sizes along an axis are a multiple of."""
        return axis.grid * (self.heads if axis.for_each_head else 1)

    def size_of(self, axis: Axis, block: int) -> int:
        """Return the size of a block along an axis."""
        size = getattr(self, axis.field)
        return size[block] if isinstance(size, tuple) else size

    def of_blocks(self, axis: Axis) -> Tuple[int, ...]:
        """Return the sizes of all blocks along an axis."""
        return tuple(self.size_of(axis, b) for b in range(self.num_blocks))

    @property
    def blocks_differ(self) -> bool:
        """Return whether not all blocks have the same sizes."""
        return any(isinstance(getattr(self, axis.field), tuple) for axis in PER_BLOCK)

    def with_blocks(self, kept: Sequence[int]) -> "Architecture":
        """Return the sizes of some of the blocks with all that is around them."""
        sizes = {a.field: tuple(self.size_of(a, b) for b in kept) for a in PER_BLOCK}
        return self.resized(num_blocks=len(kept), **sizes)

    def resized(self, **sizes: Any) -> "Architecture":
        """Return a model of other sizes; some predictors are as wide as their embedding."""
        if self.decoder in WIDE_AS_EMBEDDING and "embed_size" in sizes:
            sizes["decoder_size"] = sizes["embed_size"]
        return dataclasses.replace(self, **sizes)

    def spaced(self, depth: int) -> Sequence[int]:
        """Choose evenly spaced blocks, so many of them."""
        return spaced_blocks(self.num_blocks, depth)

    def with_sizes(
        self, sizes: NamedSizes, where: str, kept: Optional[Chooser] = None
    ) -> "Architecture":
        """Replace sizes that a plan names.

        Args:
            sizes: Sizes by ESPnet's names. `decoder: {type: stateless}` makes the predictor one
                that sees a single label, as wide as the recurrent one's output unless
                `embed_size` is named; `averaged` one that hears `context` labels.
            where: Name of the place in the plan, for messages.
            kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.

        Raises:
            UserError: a size that is larger than here or cannot be.
        """
        model, depth = self, sizes.encoder.num_blocks
        if depth is not None and depth < self.num_blocks:
            model = self.with_blocks((kept or self.spaced)(depth))
        elif depth is not None and depth > self.num_blocks:
            raise UserError(
                f"{where}.encoder.num_blocks: {depth} is larger than the teacher's "
                f"{self.num_blocks}"
            )
        if sizes.decoder.type is not None:
            model = model.with_predictor(sizes.decoder.type, where, sizes.decoder.context)
        return model._with_widths(sizes, where)

    def _with_widths(self, sizes: NamedSizes, where: str) -> "Architecture":
        """Replace all sizes that are numbers."""
        changes: Dict[str, PerBlock] = {}
        for key, value in sizes.named.items():
            if key not in BY_NAME:
                continue
            axis = BY_NAME[key]
            field = axis.field
            if field == "decoder_size" and self.decoder in WIDE_AS_EMBEDDING:
                raise UserError(
                    f"{where}.decoder.hidden_size: a {self.decoder} predictor has none; its "
                    "width is embed_size"
                )
            check_depth(value, self.num_blocks, key, where)
            wanted = value if isinstance(value, tuple) else (value,) * self.num_blocks
            for b, (size, most) in enumerate(zip(wanted, self.of_blocks(axis))):
                if size > most:
                    alike = wanted[0] == value and isinstance(getattr(self, field), int)
                    block = "" if alike else f" in block {b}"
                    raise UserError(
                        f"{where}.{key}: {size} is larger than the teacher's {most}{block}"
                    )
            changes[field] = value
        if self.conv_size1 and changes.get("conv_size", self.conv_size) != self.conv_size:
            raise UserError(
                f"{where}.encoder.conv_size: the teacher's VGG-like front end is kept whole; "
                "leave conv_size out"
            )
        student = self.resized(**changes)
        student.check(where)
        return student

    def with_predictor(
        self, kind: str, where: str = "student", context: Optional[int] = None
    ) -> "Architecture":
        """Change the kind of predictor; everything else is kept.

        Args:
            kind: A key of `predictors.PREDICTORS`.
            where: Name of the place in the plan, for messages.
            context: Labels that an averaged one hears; None: as many as here, or the usual number.

        Raises:
            UserError: a predictor of that kind cannot be made of this one.
        """
        if kind == self.decoder:
            if context not in (None, self.context):
                raise UserError(
                    f"{where}.decoder.context: {context}, but the teacher's predictor averages "
                    f"{self.context} labels, and its students as many; leave context out"
                )
            return self
        changes = PREDICTORS[kind].made_of(self)
        if changes is None:
            raise UserError(
                f"{where}.decoder.type: the teacher's predictor is {self.decoder}; one of type "
                f"'{kind}' cannot be made of it"
            )
        if context is not None:
            changes["context"] = context
        return dataclasses.replace(self, **changes)

    def in_words(self) -> str:
        """Return the sizes that a reader asks for first."""
        units = "/".join(map(str, each(self.linear_size)))
        return (
            f"{self.num_blocks} blocks of width {self.hidden_size}, feed-forward {units}, "
            f"predictor {self.decoder_size}, joint {self.joint_size}"
        )

    def check(self, where: str) -> None:
        """Raise UserError for sizes that no conformer can have."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in CHOICES:
                check_choice(f"{where}.{field.name}", value, CHOICES[field.name])
            elif field.name not in ("conv_size1", "lin_dec_bias"):
                check_depth(value, self.num_blocks, field.name, where)
                for size in each(value):
                    whole_number(f"{where}.{field.name}", size, 1)
        if self.hidden_size % self.heads:
            raise UserError(
                f"{where}: hidden_size {self.hidden_size} is no multiple of heads {self.heads}"
            )
        if self.hidden_size % 2:
            raise UserError(f"{where}: hidden_size {self.hidden_size} must be even")
        for kernel in each(self.kernel_size):
            if kernel % 2 == 0:
                raise UserError(f"{where}: conv_mod_kernel_size {kernel} must be odd")

    @property
    def narrowest(self) -> int:
        """Width below which sizes for a target do not go if they need not.

        Not a share of the width here: down a chain that would halve at each step.
        """
        return min(self.hidden_size, PER_HEAD * self.heads)

    @property
    def front_end_bins(self) -> int:
        """Feature bins that are left after the convolution front end."""
        # ESPnet's own formulas (get_convinput_module_parameters).
        if self.conv_size1:
            return ((self.features - 1) // 2 - 1) // 2
        kernel, stride = {2: (3, 1), 4: (3, 2), 6: (5, 3)}[self.subsampling]
        return ((self.features - 1) // 2 - (kernel - stride)) // stride

    def count(self) -> Dict[str, int]:
        """Count parameters exactly: encoder, decoder, joint network (no auxiliary heads)."""
        return count(self)

    @property
    def params(self) -> int:
        """Parameters in all (no auxiliary heads)."""
        return sum(self.count().values())

    def shrink_to(
        self, params: int, where: str, kept: Optional[Chooser] = None, shape: Shape = RULE
    ) -> "Architecture":
        """Find the largest student of a shape with at most `params` parameters.

        Ours: with r the wanted fraction, depth is multiplied by a power of r (`Shape.depth`; of
        our rule the square root), and one common factor, as large as fits, multiplies all
        widths, the front end's channels included, some of them more than once (`Shape.powers`).
        No block more than our rule wants is kept at the price of heads that are too narrow
        (`narrowest`), nor is there a single one where two are wide enough. Heads and kernel are
        kept: neither is worth many parameters.

        Args:
            params: Parameters that the student has at most.
            where: Name of the place in the plan, for messages.
            kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.
            shape: What shrinks how much.

        Raises:
            UserError: not even the smallest student is that small, or `params` is not less
                than this model's.
        """
        self.check_reach(params, where, PARAMETERS, shape)
        for shallow, last in self.shallower(params / self.params, kept, shape):
            students = (shallow.scaled(k / 64, shape) for k in range(64, int(64 * LEAST) - 1, -1))
            student = next((s for s in students if s.params <= params), None)
            if student is not None and (last or student.hidden_size >= self.narrowest):
                return student
        raise UserError(f"{where}: no student of at most {params:,} parameters can be derived")

    def check_reach(
        self,
        most: int,
        where: str,
        counted: Counted,
        shape: Shape = RULE,
    ) -> None:
        """Refuse a size that this model has already, or that no student can have.

        Args:
            most: Size that the student has at most.
            where: Name of the place in the plan, for messages.
            counted: What a size is.
            shape: What shrinks how much.

        Raises:
            UserError: that is so.
        """
        unit, size = counted
        whole, least = size(self), size(self.with_blocks(self.spaced(1)).scaled(LEAST, shape))
        if most >= whole:
            raise UserError(f"{where}: {most:,} {unit} are not fewer than the teacher's {whole:,}")
        if most < least:
            raise UserError(
                f"{where}: no student of at most {most:,} {unit} can be derived; the smallest has "
                f"{least:,}"
            )

    def shallower(
        self, share: float, kept: Optional[Chooser] = None, shape: Shape = RULE
    ) -> Iterator[Tuple["Architecture", bool]]:
        """Yield models of so many blocks as a student may have, in order, widths as here.

        The deepest first: so many as the shape wants, two in the place of a single one if there
        are two to choose from. No shape wants fewer than our rule.

        Args:
            share: Wanted fraction of the parameters.
            kept: Chooser of the blocks that are kept; None: evenly spaced.
            shape: What shrinks how much.

        Yields:
            The model, and whether it is to be taken however narrow its student is: it is no
            deeper than our rule wants.

        Raises:
            UserError: the chooser has not so many as are wanted (a cascade needs the last ones).
        """
        wanted, least = (
            max(1, round(self.num_blocks * share**power)) for power in (shape.depth, RULE.depth)
        )
        for depth in range(max(wanted, min(2, self.num_blocks)), 0, -1):
            try:
                blocks = (kept or self.spaced)(depth)
            except UserError:
                if depth <= least:
                    raise
                continue
            yield self.with_blocks(blocks), depth <= least

    def scaled(self, factor: float, shape: Shape = RULE) -> "Architecture":
        """Multiply all widths by a factor, or by the power of it that a shape has for them."""
        sizes: Dict[str, PerBlock] = {}
        for axis in self.axes:
            if not axis.scaled or axis.field == "num_blocks":
                continue
            grid, share = self.grid(axis), factor ** shape.powers.get(axis.field, 1)
            widths = tuple(
                min(size, max(grid, round(size * share / grid) * grid))
                for size in self.of_blocks(axis)
            )
            sizes[axis.field] = widths if axis.per_block else widths[0]
        return self.resized(**sizes)
