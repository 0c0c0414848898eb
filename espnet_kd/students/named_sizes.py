"""The sizes that a plan may name. Imports no torch: plans are read without it."""

from typing import Any

from espnet_kd.errors import UserError, nearest

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
        raise UserError(f"{where}: expected sizes by name, found '{sizes}'")
    for part, values in sizes.items():
        if part not in PLAN_KEYS:
            known = ", ".join(PLAN_KEYS)
            hint = nearest(str(part), PLAN_KEYS)
            raise UserError(f"{where}: unknown key '{part}'{hint}; known: {known}")
        if not isinstance(values, dict):
            raise UserError(f"{where}.{part}: expected sizes by name, found '{values}'")
        names = [*PLAN_KEYS[part], *(["type"] if part == "decoder" else [])]
        for key, value in values.items():
            if key not in names:
                known, hint = ", ".join(names), nearest(str(key), names)
                raise UserError(f"{where}.{part}: unknown key '{key}'{hint}; known: {known}")
            if key == "type":
                if value not in PREDICTORS:
                    hint = nearest(str(value), PREDICTORS)
                    raise UserError(
                        f"{where}.decoder.type: '{value}' is not one of {PREDICTORS}{hint}"
                    )
            elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(
                    f"{where}.{part}.{key}: expected a whole number > 0, found '{value}'"
                )
