"""Sizes that a plan names, by ESPnet's own words: a stage's `student`."""

import dataclasses
from typing import Any, Dict, Mapping, Optional, Type

from espnet_kd.errors import UserError, shown
from espnet_kd.spec.option import Options, option
from espnet_kd.spec.reader import read
from espnet_kd.spec.size_table import BY_NAME, PER_BLOCK, PerBlock, each
from espnet_kd.spec.values import whole_number

PREDICTORS = ("rnn", "stateless", "averaged")
OURS = ("averaged",)  # those that ESPnet does not have
NOT_STOCK = "its predictor, `averaged`, is a class of espnet_kd, which must be installed"
LARGEST_CONTEXT = 8  # labels that an averaged predictor hears
WIDE_AS_EMBEDDING = ("stateless",)  # those of which `decoder.hidden_size` is no size


def _size(name: str) -> Any:
    """Declare a size of the table."""
    axis = BY_NAME[name]
    return option(
        None,
        axis.doc,
        read=_read_blocks if axis.per_block else _read_size,
        values="a whole number" + (", or a list: one a block" if axis.per_block else ""),
    )


def _read_size(where: str, value: Any) -> int:
    return whole_number(where, value, 1)


def _read_context(where: str, value: Any) -> int:
    if value == 1:
        raise UserError(f"{where}: 1 label is 'type: stateless'; say that, or hear 2 labels")
    return whole_number(where, value, 2, LARGEST_CONTEXT)


def _read_blocks(where: str, value: Any) -> PerBlock:
    """Read a size of all blocks, or a list of one for each."""
    if not isinstance(value, list):
        return _read_size(where, value)
    if not value:
        raise UserError(f"{where}: expected a size for each block, found an empty list")
    return tuple(_read_size(f"{where}[{i}]", size) for i, size in enumerate(value))


@dataclasses.dataclass(frozen=True)
class EncoderSizes(Options):
    """Sizes of a conformer; None: the teacher's."""

    num_blocks: Optional[int] = _size("encoder.num_blocks")
    hidden_size: Optional[int] = _size("encoder.hidden_size")
    linear_size: Optional[PerBlock] = _size("encoder.linear_size")
    heads: Optional[int] = _size("encoder.heads")
    conv_mod_kernel_size: Optional[PerBlock] = _size("encoder.conv_mod_kernel_size")
    conv_size: Optional[int] = _size("encoder.conv_size")


@dataclasses.dataclass(frozen=True)
class DecoderSizes(Options):
    """Sizes of a predictor; None: the teacher's."""

    type: Optional[str] = option(
        None,
        "`stateless`: a predictor that sees the last label alone; `averaged`: one that averages "
        "the embeddings of the last ones, and decodes where this package is installed",
        choices=PREDICTORS,
    )
    context: Optional[int] = option(
        None,
        "labels that an `averaged` predictor hears; not named: 2, or as many as the teacher's",
        read=_read_context,
        values=f"a whole number from 2 to {LARGEST_CONTEXT}",
    )
    embed_size: Optional[int] = _size("decoder.embed_size")
    hidden_size: Optional[int] = _size("decoder.hidden_size")


@dataclasses.dataclass(frozen=True)
class JointSizes(Options):
    """Sizes of a joint network; None: the teacher's."""

    joint_space_size: Optional[int] = _size("joint_network.joint_space_size")


def _part(cls: Type[Options], doc: str) -> Any:
    return option(cls(), doc, read=lambda where, value: read(cls, value, where, "sizes by name"))


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
            for part in self.written
            for key in getattr(self, part).written
        }


def read_sizes(where: str, sizes: Any) -> Optional[NamedSizes]:
    """Read names and kinds of sizes; whether they fit a teacher is another question.

    Args:
        where: Name of the place in the plan, for messages.
        sizes: `{"encoder": {"num_blocks": 3}, "decoder": {"type": "stateless"}, ...}`.

    Raises:
        UserError: see `read`; or a context of a predictor that does not become `averaged`.
    """
    if sizes is None:
        return None
    named = read(NamedSizes, sizes, where, "sizes by name")
    if named.decoder.context is not None and named.decoder.type != "averaged":
        raise UserError(
            f"{where}.decoder.context: is a number of labels for 'type: averaged'; found "
            f"{named.decoder.context} beside {shown(named.decoder.type or 'no type')}"
        )
    return named


def check_depth(size: PerBlock, num_blocks: Optional[int], name: str, where: str) -> None:
    """Refuse a list of sizes that is not as long as the model is deep.

    Raises:
        UserError: it is not.
    """
    if isinstance(size, tuple) and num_blocks not in (None, len(size)):
        raise UserError(
            f"{where}.{name}: {len(size)} sizes for {num_blocks} blocks; name one size for each "
            "block, or one for all"
        )


def check_together(sizes: Mapping[str, Any], where: str) -> None:
    """Refuse sizes that no conformer transducer can have together.

    Args:
        sizes: Sizes by names such as `encoder.heads`; those not named may be anything.
        where: Name of the place in the plan, for messages.

    Raises:
        UserError: a width that is odd or no multiple of the heads, or an even kernel.
    """
    width, heads = sizes.get("encoder.hidden_size", 0), sizes.get("encoder.heads", 1)
    if width % heads:
        raise UserError(f"{where}: hidden_size {width} is no multiple of heads {heads}")
    if width % 2:
        raise UserError(f"{where}: hidden_size {width} must be even")
    for kernel in each(sizes.get("encoder.conv_mod_kernel_size", 1)):
        if kernel % 2 == 0:
            raise UserError(f"{where}: conv_mod_kernel_size {kernel} must be odd")
    for axis in PER_BLOCK:
        check_depth(sizes.get(axis.name, 1), sizes.get("encoder.num_blocks"), axis.name, where)
    kind = sizes.get("decoder.type")
    if kind in WIDE_AS_EMBEDDING and "decoder.hidden_size" in sizes:
        raise UserError(
            f"{where}.decoder.hidden_size: a {kind} predictor has none; its width is embed_size"
        )
