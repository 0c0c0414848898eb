"""The modules of `graphs` as ONNX files.

PyTorch's older exporter writes them, which follows what runs (`dynamo=False`): it needs no
further package and a second where the newer one takes half a minute for the same graph. It is
deprecated; the newer one has exported the same modules (with onnxscript), should it go.
"""

import contextlib
import inspect
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Tuple

import torch

from espnet_kd.device.description import PREDICTOR_STATES
from espnet_kd.export.exportable import Exportable
from espnet_kd.export.graphs import PREDICTORS, Joiner, StreamingEncoder

if TYPE_CHECKING:  # it comes with an extra
    import onnx

OPSET = 17  # the first with LayerNormalization


class Port(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: Name of the port.
        axes: Names of the axes whose sizes are free, by number.
    """

    name: str
    axes: Dict[int, str]


class Traced(NamedTuple):
    """All that is needed to trace a module.

    Attributes:
        module: The module.
        example: Arguments of any sizes.
        inputs: Names of the arguments.
        outputs: Names of what it returns.
    """

    module: torch.nn.Module
    example: Tuple[torch.Tensor, ...]
    inputs: List[Port]
    outputs: List[Port]


def state_shapes(source: Exportable, left_context: int) -> Dict[str, List[int]]:
    """Return the shapes of the states, their axis of utterances (the second) left out."""
    encoder = streaming_encoder(source)
    n_blocks, width = len(encoder.blocks), encoder.width
    shapes = {"att": [n_blocks, left_context, width], "conv": [n_blocks, width, encoder.most - 1]}
    decoder = source.model.decoder
    layers = len(decoder.rnn) if source.predictor == "lstm" else getattr(decoder, "context", 1) - 1
    names = PREDICTOR_STATES[source.predictor]
    return shapes | {name: [layers, decoder.output_size] for name in names}


def streaming_encoder(source: Exportable) -> StreamingEncoder:
    """Wrap the encoder."""
    projection = source.model.joint_network.lin_enc
    return StreamingEncoder(source.model.encoder, projection, source.mean, source.scale).eval()


def encoder(source: Exportable, left_context: int) -> Traced:
    """Describe the encoder's graph."""
    module = streaming_encoder(source)
    shapes = state_shapes(source, left_context)
    batch, chunk = 2, 5
    n_frames = source.subsampling * (chunk + 1) - 1
    example = (
        torch.zeros(batch, n_frames, source.front["n_mels"]),  # (B, T, F)
        *(torch.zeros(shapes[n][0], batch, *shapes[n][1:]) for n in ("att", "conv")),
        torch.zeros(batch, dtype=torch.long),  # (B,)
    )
    # The left context stays free: one file for all chunk sizes.
    states = [Port("att", {1: "B", 2: "L"}), Port("conv", {1: "B"}), Port("processed", {0: "B"})]
    return Traced(
        module,
        example,
        [Port("x", {0: "B", 1: "T"}), *states],
        [Port("y", {0: "B", 1: "U"}), *(Port(f"{p.name}_out", p.axes) for p in states)],
    )


def predictor(source: Exportable) -> Traced:
    """Describe the predictor's graph."""
    network, decoder = source.model.joint_network, source.model.decoder
    label = (torch.zeros(2, dtype=torch.long),)  # (B,)
    y, d = Port("y", {0: "B"}), Port("d", {0: "B"})
    module = PREDICTORS[source.predictor](decoder, network.lin_dec, fold=not source.rounded).eval()
    shapes = state_shapes(source, left_context=1)
    states = [Port(name, {1: "B"}) for name in PREDICTOR_STATES[source.predictor]]
    sizes = [shapes[port.name] for port in states]
    zeros = [torch.zeros(layers, 2, width) for layers, width in sizes]  # (layers, B, H)
    outputs = [d, *(Port(f"{p.name}_out", p.axes) for p in states)]
    return Traced(module, (*label, *zeros), [y, *states], outputs)


def joiner(source: Exportable) -> Traced:
    """Describe the joiner's graph."""
    network = source.model.joint_network
    example = torch.zeros(2, network.lin_out.in_features)  # (B, J)
    inputs = [Port("enc", {0: "B"}), Port("dec", {0: "B"})]
    return Traced(Joiner(network).eval(), (example, example), inputs, [Port("logits", {0: "B"})])


def traced(what: Traced, metadata: Dict[str, Any]) -> "onnx.ModelProto":
    """Trace a module.

    Args:
        what: The module, see `Traced`.
        metadata: Facts that travel with the graph.

    Returns:
        Its graph; weights keep the names that they have in the module.
    """
    import onnx

    ports = [*what.inputs, *what.outputs]
    options: Dict[str, Any] = {"opset_version": OPSET, "do_constant_folding": True}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    buffer = io.BytesIO()
    with torch.no_grad(), quiet():
        torch.onnx.export(
            what.module,
            what.example,
            buffer,
            input_names=[port.name for port in what.inputs],
            output_names=[port.name for port in what.outputs],
            dynamic_axes={port.name: port.axes for port in ports},
            **options,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what exporter and quantisers say of their age, and advise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
