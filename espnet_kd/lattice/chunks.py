"""Cut the lattices of a batch into pieces of a bounded size."""

from typing import Iterator, NamedTuple, Protocol, Sequence

import torch


class Nodes(Protocol):
    """Some nodes of a batch's lattices, n of them, in one order throughout."""

    def sums(self, enc: torch.Tensor, dec: torch.Tensor) -> torch.Tensor:
        """Add up the projections of each node. (B, T, D), (B, U + 1, D) -> (n, D)"""

    def add_grad(self, grad: torch.Tensor, d_enc: torch.Tensor, d_dec: torch.Tensor) -> None:
        """Add the gradient of `sums` (n, D) to d_enc (B, T, D) and d_dec (B, U + 1, D)."""

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the next label of each node. (B, U + 1) -> (n,)"""

    def take(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return these of all nodes that are kept. -> (n, ...)"""

    def put(self, nodes: torch.Tensor, values: torch.Tensor) -> None:
        """Write values (n, ...) to their places among all nodes that are kept."""


class Chunk(NamedTuple):
    """Frames t0..t1 of utterance b, rows u0..u0 + rows - 1: (t1 - t0) * rows nodes."""

    b: int
    t0: int
    t1: int
    rows: int
    u0: int = 0

    @property
    def _rows(self) -> slice:
        return slice(self.u0, self.u0 + self.rows)

    def sums(self, enc: torch.Tensor, dec: torch.Tensor) -> torch.Tensor:
        """Add up the projections of each node. (B, T, D), (B, U + 1, D) -> (n, D)"""
        z = enc[self.b, self.t0 : self.t1, None] + dec[self.b, None, self._rows]
        return z.reshape(-1, z.size(-1))  # no view: of transposed inputs it is none

    def add_grad(self, grad: torch.Tensor, d_enc: torch.Tensor, d_dec: torch.Tensor) -> None:
        """Add the gradient of `sums` (n, D) to d_enc (B, T, D) and d_dec (B, U + 1, D)."""
        grid = grad.reshape(self.t1 - self.t0, self.rows, -1)  # (t, rows, D)
        d_enc[self.b, self.t0 : self.t1] += grid.sum(1)
        d_dec[self.b, self._rows] += grid.sum(0)

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the next label of each node. (B, U + 1) -> (n,)"""
        return labels[self.b, self._rows].expand(self.t1 - self.t0, -1).reshape(-1)

    def take(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return these of the nodes of a batch. (B, T, U + 1, ...) -> (n, ...)"""
        return nodes[self.b, self.t0 : self.t1, self._rows].flatten(0, 1)

    def put(self, nodes: torch.Tensor, values: torch.Tensor) -> None:
        """Write values (n, ...) to their places in (B, T, U + 1, ...)."""
        place = nodes[self.b, self.t0 : self.t1, self._rows]  # (t, rows, ...)
        place.copy_(values.view(place.shape))


def chunks(
    t_len: Sequence[int], u_len: Sequence[int], node_bytes: int, budget: int
) -> Iterator[Chunk]:
    """Walk over all nodes of all utterances; nodes in the padding are not visited.

    Args:
        t_len: Frames of each utterance, B of them.
        u_len: Labels of each utterance, B of them.
        node_bytes: Bytes that one node takes while its chunk is worked on.
        budget: Bytes that a chunk may take; one frame of one utterance is the least.

    Yields:
        Chunks in the order of utterances and frames.
    """
    for b, (frames, labels) in enumerate(zip(t_len, u_len)):
        rows = labels + 1
        step = max(1, min(frames, budget // (node_bytes * rows)))
        # Equal pieces rather than a small last one.
        pieces = -(-frames // step)
        step = -(-frames // pieces)
        for t0 in range(0, frames, step):
            yield Chunk(b, t0, min(t0 + step, frames), rows)
