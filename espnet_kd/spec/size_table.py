"""The one table of sizes: what of a conformer transducer can shrink, and how.

Names for plans (`named_sizes`), counts and sizes for a target (`students.architecture`,
`students.allocate`, `students.halfway`) and the units that are cut (`students.inherit`) are read
from it. The order is that in which axes are tried (`students.allocate`).

The residual stream joins all blocks, so that `hidden_size` is the same in each; heads share its
channels out, and their number decides what a width may be. What lies inside a module of one block
may differ from block to block.
"""

import dataclasses
from typing import Mapping, Tuple, Union

PerBlock = Union[int, Tuple[int, ...]]  # of all blocks, or of each
PER_HEAD = 8  # channels of an attention head that sizes for a target keep where they can


@dataclasses.dataclass(frozen=True)
class Axis:
    """One direction in which a model can shrink.

    Attributes:
        name: Part and name in ESPnet's config, as a plan has it.
        field: Field of `students.architecture.Architecture`.
        doc: Meaning, for tables of options.
        label: Name in the log of `allocate: sensitivity`; empty: never shrunk by it.
        grid: Number that sizes for a target are a multiple of, or by whose multiples they
            differ from the teacher's.
        for_each_head: Whether the grid is multiplied by the number of heads.
        least: Smallest size for a target; 0: the grid.
        scaled: Whether our rule for a target shrinks it.
        in_block: Whether an entry of `encoder_conf.body_conf` holds it.
        per_block: Whether blocks may differ in it.
        roles: Units that live and die with it, in the words of `students.axes`.
    """

    name: str
    field: str
    doc: str
    label: str = ""
    grid: int = 1
    for_each_head: bool = False
    least: int = 0
    scaled: bool = True
    in_block: bool = False
    per_block: bool = False
    roles: Tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return its name in ESPnet's config, without the part."""
        return self.name.partition(".")[2]


AXES = (
    Axis("encoder.num_blocks", "num_blocks", "conformer blocks", "depth"),
    Axis(
        "encoder.hidden_size",
        "hidden_size",
        "width of the residual stream, of all blocks",
        "width",
        grid=2,
        for_each_head=True,
        in_block=True,
        roles=("hidden", "conv{}", "att{}"),
    ),
    Axis(
        "encoder.linear_size",
        "linear_size",
        "units of each feed-forward module",
        "feed-forward",
        grid=8,
        in_block=True,
        per_block=True,
        roles=("ff{}", "mac{}"),
    ),
    # Neither heads nor taps are worth many parameters: our rule keeps them.
    Axis("encoder.heads", "heads", "attention heads", scaled=False, in_block=True),
    Axis(
        "encoder.conv_mod_kernel_size",
        "kernel_size",
        "taps of the convolutions, odd",
        "kernel",
        grid=2,
        least=3,
        scaled=False,
        in_block=True,
        per_block=True,
        roles=("taps{}",),
    ),
    Axis(
        "joint_network.joint_space_size",
        "joint_size",
        "width of the joint network",
        "joint network",
        grid=8,
        roles=("joint",),
    ),
    Axis(
        "encoder.conv_size",
        "conv_size",
        "channels of the convolution front end",
        "front end",
        grid=4,
        roles=("c1", "c2"),
    ),
    Axis(
        "decoder.hidden_size",
        "decoder_size",
        "width of the predictor's output",
        "predictor",
        grid=8,
        roles=("rnn{}",),
    ),
    # Its units are not chosen but factored (`students.inherit`).
    Axis("decoder.embed_size", "embed_size", "width of the label embedding", "label embedding", 8),
)
BY_NAME = {axis.name: axis for axis in AXES}


@dataclasses.dataclass(frozen=True)
class Shape:
    """How a target becomes sizes without a measurement, ours.

    Attributes:
        depth: Power of the wanted fraction of the parameters that depth is multiplied by.
        powers: Powers of the common factor of all widths, by field of `Architecture`; of those
            that are not named 1.
        fills: Whether what the target leaves goes to units that are cheap one by one.
    """

    depth: float
    powers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fills: bool = False


# `rule` shrinks all alike. `deep` keeps more blocks and gives up feed-forward units first, as
# sizes made by hand (egs2/mboshi, conf/family_thin.yaml) and descents measured in small steps
# (egs2/noisy_digits, conf/compression.yaml) do; docs/results/progressive.md compares them.
SHAPES = {
    "rule": Shape(depth=1 / 2),
    "deep": Shape(depth=1 / 6, powers={"linear_size": 3}, fills=True),
}
RULE = SHAPES["rule"]
IN_BLOCK = tuple(axis for axis in AXES if axis.in_block)
PER_BLOCK = tuple(axis for axis in AXES if axis.per_block)


def each(size: PerBlock) -> Tuple[int, ...]:
    """Return all that is said: the sizes of the blocks, or the size of all."""
    return size if isinstance(size, tuple) else (size,)
