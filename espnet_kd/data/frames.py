"""Samples of an encoder frame."""

from typing import Any, Mapping

from espnet_kd.common.yaml_file import section
from espnet_kd.spec.values import whole_number


def samples_of_frame(options: Mapping[str, Any], path: str) -> int:
    """Return how many entries of `speech_shape` make an encoder frame.

    Args:
        options: A training config.
        path: Path of the config, for messages.

    Raises:
        UserError: hop length or subsampling is no positive integer.
    """
    # ESPnet's defaults; without a front end the shapes count feature frames.
    hop = section(options, "frontend_conf", path).get("hop_length", 128)
    front = section(section(options, "encoder_conf", path), "input_conf", path)
    factor = front.get("subsampling_factor", 4)
    whole_number(f"{path}: frontend_conf.hop_length", hop, 1)
    whole_number(f"{path}: encoder_conf.input_conf.subsampling_factor", factor, 1)
    return factor * (hop if options.get("frontend", "default") else 1)
