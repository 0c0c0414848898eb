"""The sizes of a conformer transducer, as arithmetic.

Names are ESPnet's own, as they stand in `encoder_conf`, `decoder_conf` and
`joint_network_conf` of a standalone transducer's config.
"""

import copy
import dataclasses
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.errors import UserError, check_choice
from espnet_kd.spec.named_sizes import NamedSizes, check_depth
from espnet_kd.spec.size_table import AXES, BY_NAME, IN_BLOCK, PER_BLOCK, Axis, PerBlock, each
from espnet_kd.spec.values import whole_number
from espnet_kd.students.importance import spaced_blocks
from espnet_kd.students.parameter_counts import count

# Chooses so many of a model's blocks: their numbers, rising.
Chooser = Callable[[int], Sequence[int]]

# What a size may be that is no number of something.
CHOICES = {
    "subsampling": (2, 4, 6),
    "decoder": ("rnn", "stateless"),
    "rnn_type": ("lstm", "gru"),
}
# What of `decoder_conf` a stateless predictor has.
STATELESS_KEYS = ("embed_size", "embed_dropout_rate", "embed_pad")


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
        subsampling: Its factor.
        decoder: `rnn` or `stateless`.
        rnn_type: `lstm` or `gru`.
        rnn_layers: Layers of the predictor.
        embed_size: Width of the label embedding.
        decoder_size: Width of the predictor's output.
        joint_size: Width of the joint network.
        lin_dec_bias: Whether the joint's predictor projection has a bias.
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

    def __post_init__(self) -> None:
        """Write what is alike in all blocks as a number: one way to say it."""
        for axis in PER_BLOCK:
            sizes = getattr(self, axis.field)
            if isinstance(sizes, (list, tuple)):
                alike = len(sizes) == self.num_blocks and len(set(sizes)) == 1
                object.__setattr__(self, axis.field, sizes[0] if alike else tuple(sizes))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], features: int, vocab: int) -> "Architecture":
        """Read the sizes of an ESPnet config.

        Args:
            config: `config.yaml` of an `asr_transducer` experiment.
            features: Input features F.
            vocab: Vocabulary V.

        Raises:
            UserError: the model is not one that we can shrink, naming what it has instead.
        """
        encoder = config.get("encoder_conf") or {}
        body = encoder.get("body_conf") or []
        blocks = [b for b in body for _ in range(b.get("num_blocks") or 1)]
        if not blocks:
            raise UserError("encoder_conf.body_conf: no blocks; a conformer transducer is needed")
        for b in blocks:
            if b.get("block_type") != "conformer":
                raise UserError(
                    f"encoder_conf.body_conf: block_type '{b.get('block_type')}' cannot be "
                    "distilled yet; all blocks must be 'conformer'"
                )
            for key in (axis.key for axis in IN_BLOCK if not axis.per_block):
                if b.get(key) != blocks[0].get(key):
                    raise UserError(
                        f"encoder_conf.body_conf: {key} differs between blocks "
                        f"({blocks[0].get(key)}, {b.get(key)}); all must be alike"
                    )
        if (encoder.get("main_conf") or {}).get("simplified_att_score"):
            raise UserError("encoder_conf.main_conf.simplified_att_score: true is not supported")
        front = encoder.get("input_conf") or {}
        block = blocks[0]
        conv_size = front.get("conv_size") or block["hidden_size"]
        conv_size1 = 0
        if front.get("vgg_like"):
            pair = front.get("conv_size", (64, 128))  # ESPnet's default
            conv_size1, conv_size = (pair, pair) if isinstance(pair, int) else pair
        elif not isinstance(conv_size, int):
            conv_size = conv_size[0]
        decoder = config.get("decoder") or "rnn"
        if decoder not in ("rnn", "stateless"):
            raise UserError(f"decoder: '{decoder}' cannot be distilled yet; use rnn or stateless")
        dec = config.get("decoder_conf") or {}
        joint = config.get("joint_network_conf") or {}
        embed = dec.get("embed_size", 256)
        return cls(
            features=features,
            vocab=vocab,
            num_blocks=len(blocks),
            hidden_size=block["hidden_size"],
            linear_size=tuple(b["linear_size"] for b in blocks),
            heads=block.get("heads", 4),
            kernel_size=tuple(b["conv_mod_kernel_size"] for b in blocks),
            conv_size=conv_size,
            conv_size1=conv_size1,
            subsampling=front.get("subsampling_factor") or 4,
            decoder=decoder,
            rnn_type=dec.get("rnn_type", "lstm"),
            rnn_layers=dec.get("num_layers", 1),
            embed_size=embed,
            decoder_size=dec.get("hidden_size", 256) if decoder == "rnn" else embed,
            joint_size=joint.get("joint_space_size", 256),
            lin_dec_bias=joint.get("lin_dec_bias", True),
        )

    @property
    def axes(self) -> List[Axis]:
        """Return the directions in which this model can shrink."""
        gone = set()
        if self.conv_size1:
            gone.add("conv_size")  # a VGG-like front end is kept whole
        if self.decoder == "stateless":
            gone.add("decoder_size")  # that is `embed_size`
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
        """Return a model of other sizes; a stateless predictor is as wide as its embedding."""
        if self.decoder == "stateless" and "embed_size" in sizes:
            sizes["decoder_size"] = sizes["embed_size"]
        return dataclasses.replace(self, **sizes)

    def _spaced(self, depth: int) -> Sequence[int]:
        return spaced_blocks(self.num_blocks, depth)

    def with_sizes(
        self, sizes: NamedSizes, where: str, kept: Optional[Chooser] = None
    ) -> "Architecture":
        """Replace sizes that a plan names.

        Args:
            sizes: By ESPnet's names. `decoder: {type: stateless}` makes the predictor one
                that sees a single label, as wide as the recurrent one's output unless
                `embed_size` is named.
            where: Name of the place in the plan, for messages.
            kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.

        Raises:
            UserError: a size that is larger than here or cannot be.
        """
        model, depth = self, sizes.encoder.num_blocks
        if depth is not None and depth < self.num_blocks:
            model = self.with_blocks((kept or self._spaced)(depth))
        elif depth is not None and depth > self.num_blocks:
            raise UserError(
                f"{where}.encoder.num_blocks: {depth} is larger than the teacher's "
                f"{self.num_blocks}"
            )
        if sizes.decoder.type is not None:
            model = model._with_predictor(sizes.decoder.type, where)
        return model._with_widths(sizes, where)

    def _with_widths(self, sizes: NamedSizes, where: str) -> "Architecture":
        """Replace all sizes that are numbers."""
        changes: Dict[str, PerBlock] = {}
        for key, value in sizes.named.items():
            if key not in BY_NAME:
                continue
            axis = BY_NAME[key]
            field = axis.field
            if field == "decoder_size" and self.decoder == "stateless":
                raise UserError(
                    f"{where}.decoder.hidden_size: a stateless predictor has none; its "
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

    def _with_predictor(self, kind: str, where: str) -> "Architecture":
        """Change the kind of predictor; everything else is kept."""
        if kind == self.decoder:
            return self
        if kind == "rnn":
            raise UserError(
                f"{where}.decoder.type: the teacher's predictor is stateless; a recurrent one "
                "cannot be made of it"
            )
        return dataclasses.replace(self, decoder=kind, embed_size=self.decoder_size)

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

    def shrink_to(self, params: int, where: str, kept: Optional[Chooser] = None) -> "Architecture":
        """Find the largest student of our shape rule with at most `params` parameters.

        The rule (ours): with r the wanted fraction, depth is multiplied by the square root
        of r, and one common factor, as large as fits, multiplies all widths, the front end's
        channels included. Heads and kernel are kept: neither is worth many parameters.

        Args:
            params: Parameters that the student has at most.
            where: Name of the place in the plan, for messages.
            kept: Chooser of the blocks that a shallower student keeps; None: evenly spaced.

        Raises:
            UserError: not even the smallest student is that small, or `params` is not less
                than this model's.
        """
        if params >= self.params:
            raise UserError(
                f"{where}: {params} parameters are not fewer than the teacher's {self.params}"
            )
        depth = max(1, round(self.num_blocks * (params / self.params) ** 0.5))
        while depth >= 1:
            shallow = self.with_blocks((kept or self._spaced)(depth))
            for step in range(64, 3, -1):
                student = shallow._scaled(step / 64)
                if student.params <= params:
                    return student
            depth -= 1
        raise UserError(f"{where}: no student of at most {params} parameters can be derived")

    def _scaled(self, factor: float) -> "Architecture":
        """Multiply all widths by a factor."""
        sizes: Dict[str, PerBlock] = {}
        for axis in self.axes:
            if not axis.scaled or axis.field == "num_blocks":
                continue
            grid = self.grid(axis)
            widths = tuple(
                min(size, max(grid, round(size * factor / grid) * grid))
                for size in self.of_blocks(axis)
            )
            sizes[axis.field] = widths if axis.per_block else widths[0]
        return self.resized(**sizes)

    def to_config(self, teacher: Mapping[str, Any], kept: Sequence[int]) -> Dict[str, Any]:
        """Write these sizes into a copy of the teacher's model configuration.

        Args:
            teacher: The teacher's config.
            kept: The teacher's blocks, by number, that the student's come from.

        Returns:
            `encoder_conf`, `decoder`, `decoder_conf` and `joint_network_conf` of the student.
        """
        encoder = copy.deepcopy(teacher["encoder_conf"])
        blocks = [b for b in encoder["body_conf"] for _ in range(b.get("num_blocks") or 1)]
        body = []
        for b, i in enumerate(kept):
            sizes = {axis.key: self.size_of(axis, b) for axis in IN_BLOCK}
            body.append({**blocks[i], **sizes, "num_blocks": 1})
        merged = [body[0]]
        for block in body[1:]:  # equal neighbours become one entry again
            if {**block, "num_blocks": 0} == {**merged[-1], "num_blocks": 0}:
                merged[-1]["num_blocks"] += 1
            else:
                merged.append(block)
        encoder["body_conf"] = merged
        conv_size = [self.conv_size1, self.conv_size] if self.conv_size1 else self.conv_size
        encoder["input_conf"] = {
            **(encoder.get("input_conf") or {}),
            "conv_size": conv_size,
            "subsampling_factor": self.subsampling,
        }
        # ESPnet's validation fills this in with the width; a stale one would win over it.
        encoder["input_conf"].pop("output_size", None)
        decoder = {**(teacher.get("decoder_conf") or {}), "embed_size": self.embed_size}
        if self.decoder == "rnn":
            decoder["hidden_size"] = self.decoder_size
        else:
            decoder = {key: decoder[key] for key in STATELESS_KEYS if key in decoder}
        joint = {**(teacher.get("joint_network_conf") or {}), "joint_space_size": self.joint_size}
        return {
            "encoder_conf": encoder,
            "decoder": self.decoder,
            "decoder_conf": decoder,
            "joint_network_conf": joint,
        }
