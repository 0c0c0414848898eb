"""The three networks of an exported transducer, and what runs them: onnxruntime."""

from pathlib import Path
from typing import Dict, List, Protocol, Sequence, Tuple

import numpy as np

from espnet_kd.device.description import (
    GRAPHS,
    REMAKE,
    Description,
    check_files,
    read_description,
    state_names,
)
from espnet_kd.errors import UserError, shown

BLANK = 0  # also the label that the predictor starts with

# Arrays whose second axis is the utterance, but for `processed`, which has no other.
States = Dict[str, np.ndarray]


class Networks(Protocol):
    """The part of a model that a search and a recogniser need.

    Attributes:
        description: Front end, chunks, sizes.
    """

    description: Description

    def start_encoder(self, utterances: int) -> States:
        """Return the encoder's states before the first chunk."""
        ...

    def start_predictor(self, utterances: int) -> States:
        """Return the predictor's states before the first label."""
        ...

    def encode(self, x: np.ndarray, states: States) -> Tuple[np.ndarray, States]:
        """Encode a chunk: features (B, T, F) to projected encoder frames (B, U, J)."""
        ...

    def predict(self, labels: np.ndarray, states: States) -> Tuple[np.ndarray, States]:
        """Take a label (B,) and return the projected predictor output (B, J)."""
        ...

    def join(self, enc: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Return logits (B, V) of encoder frames (B, J) and predictor outputs (B, J)."""
        ...


class OnnxNetworks:
    """An exported folder in onnxruntime.

    Args:
        folder: The exported folder.
        threads: Number of CPU threads.

    Attributes:
        description: Content of its `model.json`.

    Raises:
        UserError: a file is missing, damaged or not what `model.json` says; or onnxruntime is
            not installed.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.description = read_description(folder)
        check_files(folder, self.description)
        try:
            import onnxruntime
        except ImportError:
            raise UserError(
                "onnxruntime is not installed; install it: pip install onnxruntime"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors alone
        sessions = []
        for name in GRAPHS:
            path = folder / name
            try:
                session = onnxruntime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as e:  # it has a class for each of its many reasons
                raise UserError(f"{path}: onnxruntime refuses it: {e}; {REMAKE}") from None
            sessions.append(session)
        self._encoder, self._predictor, self._joiner = sessions
        names = state_names(self.description.predictor)
        self._encoder_states, self._predictor_states = ["att", "conv", "processed"], names[2:]
        self._check(folder, 0, sessions[0], ["x", *self._encoder_states])
        self._check(folder, 1, sessions[1], ["y", *self._predictor_states])
        self._check(folder, 2, sessions[2], ["enc", "dec"])

    def _check(self, folder: Path, which: int, session, names: Sequence[str]) -> None:
        inputs = [i.name for i in session.get_inputs()]
        if sorted(inputs) != sorted(names):
            raise UserError(
                f"{folder / GRAPHS[which]}: expected the inputs {', '.join(names)}, found "
                f"{shown(', '.join(inputs))}; {REMAKE}"
            )

    def start_encoder(self, utterances: int) -> States:
        """Return the encoder's states before the first chunk."""
        states = self._zeros(["att", "conv"], utterances)
        return {**states, "processed": np.zeros(utterances, np.int64)}

    def start_predictor(self, utterances: int) -> States:
        """Return the predictor's states before the first label."""
        return self._zeros(self._predictor_states, utterances)

    def _zeros(self, names: List[str], utterances: int) -> States:
        states = {}
        for name in names:
            first, *others = self.description.states[name]
            states[name] = np.zeros((first, utterances, *others), np.float32)
        return states

    def encode(self, x: np.ndarray, states: States) -> Tuple[np.ndarray, States]:
        """Encode a chunk: features (B, T, F) to projected encoder frames (B, U, J)."""
        outputs = ["y"] + [f"{name}_out" for name in self._encoder_states]
        y, *after = self._encoder.run(outputs, {"x": x, **states})
        return y, dict(zip(self._encoder_states, after))

    def predict(self, labels: np.ndarray, states: States) -> Tuple[np.ndarray, States]:
        """Take a label (B,) and return the projected predictor output (B, J)."""
        outputs = ["d"] + [f"{name}_out" for name in self._predictor_states]
        d, *after = self._predictor.run(outputs, {"y": labels, **states})
        return d, dict(zip(self._predictor_states, after))

    def join(self, enc: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Return logits (B, V) of encoder frames (B, J) and predictor outputs (B, J)."""
        return self._joiner.run(["logits"], {"enc": enc, "dec": dec})[0]


def rows_of(states: States, rows: np.ndarray) -> States:
    """Return the states of some utterances."""
    return {n: s[rows] if n == "processed" else s[:, rows] for n, s in states.items()}


def put_rows(states: States, rows: np.ndarray, new: States) -> None:
    """Overwrite the states of some utterances."""
    for name, state in new.items():
        if name == "processed":
            states[name][rows] = state
        else:
            states[name][:, rows] = state
