"""An exported model that hears three tones as the letters A, B, C, and silence as a space."""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from espnet_kd.device.description import GRAPHS, write_description
from espnet_kd.device.features import mel_filters
from tests.device.test_description import a_description

TOKENS = ["<blank>", "A", "B", "C", "<space>"]
TONES = {"A": 500.0, "B": 1200.0, "C": 2600.0}  # hertz
RATE = 16000
NEVER = -1000.0


def write_tone_model(folder, **changes):
    """Write a folder as the exporter does; the encoder is one convolution."""
    folder.mkdir(parents=True, exist_ok=True)
    description = a_description(
        predictor="stateless", states={"att": [1, 8, 4], "conv": [1, 4, 2]}, **changes
    )
    save(folder / "encoder.onnx", *encoder(description))
    table = np.zeros((5, 5), np.float32)  # (V, J): nothing twice, and no space at first
    table[np.arange(1, 5), np.arange(1, 5)] = table[0, 4] = NEVER
    save(
        folder / "predictor.onnx",
        [helper.make_node("Gather", ["table", "y"], ["d"])],
        [("y", TensorProto.INT64, ["B"])],
        [("d", TensorProto.FLOAT, ["B", 5])],
        {"table": table},
    )
    save(
        folder / "joiner.onnx",
        [helper.make_node("Add", ["enc", "dec"], ["logits"])],
        [(name, TensorProto.FLOAT, ["B", 5]) for name in ("enc", "dec")],
        [("logits", TensorProto.FLOAT, ["B", 5])],
        {},
    )
    (folder / "tokens.txt").write_text("".join(f"{t} {i}\n" for i, t in enumerate(TOKENS)))
    sizes = {name: (folder / name).stat().st_size for name in (*GRAPHS, "tokens.txt")}
    write_description(folder, dataclasses.replace(description, bytes=sizes))
    return folder


def encoder(description):
    filters = mel_filters(description)  # (bins, F)
    weight = np.zeros((5, description.n_mels, 7), np.float32)  # (J, F, kernel)
    bins = [int(filters[round(hz / RATE * 640)].argmax()) for hz in TONES.values()]
    for label, mel in enumerate(bins, 1):
        weight[label, mel, 3] = 1.0
        weight[4, mel, 3] = -1 / 3
    bias = np.array([0, 0, 0, 0, -15], np.float32)  # (J,)
    size = TensorProto.FLOAT
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["turned", "weight", "bias"], ["z"], strides=[4]),
        helper.make_node("Transpose", ["z"], ["y"], perm=[0, 2, 1]),
        helper.make_node("Identity", ["att"], ["att_out"]),
        helper.make_node("Identity", ["conv"], ["conv_out"]),
        helper.make_node("Shape", ["y"], ["frames"], start=1, end=2),
        helper.make_node("Add", ["processed", "frames"], ["processed_out"]),
    ]
    inputs = [
        ("x", size, ["B", "T", description.n_mels]),
        ("att", size, [1, "B", 8, 4]),
        ("conv", size, [1, "B", 4, 2]),
        ("processed", TensorProto.INT64, ["B"]),
    ]
    outputs = [("y", size, ["B", "U", 5])]
    outputs += [(f"{name}_out", kind, shape) for name, kind, shape in inputs[1:]]
    return nodes, inputs, outputs, {"weight": weight, "bias": bias}


def save(path, nodes, inputs, outputs, constants):
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))


def tones(text, seconds=0.24, rate=RATE):
    """Play letters; a space is 0.24 s of silence, and a dot 1 s."""
    pieces = []
    for letter in text:
        length = 1.0 if letter == "." else seconds
        t = np.arange(int(length * rate)) / rate
        pieces.append(0.3 * np.sin(2 * np.pi * TONES[letter] * t) if letter in TONES else 0 * t)
    return np.concatenate(pieces).astype(np.float32)  # (S,)
