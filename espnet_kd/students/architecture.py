"""The sizes of a conformer transducer, as arithmetic.

Names are ESPnet's own, as they stand in `encoder_conf`, `decoder_conf` and
`joint_network_conf` of a standalone transducer's config.
"""

import copy
import dataclasses
from typing import Any, Dict, Mapping

from espnet_kd.errors import UserError, check_choice
from espnet_kd.spec.named_sizes import AXES, NamedSizes
from espnet_kd.spec.values import whole_number

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
    linear_size: int
    heads: int
    kernel_size: int
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
            for key in ("hidden_size", "linear_size", "heads", "conv_mod_kernel_size"):
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
            linear_size=block["linear_size"],
            heads=block.get("heads", 4),
            kernel_size=block["conv_mod_kernel_size"],
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

    def with_sizes(self, sizes: NamedSizes, where: str) -> "Architecture":
        """Replace sizes that a plan names.

        Args:
            sizes: By ESPnet's names. `decoder: {type: stateless}` makes the predictor one
                that sees a single label, as wide as the recurrent one's output unless
                `embed_size` is named.
            where: Name of the place in the plan, for messages.

        Raises:
            UserError: a size that is larger than here or cannot be.
        """
        model = self
        if sizes.decoder.type is not None:
            model = self._with_predictor(sizes.decoder.type, where)
        return model._with_widths(sizes, where)

    def _with_widths(self, sizes: NamedSizes, where: str) -> "Architecture":
        """Replace all sizes that are numbers."""
        changes: Dict[str, int] = {}
        for key, value in sizes.named.items():
            if key not in AXES:
                continue
            field = AXES[key]
            if field == "decoder_size" and self.decoder == "stateless":
                raise UserError(
                    f"{where}.decoder.hidden_size: a stateless predictor has none; its "
                    "width is embed_size"
                )
            if value > getattr(self, field):
                raise UserError(
                    f"{where}.{key}: {value} is larger than the teacher's {getattr(self, field)}"
                )
            changes[field] = value
        if self.conv_size1 and changes.get("conv_size", self.conv_size) != self.conv_size:
            raise UserError(
                f"{where}.encoder.conv_size: the teacher's VGG-like front end is kept whole; "
                "leave conv_size out"
            )
        if self.decoder == "stateless" and "embed_size" in changes:
            changes["decoder_size"] = changes["embed_size"]
        student = dataclasses.replace(self, **changes)
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
                whole_number(f"{where}.{field.name}", value, 1)
        if self.hidden_size % self.heads:
            raise UserError(
                f"{where}: hidden_size {self.hidden_size} is no multiple of heads {self.heads}"
            )
        if self.hidden_size % 2:
            raise UserError(f"{where}: hidden_size {self.hidden_size} must be even")
        if self.kernel_size % 2 == 0:
            raise UserError(f"{where}: conv_mod_kernel_size {self.kernel_size} must be odd")

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
        d, f, c = self.hidden_size, self.linear_size, self.conv_size
        if self.conv_size1:
            channels = (1, self.conv_size1, self.conv_size1, c, c)
            front = sum(9 * a * b + b for a, b in zip(channels, channels[1:]))
        else:
            kernel2 = {2: 3, 4: 3, 6: 5}[self.subsampling]
            front = (9 * c + c) + (c * c * kernel2**2 + c)
        front += c * self.front_end_bins * d + d
        feed_forward = 2 * (2 * d * f + f + d)
        attention = 4 * (d * d + d) + d * d + 2 * d  # q, k, v, out; linear_pos; two biases
        # pointwise 1 (to twice the width), depthwise, batch norm, pointwise 2
        convolution = (2 * d * d + 2 * d) + (d * self.kernel_size + d) + 2 * d + (d * d + d)
        block = feed_forward + attention + convolution + 5 * 2 * d  # five layer norms
        encoder = front + self.num_blocks * block + 2 * d
        decoder = self.vocab * self.embed_size
        if self.decoder == "rnn":
            gates = {"lstm": 4, "gru": 3}[self.rnn_type]
            width = self.embed_size
            for _ in range(self.rnn_layers):
                decoder += gates * self.decoder_size * (width + self.decoder_size + 2)
                width = self.decoder_size
        j = self.joint_size
        joint = (d * j + j) + (self.decoder_size * j + j * self.lin_dec_bias)
        joint += j * self.vocab + self.vocab
        return {"encoder": encoder, "decoder": decoder, "joint_network": joint}

    @property
    def params(self) -> int:
        """Parameters in all (no auxiliary heads)."""
        return sum(self.count().values())

    def shrink_to(self, params: int, where: str) -> "Architecture":
        """Find the largest student of our shape rule with at most `params` parameters.

        The rule (ours): with r the wanted fraction, depth is multiplied by the square root
        of r, and one common factor, as large as fits, multiplies all widths, the front end's
        channels included. Heads and kernel are kept: neither is worth many parameters.

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
            for step in range(64, 3, -1):
                student = self._scaled(depth, step / 64)
                if student.params <= params:
                    return student
            depth -= 1
        raise UserError(f"{where}: no student of at most {params} parameters can be derived")

    def _scaled(self, depth: int, factor: float) -> "Architecture":
        def width(size: int, multiple: int) -> int:
            return min(size, max(multiple, round(size * factor / multiple) * multiple))

        return dataclasses.replace(
            self,
            num_blocks=depth,
            hidden_size=width(self.hidden_size, 2 * self.heads),
            linear_size=width(self.linear_size, 8),
            # A VGG-like front end is kept whole.
            conv_size=self.conv_size if self.conv_size1 else width(self.conv_size, 4),
            embed_size=width(self.embed_size, 8),
            decoder_size=width(self.decoder_size, 8)
            if self.decoder == "rnn"
            else width(self.embed_size, 8),
            joint_size=width(self.joint_size, 8),
        )

    def to_config(self, teacher: Mapping[str, Any], kept: "list[int]") -> Dict[str, Any]:
        """Write these sizes into a copy of the teacher's model configuration.

        Args:
            teacher: The teacher's config.
            kept: The teacher's blocks, by number, that the student's come from.

        Returns:
            `encoder_conf`, `decoder`, `decoder_conf` and `joint_network_conf` of the student.
        """
        encoder = copy.deepcopy(teacher["encoder_conf"])
        blocks = [b for b in encoder["body_conf"] for _ in range(b.get("num_blocks") or 1)]
        sizes = {
            "hidden_size": self.hidden_size,
            "linear_size": self.linear_size,
            "heads": self.heads,
            "conv_mod_kernel_size": self.kernel_size,
        }
        body = [{**blocks[i], **sizes, "num_blocks": 1} for i in kept]
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
