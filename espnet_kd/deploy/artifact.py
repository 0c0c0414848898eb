"""A model as files: what it takes on a disk, and which runtime loads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Tuple

from espnet_kd.device.description import GRAPHS, RECORD, TOKENS, check_files, read_description
from espnet_kd.errors import UserError
from espnet_kd.spec.target import BYTES

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
class Artifact:
    """The files of a model.

    Attributes:
        runtime: Name of the runtime that loads it (`runtime.RUNTIMES`).
        format: Number format of the weights: `float32`, `int8`, ...
        files: Path of each file by its role.
        weights: Roles of the files that hold the model's numbers.
        beyond: Reason why its comparison, as it was exported, ended beyond the margin; empty: it
            did not.
    """

    runtime: str
    format: str
    files: Mapping[str, Path]
    weights: Tuple[str, ...]
    beyond: str = ""

    @property
    def bytes(self) -> Dict[str, int]:
        """Return the size of each file by its role."""
        return {role: path.stat().st_size for role, path in self.files.items()}

    @property
    def size_mb(self) -> float:
        """Return what a size in MB (10^6 bytes) means everywhere: the files with the weights."""
        return sum(self.files[role].stat().st_size for role in self.weights) / BYTES["MB"]


def of_experiment(folder: Path, checkpoint: Path) -> Artifact:
    """Return the files of an ESPnet experiment, which ESPnet loads.

    Args:
        folder: The experiment.
        checkpoint: Parameters (`.pth`: a dict of tensors, as ESPnet saves models).

    Raises:
        UserError: there is no such checkpoint.
    """
    if not checkpoint.is_file():
        raise UserError(
            f"{checkpoint}: no such checkpoint; train the model first (stage 11 for the teacher, "
            "the compression stage for a student), or name another with --inference_model"
        )
    files = {"config": folder / "config.yaml", "checkpoint": checkpoint}
    return Artifact("espnet", "float32", files, ("checkpoint",))


def of_exported(folder: Path) -> Artifact:
    """Return the files of an exported folder, which onnxruntime loads.

    Raises:
        UserError: its `model.json` is damaged, or a file is not what it says.
    """
    description = read_description(folder)
    check_files(folder, description)
    files = {name: folder / name for name in (*GRAPHS, TOKENS, RECORD.file)}
    return Artifact("onnx", description.format, files, GRAPHS, description.beyond)


def is_exported(folder: Path) -> bool:
    """Tell whether a folder is an exported model, not an experiment."""
    return (folder / RECORD.file).is_file()


@dataclass(frozen=True)
class Parameters:
    """Numbers that a model has learnt.

    Attributes:
        decoding: Parameters that decoding uses: encoder, decoder, joint network.
        total: Parameters with the heads that only training uses (auxiliary CTC, LM).
    """

    decoding: int
    total: int


def count_parameters(checkpoint: Path) -> Parameters:
    """Count the parameters of a checkpoint.

    Raises:
        UserError: it cannot be read, or holds no transducer.
    """
    from espnet_kd.saved import load_state  # torch takes seconds

    state = load_state(checkpoint)
    sizes = {name: t.numel() for name, t in state.items() if not name.endswith(BUFFERS)}
    if not all(any(name.startswith(part) for name in sizes) for part in INFERENCE):
        raise UserError(
            f"{checkpoint}: not a transducer of espnet2.asr_transducer (it needs parameters "
            f"named {', '.join(part + '*' for part in INFERENCE)})"
        )
    decoding = sum(n for name, n in sizes.items() if name.startswith(INFERENCE))
    return Parameters(decoding, sum(sizes.values()))
