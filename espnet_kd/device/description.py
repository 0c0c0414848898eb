"""`model.json` of an exported folder: all that a runtime has to know beside the graphs.

The exporter writes it and every runtime reads it. Beside it lie `encoder.onnx`,
`predictor.onnx`, `joiner.onnx` and `tokens.txt`; docs/device.md describes them.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Dict, List, Optional

from espnet_kd.common.json_file import Record
from espnet_kd.errors import UserError, check_choice, shown

FORMATS = ("float32", "float16", "int8", "int4")
TOKEN_TYPES = ("char", "bpe", "word")
# Kinds of predictor, and the states that each passes on: shapes (layers, H).
PREDICTOR_STATES = {"lstm": ("h", "c"), "stateless": (), "averaged": ("h",)}
GRAPHS = ("encoder.onnx", "predictor.onnx", "joiner.onnx")
TOKENS = "tokens.txt"
REMAKE = "export the model again"

Size = Annotated[int, 1]


@dataclasses.dataclass(frozen=True)
class Source:
    """Origin of the weights.

    Attributes:
        model: Name of the experiment.
        digest: SHA-256 of its checkpoint.
    """

    model: str
    digest: str


@dataclasses.dataclass(frozen=True)
class Description:
    """Content of `model.json`.

    Attributes:
        format: Number format of the weights, one of `FORMATS`.
        sampling_rate: Sampling rate in hertz.
        n_fft: Samples of a Fourier transform.
        win_length: Samples of the Hann window, which stands in the middle of them.
        hop_length: Samples from one frame to the next.
        n_mels: Feature bins.
        fmin: Lower edge of the lowest bin, in hertz.
        fmax: Upper edge of the highest bin, in hertz.
        htk: Whether mel frequencies follow HTK's formula; otherwise Slaney's.
        log_floor: Least power of a bin before its logarithm is taken.
        subsampling: Feature frames of an encoder frame.
        chunk_size: Encoder frames of a chunk.
        left_context: Encoder frames before a chunk that its frames attend to.
        states: Shapes of the states without their axis of utterances, which is always the
            second: `att` (N, L, D) and `conv` (N, D, K - 1) of the encoder, `h` and `c`
            (layers, H) of an LSTM predictor, `h` of an averaged one.
        token_type: One of `TOKEN_TYPES`.
        predictor: One of `PREDICTOR_STATES`.
        source: Origin of the weights.
        bytes: Sizes of the files by name.
        parity: Figures of the comparison with the model that was exported, by name; null: not
            measured.
        beyond: Reason why the comparison ended beyond the margin; empty: it did not.
    """

    format: str
    sampling_rate: Annotated[int, 1000]
    n_fft: Size
    win_length: Size
    hop_length: Size
    n_mels: Size
    fmin: Annotated[float, 0]
    fmax: Annotated[float, 0]
    htk: bool
    log_floor: Annotated[float, 0]
    subsampling: Size
    chunk_size: Size
    left_context: Size
    states: Dict[str, List[Size]]
    token_type: str
    predictor: str
    source: Source
    bytes: Dict[str, Size]
    parity: Dict[str, Optional[float]] = dataclasses.field(default_factory=dict)
    beyond: str = ""

    @property
    def overlap(self) -> int:
        """Feature frames that a chunk shares with the next: T = overlap + subsampling * U."""
        return self.subsampling - 1


def state_names(predictor: str) -> List[str]:
    """Return the states that a folder's graphs pass on, by kind of predictor."""
    return ["att", "conv", *PREDICTOR_STATES[predictor]]


def _check(fields: Dict) -> None:
    """Find values that contradict each other.

    Raises:
        UserError: the message begins with the field.
    """
    check_choice("format", fields["format"], FORMATS)
    check_choice("token_type", fields["token_type"], TOKEN_TYPES)
    check_choice("predictor", fields["predictor"], tuple(PREDICTOR_STATES))
    if fields["win_length"] > fields["n_fft"]:
        raise UserError(
            f"win_length: expected at most n_fft ({fields['n_fft']}), "
            f"found {shown(fields['win_length'])}"
        )
    half = fields["sampling_rate"] / 2
    if not fields["fmin"] < fields["fmax"] <= half:
        raise UserError(
            f"fmin, fmax: expected a band below {half:g} Hz, "
            f"found {fields['fmin']:g} to {fields['fmax']:g}"
        )
    if fields["log_floor"] <= 0:
        raise UserError("log_floor: expected more than 0, found '0'")
    axes = {"att": 3, "conv": 3, "h": 2, "c": 2}
    for name in state_names(fields["predictor"]):
        shape = fields["states"].get(name)
        if shape is None or len(shape) != axes[name]:
            text = "nothing" if shape is None else shown(shape)
            raise UserError(f"states.{name}: expected {axes[name]} sizes, found {text}")
    for name in (*GRAPHS, TOKENS):
        if name not in fields["bytes"]:
            raise UserError(f"bytes: no size of '{name}'")


RECORD = Record("model.json", Description, REMAKE, _check)


def read_description(folder: Path) -> Description:
    """Read `model.json` of an exported folder.

    Raises:
        UserError: there is none, it is damaged, or what it says cannot be.
    """
    inside = sorted(path.parent.name for path in folder.glob(f"*/{RECORD.file}"))
    if inside and not (folder / RECORD.file).exists():
        raise UserError(f"{folder}: name the folder of a format in it: {', '.join(inside)}")
    fields = RECORD.read(folder)
    return Description(**{**fields, "source": Source(**fields["source"])})


def write_description(folder: Path, description: Description) -> None:
    """Write `model.json` of an exported folder."""
    RECORD.write(folder, dataclasses.asdict(description))


def check_files(folder: Path, description: Description) -> None:
    """Compare the sizes of the files of an exported folder with what `model.json` says.

    A model that was beyond the margin when it was exported is used all the same: the log says so.

    Raises:
        UserError: a file is not there, or was cut short or exchanged.
    """
    for name, size in description.bytes.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such file, but model.json names it; {REMAKE}")
        if path.stat().st_size != size:
            raise UserError(
                f"{path}: {path.stat().st_size:,} bytes, but {size:,} by model.json: cut short "
                f"or of another export; copy the folder again, or {REMAKE}"
            )
    if description.beyond:
        logging.warning(f"{folder} was beyond the margin when exported: {description.beyond}")
