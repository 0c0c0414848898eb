"""Meaning of every axis of every parameter of a conformer transducer.

A role names a set of units that live together: to cut a unit out of the model, every axis
that has its role must lose it. Roles that belong to one block carry its number, `{}` below.

    hidden      residual stream (D)               att{}     heads x d_k of attention;
                                                  /heads    the same as two axes
    ff{} mac{}  feed-forward units                conv{}    channels of the convolution module
    c1 c2       channels of the front end         embed     label embedding
    rnn<n>      units of predictor layer n        joint     joint network
    taps{}      taps of the convolution, of which those nearest the present stay
"""

import re
from typing import List, Optional, Sequence, Tuple

from espnet_kd.students.predictors import PREDICTORS, Role

_BLOCK = r"encoder\.encoders\.blocks\.(\d+)\."
_PAIR = r"\.(?:weight|bias)"

# (pattern of the name, roles of its axes); a bias uses the first role alone.
_TABLE: Sequence[Tuple[str, Tuple[Role, ...]]] = (
    (r"encoder\.embed\.conv\.0" + _PAIR, ("c1", None, None, None)),
    (r"encoder\.embed\.conv\.2" + _PAIR, ("c2", "c1", None, None)),
    (r"encoder\.embed\.conv\.[57]" + _PAIR, (None, None, None, None)),  # VGG-like
    (r"encoder\.embed\.output" + _PAIR, ("hidden", "c2*bins")),
    (_BLOCK + r"norm_\w+" + _PAIR, ("hidden",)),
    (_BLOCK + r"feed_forward\.w_1" + _PAIR, ("ff{}", "hidden")),
    (_BLOCK + r"feed_forward\.w_2" + _PAIR, ("hidden", "ff{}")),
    (_BLOCK + r"feed_forward_macaron\.w_1" + _PAIR, ("mac{}", "hidden")),
    (_BLOCK + r"feed_forward_macaron\.w_2" + _PAIR, ("hidden", "mac{}")),
    (_BLOCK + r"self_att\.linear_[qkv]" + _PAIR, ("att{}", "hidden")),
    (_BLOCK + r"self_att\.linear_out" + _PAIR, ("hidden", "att{}")),
    (_BLOCK + r"self_att\.linear_pos\.weight", ("att{}", "frequency")),
    (_BLOCK + r"self_att\.pos_bias_[uv]", ("att{}/heads", "att{}/heads")),
    (_BLOCK + r"conv_mod\.pointwise_conv1" + _PAIR, ("2*conv{}", "hidden", None)),
    (_BLOCK + r"conv_mod\.depthwise_conv" + _PAIR, ("conv{}", None, "taps{}")),
    (_BLOCK + r"conv_mod\.norm\.(?:weight|bias|running_mean|running_var)", ("conv{}",)),
    (_BLOCK + r"conv_mod\.pointwise_conv2" + _PAIR, ("hidden", "conv{}", None)),
    (r"encoder\.encoders\.norm_blocks" + _PAIR, ("hidden",)),
    (r"decoder\.embed\.weight", (None, "embed")),
    *(row for kind in PREDICTORS.values() for row in kind.roles),
    (r"joint_network\.lin_enc" + _PAIR, ("joint", "hidden")),
    (r"joint_network\.lin_dec" + _PAIR, ("joint", "predictor")),
    (r"joint_network\.lin_out" + _PAIR, (None, "joint")),
    (r"ctc_lin" + _PAIR, (None, "hidden")),
    (r"lm_lin" + _PAIR, (None, "predictor")),
)
_COMPILED = [(re.compile(pattern), roles) for pattern, roles in _TABLE]


def axis_roles(name: str, dims: int, rnn_layers: int) -> Optional[List[Role]]:
    """Return the role of each axis of a parameter or buffer.

    Args:
        name: Name of the parameter in an ESPnet transducer's state dict.
        dims: Number of its axes.
        rnn_layers: Layers of the predictor; 0 for a stateless one.

    Returns:
        One role an axis; None if the name is not in the table.
    """
    for pattern, roles in _COMPILED:
        match = pattern.fullmatch(name)
        if match is None:
            continue
        number = match.group(1) if match.groups() else ""
        named_roles: List[Role] = []
        for role in roles[:dims]:
            if role == "predictor":  # what the joint network reads of the predictor
                role = f"rnn{rnn_layers - 1}" if rnn_layers else "embed"
            elif role == "below rnn{}":
                role = "embed" if number == "0" else f"rnn{int(number) - 1}"
            named_roles.append(role.format(number) if role else None)
        return named_roles
    return None


def block_number(name: str) -> Optional[int]:
    """Return the encoder block that a parameter belongs to, or None."""
    match = re.match(_BLOCK, name)
    return int(match.group(1)) if match else None


def rename_block(name: str, number: int) -> str:
    """Return the name of the same parameter in another encoder block."""
    return re.sub(_BLOCK, f"encoder.encoders.blocks.{number}.", name, count=1)
