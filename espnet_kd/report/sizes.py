"""How big is a model? Counted in its checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from espnet_kd.errors import UserError

INFERENCE = ("encoder.", "decoder.", "joint_network.")
# State that is not learnt: batch norm's statistics, a frontend's filter bank, the mean and
# variance of the features, MEGA's position counter.
BUFFERS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "melmat",
    "normalize.mean",
    "normalize.std",
    "._pe",
)


@dataclass(frozen=True)
class Size:
    """Size of a model.

    Attributes:
        params: Learnable parameters that decoding uses: encoder, decoder, joint network.
        params_total: With the heads that only training uses (auxiliary CTC, LM).
        size_mb: The file in MB (10^6 bytes), all of the above and the buffers.
    """

    params: int
    params_total: int
    size_mb: float


def measure(checkpoint: Path) -> Size:
    """Measure a checkpoint (`.pth`: a dict of tensors, as ESPnet saves models).

    Raises:
        UserError: there is no such file, or it holds no transducer.
    """
    if not checkpoint.is_file():
        raise UserError(
            f"{checkpoint}: no such checkpoint; train the model first (stage 11 for the teacher, "
            "the compression stage for a student), or name another with --inference_model"
        )
    from espnet_kd.saved import load_state  # torch takes seconds: after the cheap checks

    state = load_state(checkpoint)
    sizes = {name: t.numel() for name, t in state.items() if not name.endswith(BUFFERS)}
    params = sum(n for name, n in sizes.items() if name.startswith(INFERENCE))
    if not all(any(name.startswith(part) for name in sizes) for part in INFERENCE):
        raise UserError(
            f"{checkpoint}: not a transducer of espnet2.asr_transducer (it needs parameters "
            f"named {', '.join(part + '*' for part in INFERENCE)})"
        )
    return Size(params, sum(sizes.values()), checkpoint.stat().st_size / 1e6)
