"""Weights that training has rounded, in a graph as the very codes and scales that it chose.

A quantiser would lay another grid over that of `methods/quantise.py`, and lose as much again as
rounding did. The codes are bytes in the file; when it is loaded, onnxruntime makes floats of
them once (it folds what is constant), and computes with the numbers that were trained: WER is
that of the student. Matrices of at most 4 bits can also stay in 4 bits, in `MatMulNBits`.
"""

from __future__ import annotations  # onnx comes with an extra

from typing import TYPE_CHECKING, Any, Collection, Dict, List, Tuple

import numpy as np
import torch

from espnet_kd.students.grid import FEW, Grid, grid_of

if TYPE_CHECKING:  # it comes with an extra
    from onnx import GraphProto, ModelProto, NodeProto

PLACES = {"MatMul": 1, "Conv": 1, "Gather": 0}  # the input that weights are
BLOCK = 32  # weights of 4 bits that share a scale
ACCURACY = 4  # products of 4 bits by integers, where the processor has them
SMALLEST = 256  # numbers of an array that is worth a conversion


def keep_codes(model: ModelProto, keep: Collection[str], four_bits: bool = False) -> None:
    """Store all weights that lie on a grid as its codes and scales; the others stay floats.

    Args:
        model: A graph of floats, changed in place.
        keep: Names of products to leave as they are; with `four_bits` their codes are stored in
            bytes, which is as exact.
        four_bits: Whether matrices of at most 4 bits are stored in 4 bits, and multiplied as
            such; otherwise in bytes.
    """
    from onnx import helper, numpy_helper

    graph, nodes = model.graph, []
    arrays = {array.name: array for array in graph.initializer}
    grids: Dict[str, Grid] = {}
    for node in graph.node:
        at = PLACES.get(node.op_type, 0)
        few = four_bits and node.name not in keep
        left = node.op_type not in PLACES or (node.name in keep and not four_bits)
        name = "" if left else node.input[at]
        if name in arrays and int(np.prod(arrays[name].dims)) >= SMALLEST:
            values = numpy_helper.to_array(arrays[name])
            columns = node.op_type == "MatMul"  # it has output channels as columns
            weight = torch.from_numpy(np.array(values.T if columns else values))
            grid = grid_of(weight) if weight.dtype == torch.float32 else None
            if grid is not None and columns and few and grid.bits <= FEW:
                _multiply_codes(graph, node, weight, grid, name not in grids)
            elif grid is not None:
                if name not in grids:
                    nodes += _restored(graph, name, weight, grid, columns)
                node.input[at] = f"{name}/whole"
            if grid is not None:
                grids[name] = grid
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    for name in grids:
        if name not in used:  # a product that is kept may have the same weights
            graph.initializer.remove(arrays[name])
    del graph.node[:]
    graph.node.extend(nodes)
    domains = {opset.domain for opset in model.opset_import}
    if any(node.domain not in domains for node in nodes):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _multiply_codes(
    graph: GraphProto, node: NodeProto, weight: torch.Tensor, grid: Grid, new: bool
) -> None:
    """Make of a product one with 4 bits: the weight (m, n), lowest codes first in a byte."""
    from onnx import helper, numpy_helper

    name, block = node.input[1], grid.block or BLOCK
    if new:
        scales = grid.scales(weight)  # (m, blocks)
        blocks = Grid(grid.bits, block).blocks(grid.codes(weight, scales)) + 8
        codes = blocks.to(torch.uint8)  # (m, blocks, block)
        packed = codes[..., ::2] | codes[..., 1::2] << 4  # (m, blocks, block / 2)
        scales = scales.expand(codes.shape[:2]).flatten()  # a scale of a row is all its blocks'
        for part, values in (("codes", packed), ("scales", scales)):
            graph.initializer.append(numpy_helper.from_array(values.numpy(), f"{name}/{part}"))
    node.op_type, node.domain = "MatMulNBits", "com.microsoft"
    node.input[:] = [node.input[0], f"{name}/codes", f"{name}/scales"]
    facts = {"K": weight.size(1), "N": weight.size(0), "bits": 4, "block_size": block}
    facts["accuracy_level"] = ACCURACY
    node.attribute.extend(helper.make_attribute(key, fact) for key, fact in facts.items())


def _restored(
    graph: GraphProto, name: str, weight: torch.Tensor, grid: Grid, columns: bool
) -> List[NodeProto]:
    """Add the codes (rows, blocks, block) and scales of a weight; return what makes it whole."""
    from onnx import TensorProto, helper, numpy_helper

    scales = grid.scales(weight)  # (rows, blocks)
    codes = grid.blocks(grid.codes(weight, scales)).to(torch.int8)  # (rows, blocks, block)
    rows, width = codes.size(0), codes.size(1) * codes.size(2)
    size = weight[0].numel()
    constants = {
        "codes": codes.numpy(),
        "scales": scales[..., None].numpy(),
        "rows": np.array([rows, width]),
        "shape": np.array(weight.shape),
        "from": np.array([0]),
        "to": np.array([size]),
        "axis": np.array([1]),
    }
    names = {key: f"{name}/{key}" for key in constants}
    steps: List[Tuple[str, List[str], Dict[str, Any]]] = [
        ("Cast", [names["codes"]], {"to": TensorProto.FLOAT}),
        ("Mul", ["", names["scales"]], {}),
        ("Reshape", ["", names["rows"]], {}),
    ]
    if width > size:  # the last block of a row is filled up
        steps.append(("Slice", ["", names["from"], names["to"], names["axis"]], {}))
    if columns:
        steps.append(("Transpose", [""], {"perm": [1, 0]}))
    elif weight.dim() > 2:
        steps.append(("Reshape", ["", names["shape"]], {}))
    nodes: List[NodeProto] = []
    for i, (kind, inputs, facts) in enumerate(steps):
        before = nodes[-1].output[0] if nodes else ""
        output = f"{name}/{i}" if i + 1 < len(steps) else f"{name}/whole"
        made = helper.make_node(kind, [port or before for port in inputs], [output], **facts)
        nodes.append(made)
    used = {port for node in nodes for port in node.input}
    for key, values in constants.items():
        if names[key] in used:
            graph.initializer.append(numpy_helper.from_array(np.asarray(values), names[key]))
    return nodes
