"""ONNX graphs in fewer bytes: float16, int8, int4.

    float16  weights are stored in half precision; sums are computed in single precision
    int8     products with a matrix by integers (onnxruntime's dynamic quantisation, weights of 7
             bits per channel); kernels of convolutions and tables of labels are stored as bytes
    int4     products with a matrix by weights of 4 bits, in blocks of 32 with a scale each; the
             rest as in int8, products that 4 bits would cost too much included

A model that was trained on a grid keeps it (`exact.py`).

Convolutions are computed with floats in all of them: as integers they are slower, and the
depthwise ones lose most (docs/device.md).
"""

from __future__ import annotations  # onnx comes with an extra

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Collection, Dict, List, Optional

import numpy as np
import torch

from espnet_kd.errors import UserError
from espnet_kd.export.exact import ACCURACY, BLOCK, SMALLEST, keep_codes
from espnet_kd.export.tracing import quiet

if TYPE_CHECKING:  # it comes with an extra
    import onnx
    from onnx import ModelProto, NodeProto, TensorProto


def name_weights(model: ModelProto, module: torch.nn.Module) -> None:
    """Call the matrices of products as the module calls them, and the products alike.

    The exporter transposes weights and forgets their names.

    Args:
        model: A graph, changed in place.
        module: The module it was traced from.
    """
    from onnx import numpy_helper

    names = {}
    for name, weight in module.named_parameters():
        if weight.dim() > 1:
            matrix = weight.detach().reshape(weight.size(0), -1).t().contiguous()  # (n, m)
            names[matrix.numpy().tobytes()] = name.removesuffix(".weight")
    new: Dict[str, str] = {}
    for array in model.graph.initializer:
        name = names.get(bytes(numpy_helper.to_array(array).tobytes()), "")
        if name and array.name not in new.values() and f"{name}.weight" not in new.values():
            new[array.name] = f"{name}.weight"
            array.name = new[array.name]
    for node in model.graph.node:
        node.input[:] = [new.get(i, i) for i in node.input]
        if node.op_type == "MatMul" and node.input[1] in new.values():
            node.name = node.input[1].removesuffix(".weight")


def matrices(model: ModelProto) -> List[str]:
    """List the products with a matrix of weights, by name."""
    constant = {array.name for array in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in constant
    ]


def converted(
    model: ModelProto, form: str, keep: Collection[str] = (), rounded: bool = False
) -> ModelProto:
    """Return a graph in another number format.

    Args:
        model: A graph of floats, left as it is.
        form: One of `device.description.FORMATS`.
        keep: Names of products whose matrices stay float; in int4 they are as in int8.
        rounded: Whether the model was trained on a grid: int8 and int4 take its codes as they
            are, and leave float what training has left.
    """
    import onnx

    if form not in CONVERT:
        raise UserError(f"format: '{form}' is not one of {', '.join(CONVERT)}")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if rounded and form in ("int8", "int4"):
        keep_codes(copy, keep, four_bits=form == "int4")
        return slim(copy)
    return slim(CONVERT[form](copy, list(keep)))


def _float32(model: ModelProto, keep: List[str]) -> ModelProto:
    return model


def _float16(model: ModelProto, keep: List[str]) -> ModelProto:
    floats = [a.name for a in model.graph.initializer if _worth(a)]
    kept = _weights_of(model, keep)
    return stored(model, [name for name in floats if name not in kept], half=True)


def _int8(model: ModelProto, keep: List[str]) -> ModelProto:
    import onnx

    if len(matrices(model)) > len(set(keep) & set(matrices(model))):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as folder, quiet():
            path = Path(folder) / "int8.onnx"
            quantize_dynamic(
                model,
                path,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                # x86 without VNNI adds two products in 16 bits, which 8 bits of weight overflow.
                reduce_range=True,
                nodes_to_exclude=keep,
                extra_options={"MatMulConstBOnly": True},
            )
            model = onnx.load(path)
    return stored(model, _kernels_and_tables(model))


def _int4(model: ModelProto, keep: List[str]) -> ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(
            model,
            block_size=BLOCK,
            is_symmetric=True,
            accuracy_level=ACCURACY,
            nodes_to_exclude=keep,
        )
        quantizer.process()
    return _int8(quantizer.model.model, [])  # those that are left


