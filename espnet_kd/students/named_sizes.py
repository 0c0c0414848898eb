"""The sizes that a plan may name. Imports no torch: plans are read without it."""

from typing import Any, Mapping

from espnet_kd.errors import UserError, check_choice, check_name, shown
from espnet_kd.kd_option_checks import whole_number

# Where a plan names a size -> field of Architecture.
PLAN_KEYS = {
    "encoder": {
        "num_blocks": "num_blocks",
        "hidden_size": "hidden_size",
        "linear_size": "linear_size",
        "heads": "heads",
        "conv_mod_kernel_size": "kernel_size",
        "conv_size": "conv_size",
    },
    "decoder": {"embed_size": "embed_size", "hidden_size": "decoder_size"},
    "joint_network": {"joint_space_size": "joint_size"},
}
PREDICTORS = ("rnn", "stateless")
LARGEST_SIZE = 10**6


def check_sizes(sizes: Any, where: str) -> None:
    """Check names and kinds of sizes; whether they fit a teacher is another question.

    Args:
        sizes: `{"encoder": {"num_blocks": 3}, "decoder": {"type": "stateless"}, ...}`.
        where: Name of the place in the plan, for messages.

    Raises:
        UserError: unknown key (naming the nearest right one), or value that is no positive
            number.
    """
    if not isinstance(sizes, dict):
        raise UserError(f"{where}: expected sizes by name, found {shown(sizes)}")
    for part, values in sizes.items():
        check_name(f"{where}: unknown key", part, PLAN_KEYS)
        if not isinstance(values, dict):
            raise UserError(f"{where}.{part}: expected sizes by name, found {shown(values)}")
        names = [*PLAN_KEYS[part], *(["type"] if part == "decoder" else [])]
        for key, value in values.items():
            check_name(f"{where}.{part}: unknown key", key, names)
            if key == "type":
                check_choice(f"{where}.decoder.type", value, PREDICTORS)
            else:
                whole_number(f"{where}.{part}.{key}", value, 1, LARGEST_SIZE)


def check_together(sizes: Mapping[str, Any], where: str) -> None:
    """Refuse sizes of the encoder that no conformer can have together.

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
