"""A band of each utterance's lattice: the rows of each frame where a teacher's paths run.

Shared pruning bounds in the manner of k2's pruned RNN-T loss (Kuang et al. 2022, arXiv
2206.13236), but chosen by a trained teacher instead of a second joint network, and as wide in
each frame as its paths need. The nodes of all utterances lie one after the other, without
padding: ordered by utterance, frame and row.
"""

import dataclasses
import functools
from typing import Iterator, List, NamedTuple

import torch
import torch.nn.functional as F

from espnet_kd.lattice.nodes import node_mask


class Piece(NamedTuple):
    """Nodes of a band that lie one after the other: `Nodes` of a walk.

    Attributes:
        start: Place of the first among all of them.
        stop: Place after the last.
        frame: b * T + t of each. (n,)
        row: b * (U + 1) + u of each. (n,)
    """

    start: int
    stop: int
    frame: torch.Tensor
    row: torch.Tensor

    def sums(self, enc: torch.Tensor, dec: torch.Tensor) -> torch.Tensor:
        """Add up the projections of each node. (B, T, D), (B, U + 1, D) -> (n, D)"""
        z = enc.flatten(0, 1).index_select(0, self.frame)  # (n, D)
        return z.add_(dec.flatten(0, 1).index_select(0, self.row))

    def add_grad(self, grad: torch.Tensor, d_enc: torch.Tensor, d_dec: torch.Tensor) -> None:
        """Add the gradient of `sums` (n, D) to d_enc (B, T, D) and d_dec (B, U + 1, D)."""
        for index, total in ((self.frame, d_enc), (self.row, d_dec)):
            total.view(-1, total.size(-1)).index_add_(0, index, grad)

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the next label of each node. (B, U + 1) -> (n,)"""
        return labels.flatten()[self.row]

    def take(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return these of the nodes of a band. (N, ...) -> (n, ...)"""
        return nodes[self.start : self.stop]

    def put(self, nodes: torch.Tensor, values: torch.Tensor) -> None:
        """Write values (n, ...) to their places in (N, ...)."""
        nodes[self.start : self.stop] = values


