"""Sizes that a plan names, by ESPnet's own words: a stage's `student`."""

import dataclasses
from typing import Any, Dict, Mapping, Optional, Type

from espnet_kd.errors import UserError
from espnet_kd.spec.option import Options, known_options, option
from espnet_kd.spec.reader import read
from espnet_kd.spec.values import whole_number

PREDICTORS = ("rnn", "stateless")


def _size(doc: str, axis: str) -> Any:
    """Declare a size; `axis` is the field of `students.architecture.Architecture`."""
    field = option(
        None,
        doc,
        read=lambda where, value: whole_number(where, value, 1),
        values="a whole number",
    )
    field.metadata = {**field.metadata, "axis": axis}
    return field


@dataclasses.dataclass(frozen=True)
class EncoderSizes(Options):
    """Sizes of a conformer; None: the teacher's."""

    num_blocks: Optional[int] = _size("conformer blocks", "num_blocks")
    hidden_size: Optional[int] = _size("width of the residual stream", "hidden_size")
    linear_size: Optional[int] = _size("units of each feed-forward module", "linear_size")
    heads: Optional[int] = _size("attention heads", "heads")
    conv_mod_kernel_size: Optional[int] = _size("taps of the convolutions, odd", "kernel_size")
    conv_size: Optional[int] = _size("channels of the convolution front end", "conv_size")


@dataclasses.dataclass(frozen=True)
class DecoderSizes(Options):
    """Sizes of a predictor; None: the teacher's."""

    type: Optional[str] = option(
        None, "`stateless`: a predictor that sees the last label alone", choices=PREDICTORS
    )
    embed_size: Optional[int] = _size("width of the label embedding", "embed_size")
    hidden_size: Optional[int] = _size("width of the predictor's output", "decoder_size")


@dataclasses.dataclass(frozen=True)
class JointSizes(Options):
    """Sizes of a joint network; None: the teacher's."""

    joint_space_size: Optional[int] = _size("width of the joint network", "joint_size")


def _part(cls: Type[Options], doc: str) -> Any:
    return option(
        cls(), doc, read=lambda where, value: read(cls, value, where, "sizes by name")
    )


@dataclasses.dataclass(frozen=True)
class NamedSizes(Options):
    """Sizes of a student; what is not named is the teacher's."""

    encoder: EncoderSizes = _part(EncoderSizes, "sizes of the encoder")
    decoder: DecoderSizes = _part(DecoderSizes, "sizes of the predictor")
    joint_network: JointSizes = _part(JointSizes, "sizes of the joint network")

    @property
    def named(self) -> Dict[str, Any]:
        """Return what is named, `encoder.hidden_size` and the like, in the order of the plan."""
        return {
            f"{part}.{key}": getattr(getattr(self, part), key)
            for part in self.said
            for key in getattr(self, part).said
        }


# Field of `Architecture` that each name stands for; `decoder.type` is no size.
AXES: Dict[str, str] = {
    f"{part}.{key}": field.metadata["axis"]
    for part, cls in (
        ("encoder", EncoderSizes), ("decoder", DecoderSizes), ("joint_network", JointSizes)
    )
    for key, (field, _) in known_options(cls).items()
    if "axis" in field.metadata
}  # fmt: skip


def read_sizes(where: str, sizes: Any) -> Optional[NamedSizes]:
    """Read names and kinds of sizes; whether they fit a teacher is another question.

    Args:
        where: Name of the place in the plan, for messages.
        sizes: `{"encoder": {"num_blocks": 3}, "decoder": {"type": "stateless"}, ...}`.

    Raises:
        UserError: see `read`.
    """
    return None if sizes is None else read(NamedSizes, sizes, where, "sizes by name")


def check_together(sizes: Mapping[str, Any], where: str) -> None:
    """Refuse sizes that no conformer transducer can have together.

    Args:
        sizes: By names such as `encoder.heads`; those not named may be anything.
        where: Name of the place in the plan, for messages.

    Raises:
        UserError: a width that is odd or no multiple of the heads, or an even kernel.
    """
    width, heads = sizes.get("encoder.hidden_size", 0), sizes.get("encoder.heads", 1)
    if width % heads:
        raise UserError(f"{where}: hidden_size {width} is no multiple of heads {heads}")
    if width % 2:
        raise UserError(f"{where}: hidden_size {width} must be even")
    kernel = sizes.get("encoder.conv_mod_kernel_size", 1)
    if kernel % 2 == 0:
        raise UserError(f"{where}: conv_mod_kernel_size {kernel} must be odd")
    if sizes.get("decoder.type") == "stateless" and "decoder.hidden_size" in sizes:
        raise UserError(
            f"{where}.decoder.hidden_size: a stateless predictor has none; its width is embed_size"
        )
