"""Number of parameters that ESPnet builds for given sizes, exactly."""

from typing import TYPE_CHECKING, Dict

from espnet_kd.spec.size_table import PER_BLOCK
from espnet_kd.students.predictors import PREDICTORS

if TYPE_CHECKING:
    from espnet_kd.students.architecture import Architecture


def count(model: "Architecture") -> Dict[str, int]:
    """Count the parameters of encoder, decoder and joint network (no auxiliary heads)."""
    d = model.hidden_size
    blocks = zip(*(model.of_blocks(axis) for axis in PER_BLOCK))
    encoder = _front_end(model) + sum(_block(d, f, taps) for f, taps in blocks) + 2 * d
    return {
        "encoder": encoder,
        "decoder": PREDICTORS[model.decoder].count(model),
        "joint_network": _joint_network(model),
    }


def _front_end(model: "Architecture") -> int:
    c = model.conv_size
    if model.conv_size1:
        channels = (1, model.conv_size1, model.conv_size1, c, c)
        front = sum(9 * a * b + b for a, b in zip(channels, channels[1:]))
    else:
        kernel2 = {2: 3, 4: 3, 6: 5}[model.subsampling]
        front = (9 * c + c) + (c * c * kernel2**2 + c)
    return front + c * model.front_end_bins * model.hidden_size + model.hidden_size


def _block(d: int, f: int, taps: int) -> int:
    """Count a block of width D with F units in each of two feed-forward modules."""
    feed_forward = 2 * (2 * d * f + f + d)
    attention = 4 * (d * d + d) + d * d + 2 * d  # q, k, v, out; linear_pos; two biases
    # pointwise 1 (to twice the width), depthwise, batch norm, pointwise 2
    convolution = (2 * d * d + 2 * d) + (d * taps + d) + 2 * d + (d * d + d)
    return feed_forward + attention + convolution + 5 * 2 * d  # five layer norms


def _joint_network(model: "Architecture") -> int:
    d, j = model.hidden_size, model.joint_size
    size = (d * j + j) + (model.decoder_size * j + j * model.lin_dec_bias)
    return size + j * model.vocab + model.vocab
