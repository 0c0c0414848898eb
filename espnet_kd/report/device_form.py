"""Sizes of models on a device, where they are not those of what stock ESPnet loads."""

from pathlib import Path
from typing import Optional

from espnet_kd.common.device_weights import device_sizes
from espnet_kd.deploy.artifact import BUFFERS, Artifact
from espnet_kd.methods.protocol import OnDevice, device_file


def on_device(checkpoint: Path) -> Optional[OnDevice]:
    """Measure the file of a checkpoint that a device computes with; None: it has none.

    Args:
        checkpoint: The parameters that were decoded.

    Returns:
        Learnt numbers, factors counted as they are; bytes of the file.

    Raises:
        UserError: the file is damaged.
    """
    path = device_file(checkpoint)
    if not path.is_file():
        return None
    params = sum(n for name, n in device_sizes(path).items() if not name.endswith(BUFFERS))
    artifact = Artifact("device", "mixed", {"weights": path}, ("weights",))
    return OnDevice(params, artifact.bytes["weights"])
