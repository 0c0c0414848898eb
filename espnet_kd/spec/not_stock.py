"""Parts of a model that ESPnet does not have, read off its config: the one table of them."""

from typing import Any, List, Mapping, NamedTuple, Tuple

from espnet_kd.errors import UserError, shown
from espnet_kd.spec.named_sizes import NOT_STOCK, OURS
from espnet_kd.spec.values import whole_number

CASCADE = "cascade"  # key of `encoder_conf`
KEYS = ("causal_blocks", "lookahead")
UPPER = "its last blocks go on from a streaming student's in longer chunks (`cascade`, strict), "
UPPER += "which espnet_kd alone computes"


class Ours(NamedTuple):
    """A part that ESPnet does not have.

    Attributes:
        why: What it is, in words.
        module: Module of it; where it is imported, ESPnet builds the model.
        streams: Whether ESPnet's own streaming then decodes it, too.
    """

    why: str
    module: str
    streams: bool


PREDICTOR = Ours(NOT_STOCK, "espnet_kd.espnet.averaged_decoder", True)
ENCODER = Ours(UPPER, "espnet_kd.espnet.cascaded_encoder", False)


def parts_of_ours(config: Mapping[str, Any]) -> List[Ours]:
    """List the parts of a model that ESPnet does not have; none: it is stock.

    Args:
        config: Its config.
    """
    encoder = config.get("encoder_conf")
    parts = [PREDICTOR] if config.get("decoder") in OURS else []
    cascaded = isinstance(encoder, Mapping) and encoder.get(CASCADE) is not None
    return [*parts, ENCODER] if cascaded else parts


def read_cascade_of(value: Any, blocks: int) -> Tuple[int, int]:
    """Read `encoder_conf.cascade`.

    Args:
        value: `{causal_blocks: L_c, lookahead: A}`.
        blocks: Blocks of the encoder.

    Returns:
        Both numbers.

    Raises:
        UserError: it is something else, or leaves no block above.
    """
    where = f"encoder_conf.{CASCADE}"
    if not isinstance(value, Mapping) or set(value) != set(KEYS):
        raise UserError(
            f"{where}: expected {{causal_blocks: 2, lookahead: 16}}, found {shown(value)}"
        )
    if blocks < 2:
        raise UserError(f"{where}: {blocks} encoder block leaves none above; leave it out")
    causal = whole_number(f"{where}.causal_blocks", value["causal_blocks"], 1, blocks - 1)
    return causal, whole_number(f"{where}.lookahead", value["lookahead"], 0)