CONVERT: Dict[str, Callable[[ModelProto, List[str]], ModelProto]] = {
    "float32": _float32,
    "float16": _float16,
    "int8": _int8,
    "int4": _int4,
}


def stored(model: ModelProto, names: Collection[str], half: bool = False) -> ModelProto:
    """Store arrays in fewer bytes; what is computed with them stays float.

    Args:
        model: A graph, changed in place.
        names: Names of the arrays.
        half: Whether in half precision; otherwise as bytes, with a scale for each output channel
            of a kernel, or each column of a table.
    """
    graph, nodes = model.graph, []
    arrays = {a.name: a for a in graph.initializer if a.name in names}
    for node in graph.node:
        array = arrays.get(node.input[0]) if node.op_type == "Gather" else None
        if array is not None:  # the row that is looked up is made float, not the table
            whole, node.output[0] = node.output[0], f"{node.output[0]}/stored"
            node.input[0] += "/stored"
            nodes += [node, _restored(graph, array, node.output[0], whole, half, axis=1)]
            continue
        for i, name in enumerate(node.input):
            if name in arrays:
                whole = f"{name}/whole"
                if not any(whole in other.output for other in nodes):
                    nodes.append(_restored(graph, arrays[name], f"{name}/stored", whole, half, 0))
                node.input[i] = whole
        nodes.append(node)
    for array in arrays.values():
        graph.initializer.remove(array)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _restored(
    graph: onnx.GraphProto, array: TensorProto, source: str, to: str, half: bool, axis: int
) -> NodeProto:
    """Add an array's stored form to a graph, and return the node that makes floats of it."""
    from onnx import TensorProto, helper, numpy_helper

    name, values = f"{array.name}/stored", numpy_helper.to_array(array)
    known = {a.name for a in graph.initializer}
    if half:
        if name not in known:
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), name))
        return helper.make_node("Cast", [source], [to], to=TensorProto.FLOAT)
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.maximum(largest, 1e-12).astype(np.float32) / 127
    if name not in known:
        levels = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(levels, name))
        graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{name}/scale"))
    return helper.make_node("DequantizeLinear", [source, f"{name}/scale"], [to], axis=axis)


def _worth(array: TensorProto) -> bool:
    from onnx import TensorProto

    return array.data_type == TensorProto.FLOAT and int(np.prod(array.dims)) >= SMALLEST


def _weights_of(model: ModelProto, products: Collection[str]) -> List[str]:
    return [node.input[1] for node in model.graph.node if node.name in products]


def _kernels_and_tables(model: ModelProto) -> List[str]:
    worth = {a.name for a in model.graph.initializer if _worth(a)}
    places = {"Conv": 1, "Gather": 0}
    used = [n.input[places[n.op_type]] for n in model.graph.node if n.op_type in places]
    return [name for name in dict.fromkeys(used) if name in worth]


def slim(model: ModelProto) -> ModelProto:
    """Take out of a graph what no runtime reads: long names, repeated constants, shapes.

    In a model of 0.4 million parameters they are a large part of the bytes.

    Args:
        model: A graph, changed in place.
    """
    import onnx

    graph = model.graph
    kept = {port.name for port in (*graph.input, *graph.output)}
    short: Dict[str, str] = {}
    constants: Dict[bytes, str] = {}

    def rename(name: str) -> str:
        if name in kept or not name:
            return name
        return short.setdefault(name, f"_{len(short):x}")

    nodes = []
    for node in graph.node:
        value = _constant(node)
        if value is not None:
            key = value.SerializeToString()
            if key in constants and node.output[0] not in kept:
                short[node.output[0]] = constants[key]
                continue
            constants[key] = rename(node.output[0])
        nodes.append(node)
    for node in nodes:
        node.name, node.doc_string = "", ""
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    for array in graph.initializer:
        array.name = rename(array.name)
    del graph.value_info[:], graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _constant(node: NodeProto) -> Optional[TensorProto]:
    from onnx import TensorProto

    if node.op_type != "Constant" or node.attribute[0].name != "value":
        return None
    value = TensorProto()
    value.CopyFrom(node.attribute[0].t)
    value.ClearField("name")
    return value