@dataclasses.dataclass(frozen=True, eq=False)
class Band:
    """The nodes of a band, N of them.

    Attributes:
        size: B, T and U + 1 of the lattice.
        place: b * T * (U + 1) + t * (U + 1) + u of each node, in ascending order. (N,)
        counts: Nodes of each utterance, B of them.
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
    """

    size: torch.Size
    place: torch.Tensor
    counts: List[int]
    t_len: torch.Tensor
    u_len: torch.Tensor

    @classmethod
    def of(cls, mask: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> "Band":
        """Make it of the nodes that it holds. mask: (B, T, U + 1)"""
        t_len, u_len = t_len.to(mask.device), u_len.to(mask.device)
        place = (mask & node_mask(t_len, u_len, mask.shape)).flatten().nonzero()[:, 0]  # (N,)
        utterance = place // (mask.size(1) * mask.size(2))
        counts = torch.bincount(utterance, minlength=len(mask)).tolist()
        return cls(mask.shape, place, counts, t_len, u_len)

    @functools.cached_property
    def steps(self) -> "Steps":
        """The order of a recursion over the band."""
        return Steps.of(self)

    @functools.cached_property
    def is_whole(self) -> bool:
        """Whether it holds all nodes of all utterances."""
        return len(self.place) == int((self.t_len * (self.u_len + 1)).sum())

    def take(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return the band's nodes. (B, T, U + 1, ...) -> (N, ...)"""
        return nodes.flatten(0, 2).index_select(0, self.place)

    def sums(self, nodes: torch.Tensor) -> torch.Tensor:
        """Sum over the nodes of each utterance. (N,) -> (B,)"""
        return torch.stack([part.sum() for part in nodes.split(self.counts)])

    def pieces(self, node_bytes: int, budget: int) -> Iterator[Piece]:
        """Cut the band into pieces.

        Args:
            node_bytes: Bytes that one node takes while its piece is worked on.
            budget: Bytes that a piece may take; one node is the least.

        Yields:
            Pieces in the order of nodes, across utterances.
        """
        _, T, U1 = self.size
        frame = self.place // U1  # (N,)
        row = frame // T * U1 + self.place % U1  # (N,)
        N = len(self.place)
        step = max(1, min(N, budget // node_bytes))
        step = -(-N // -(-N // step))  # equal pieces
        for start in range(0, N, step):
            stop = min(start + step, N)
            yield Piece(start, stop, frame[start:stop], row[start:stop])


def band_around(
    visits: torch.Tensor,
    path: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    kept: float = 0.999,
    rows: int = 0,
) -> Band:
    """Choose the rows of each frame that a teacher's paths visit.

    Both borders never fall from frame to frame, and the band holds the best path: so it is
    connected, and holds a path from the first node to the last.

    Args:
        visits: Probability that a path of the teacher visits a node, from
            `lattice.visits.occupancy`. (B, T, U + 1)
        path: Its best path, from `lattice.visits.best_path`. (B, T, U + 1)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        kept: Share of a frame's visits that the band keeps at least.
        rows: Instead, the rows of a frame that it has at least; 0: as many as `kept` wants.

    Returns:
        A band of each utterance.
    """
    t_len, u_len = t_len.to(visits.device), u_len.to(visits.device)
    inside = node_mask(t_len, u_len, visits.shape)  # (B, T, U + 1)
    visits = visits.double().masked_fill(~inside, 0.0)
    u = torch.arange(visits.size(2), device=visits.device)  # (U + 1,)
    below = visits.cumsum(-1)  # (B, T, U + 1)
    total = below[..., -1:]  # (B, T, 1)
    if rows:
        # The rows around the mean of the visits.
        mean = (visits * u).sum(-1, keepdim=True) / total.clamp_min(1e-6)  # (B, T, 1)
        first = (mean - (rows - 1) / 2).round().long()
        first = torch.minimum(first, u_len[:, None, None] + 1 - rows).clamp_min(0)
        within = (u >= first) & (u < first + rows)
    else:
        # What is cut off on either side is at most half of what may be lost.
        spare = (1 - kept) / 2 * total
        within = (below > spare) & (below - visits < total - spare)
    within = (within | (path > 0)) & inside  # (B, T, U + 1)
    last_row = visits.size(2)
    low = torch.where(within, u, last_row).amin(-1)  # (B, T)
    high = torch.where(within, u, -1).amax(-1)  # (B, T)
    low = low.flip(1).cummin(1).values.flip(1)  # the least of this frame and all after it
    high = high.cummax(1).values
    within = (u >= low[..., None]) & (u <= high[..., None])  # (B, T, U + 1)
    return Band.of(within, t_len, u_len)


class Steps(NamedTuple):
    """The order of a recursion: nodes of equal t + u at once, with those that lead to them.

    Attributes:
        order: Nodes by t + u. (N,)
        utterance: Utterance of each, in that order. (N,)
        counts: Nodes of each t + u; T + U of them.
        before: For each node, in that order, where the nodes lie that lead to it by blank and
            by label, among the nodes in that order; N: none does. (2, N)
        after: Where its blank and its label lead; N: nowhere, N + 1: to the end. (2, N)
        last: The last node of each utterance. (B,)
    """

    order: torch.Tensor
    utterance: torch.Tensor
    counts: List[int]
    before: torch.Tensor
    after: torch.Tensor
    last: torch.Tensor

    @classmethod
    def of(cls, band: Band) -> "Steps":
        """Plan the recursion over a band."""
        (B, T, U1), N, device = band.size, len(band.place), band.place.device
        diagonal = band.place // U1 % T + band.place % U1  # (N,)
        order = diagonal.argsort(stable=True)
        # Frame -1, frame T, row -1 and row U + 1 are put around the lattice: no node is there.
        where = torch.full((B, T, U1), N, device=device)
        where.view(-1)[band.place[order]] = torch.arange(N, device=device)
        where = F.pad(where, (1, 1, 1, 1), value=N)  # (B, T + 2, U + 3)
        place = band.place[order]
        b, t, u = place // (T * U1), place // U1 % T + 1, place % U1 + 1
        before = torch.stack([where[b, t - 1, u], where[b, t, u - 1]])  # (2, N)
        after = torch.stack([where[b, t + 1, u], where[b, t, u + 1]])  # (2, N)
        last = where[torch.arange(B, device=device), band.t_len, band.u_len + 1]  # (B,)
        after[0, last] = N + 1
        counts = torch.bincount(diagonal).tolist()
        return cls(order, b, counts, before, after, last)
