"""Pieces of a batch's lattices across utterances: what keeps a GPU busy.

A piece holds whole frames, as many as its bytes allow, of one utterance or of many. Where it
is cut follows from the lengths, which the host knows: nothing is asked of the device.
"""

import dataclasses
import functools
from typing import Iterator, List, NamedTuple

import torch

from espnet_kd.lattice.host_lengths import Lengths


class Part(NamedTuple):
    """Frames t0..t1 of utterance b, rows 0..rows - 1."""

    b: int
    t0: int
    t1: int
    rows: int

    @property
    def nodes(self) -> int:
        """Nodes: (t1 - t0) * rows."""
        return (self.t1 - self.t0) * self.rows


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Nodes of some frames of a batch, by utterance, frame and row: `Nodes` of a walk.

    Attributes:
        parts: Utterances and frames they are of, in that order.
        height: U + 1 of the batch.
        frame: b * T + t of each. (n,)
        row: b * (U + 1) + u of each. (n,)
    """

    parts: List[Part]
    height: int
    frame: torch.Tensor
    row: torch.Tensor

    def sums(self, enc: torch.Tensor, dec: torch.Tensor) -> torch.Tensor:
        """Add up the projections of each node. (B, T, D), (B, U + 1, D) -> (n, D)"""
        z = enc.flatten(0, 1).index_select(0, self.frame)  # (n, D)
        return z.add_(dec.flatten(0, 1).index_select(0, self.row))

    def add_grad(self, grad: torch.Tensor, d_enc: torch.Tensor, d_dec: torch.Tensor) -> None:
        """Add the gradient of `sums` (n, D) to d_enc (B, T, D) and d_dec (B, U + 1, D)."""
        # Sums of parts, not `index_add_`: on a GPU that adds in another order each time.
        grads = grad.split([part.nodes for part in self.parts])
        for (b, t0, t1, rows), nodes in zip(self.parts, grads):
            grid = nodes.view(t1 - t0, rows, -1)  # (t, rows, D)
            d_enc[b, t0:t1] += grid.sum(1)
            d_dec[b, :rows] += grid.sum(0)

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the next label of each node. (B, U + 1) -> (n,)"""
        return labels.flatten().index_select(0, self.row)

    def take(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return these of the nodes of a batch. (B, T, U + 1, ...) -> (n, ...)"""
        return nodes.flatten(0, 2).index_select(0, self.place)

    def put(self, nodes: torch.Tensor, values: torch.Tensor) -> None:
        """Write values (n, ...) to their places in (B, T, U + 1, ...)."""
        nodes.view(-1, *nodes.shape[3:]).index_copy_(0, self.place, values.to(nodes.dtype))

    @functools.cached_property
    def place(self) -> torch.Tensor:
        """Number of each among all B * T * (U + 1), padding included. (n,)"""
        return self.frame.long().mul_(self.height).add_(self.row % self.height)


def packed(lengths: Lengths, node_bytes: int, budget: int) -> Iterator[Packed]:
    """Walk over all nodes of all utterances, without padding.

    Args:
        lengths: Lengths of the batch.
        node_bytes: Bytes that one node takes while its piece is worked on.
        budget: Bytes that a piece may take; one frame of one utterance is the least.

    Yields:
        Pieces in the order of utterances and frames.
    """
    frame, row = lengths.frame_and_row  # (N,) each
    start = 0
    for parts in _cut(lengths, max(1, budget // node_bytes)):
        stop = start + sum(part.nodes for part in parts)
        yield Packed(parts, lengths.size[2], frame[start:stop], row[start:stop])
        start = stop


def _cut(lengths: Lengths, most: int) -> List[List[Part]]:
    """Cut all frames into pieces of about the same number of nodes, `most` of them at most."""
    size = -(-lengths.nodes // -(-lengths.nodes // most))  # equal pieces
    pieces: List[List[Part]] = [[]]
    room = size
    for b, (frames, labels) in enumerate(zip(lengths.frames, lengths.labels)):
        t, rows = 0, labels + 1
        while t < frames:
            fit = min(frames - t, room // rows)
            if fit == 0 and pieces[-1]:
                pieces.append([])
                room = size
                continue
            part = Part(b, t, t + max(fit, 1), rows)
            pieces[-1].append(part)
            t, room = part.t1, max(0, room - part.nodes)
    return pieces
