"""`device.<checkpoint>.npz`: a model's weights as a device holds them, read with numpy alone.

Four arrays, so that a small model is not outweighed by names: an index (JSON, compressed), the
codes of all tensors, packed to their bits one tensor after the other, their scales (bfloat16,
the upper half of a float32), and what is not rounded (float32).

    value of a code = code * scale    exactly, in float32

What training alone needs, the front end and auxiliary heads, is not in it.
"""

import dataclasses
import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_path

PARTS = ("encoder.", "decoder.", "joint_network.", "normalize.")  # what decoding computes with
FLOAT = 32  # bits of what is not rounded
REMAKE = "run the training again: it averages anew"


@dataclasses.dataclass(frozen=True)
class Rounded:
    """A tensor on a symmetric grid.

    ONNX holds it exactly: `DequantizeLinear` of int8 with one scale a row, or of int4 in
    blocks; `MatMulNBits` where it is a matrix in blocks.

    Attributes:
        codes: Integers of at most `bits` bits, in the shape of the tensor.
        scales: Scale of each block of each row, if the tensor is seen as a matrix of rows
            (output channels). (rows, blocks)
        bits: Bits a code.
        block: Elements of a row that share a scale, the last block of a row may have fewer;
            0: the whole row.
    """

    codes: np.ndarray
    scales: np.ndarray
    bits: int
    block: int

    def values(self) -> np.ndarray:
        """Return the tensor as ESPnet computes with it, float32."""
        rows = self.codes.reshape(len(self.codes), -1)  # (rows, columns)
        columns = rows.shape[1]
        scales = np.repeat(self.scales, self.block or columns, axis=1)  # (rows, >= columns)
        return (rows * scales[:, :columns]).reshape(self.codes.shape).astype(np.float32)


Weights = Mapping[str, Union[np.ndarray, Rounded]]


def write_device(weights: Weights, path: Path) -> None:
    """Write weights; the same weights make the same bytes.

    Args:
        weights: Tensors by name, rounded ones or float32.
        path: The file.
    """
    index: List[List[Any]] = []
    codes: List[np.ndarray] = []
    scales: List[np.ndarray] = []
    floats: List[np.ndarray] = []
    for name, weight in weights.items():
        if isinstance(weight, Rounded):
            index.append([name, list(weight.codes.shape), weight.bits, weight.block])
            codes.append(pack(weight.codes, weight.bits))
            scales.append((weight.scales.view(np.uint32) >> 16).astype(np.uint16).ravel())
        else:
            index.append([name, list(weight.shape), FLOAT, 0])
            floats.append(weight.astype(np.float32).ravel())
    text = _index_text(index)
    with atomic_path(path) as tmp, open(tmp, "wb") as f:
        np.savez(
            f,
            index=np.frombuffer(text, np.uint8),
            codes=np.concatenate([np.zeros(0, np.uint8), *codes]),
            scales=np.concatenate([np.zeros(0, np.uint16), *scales]),
            floats=np.concatenate([np.zeros(0, np.float32), *floats]),
        )


def bytes_of_floats(shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the size of the file that `write_device` makes of tensors none of which is rounded.

    Args:
        shapes: Shapes of the tensors by name.
    """
    nothing = io.BytesIO()
    empty = np.zeros(0, np.uint8)
    np.savez(nothing, index=empty, codes=empty, scales=empty, floats=empty)
    text = _index_text([[name, list(shape), FLOAT, 0] for name, shape in shapes.items()])
    return len(nothing.getvalue()) + len(text) + 4 * sum(map(math.prod, shapes.values()))


def _index_text(index: List[List[Any]]) -> bytes:
    return zlib.compress(json.dumps(index, separators=(",", ":")).encode(), 9)


def read_device(path: Path) -> Dict[str, Union[np.ndarray, Rounded]]:
    """Read what `write_device` has written.

    Raises:
        UserError: the file is missing or damaged.
    """
    index, arrays = _read(path)
    weights: Dict[str, Union[np.ndarray, Rounded]] = {}
    at = dict.fromkeys(arrays, 0)

    def take(part: str, count: int) -> np.ndarray:
        """Take the next elements of an array."""
        at[part] += count
        if at[part] > len(arrays[part]):
            raise UserError(f"{path}: its {part} end early; {REMAKE}")
        return arrays[part][at[part] - count : at[part]]

    for name, shape, bits, block in index:
        count = int(np.prod(shape))
        if bits == FLOAT:
            weights[name] = take("floats", count).reshape(shape)
            continue
        codes = unpack(take("codes", -(-count * bits // 8)), bits, count).reshape(shape)
        blocks = -(-count // shape[0] // block) if block else 1
        halves = take("scales", shape[0] * blocks).astype(np.uint32) << 16  # (rows * blocks,)
        weights[name] = Rounded(codes, halves.view(np.float32).reshape(-1, blocks), bits, block)
    return weights


def device_sizes(path: Path) -> Dict[str, int]:
    """Return how many numbers each tensor of a file has.

    Raises:
        UserError: the file is missing or damaged.
    """
    index, _ = _read(path)
    return {name: int(np.prod(shape)) for name, shape, _, _ in index}


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack signed integers to `bits` bits each, the lowest bit first.

    >>> pack(np.array([-7, 0, 7], np.int8), 4).tolist()
    [129, 15]
    """
    raised = (codes.ravel().astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    table = (raised[:, None] >> np.arange(bits, dtype=np.uint8)) & 1  # (codes, bits)
    return np.packbits(table.ravel(), bitorder="little")


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Undo `pack`. (count,) int8"""
    table = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    raised = (table.astype(np.int16) << np.arange(bits, dtype=np.int16)).sum(1)  # (count,)
    return (raised - (1 << (bits - 1))).astype(np.int8)


def _read(path: Path) -> Tuple[List[List[Any]], Dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("index", "codes", "scales", "floats")}
        return json.loads(zlib.decompress(arrays.pop("index").tobytes())), arrays
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {REMAKE}") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(f"{path}: not weights for a device ({reason}); {REMAKE}") from None
