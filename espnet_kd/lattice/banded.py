"""A band of each utterance's lattice: the rows of each frame where a teacher's paths run.

Shared pruning bounds in the manner of k2's pruned RNN-T loss (Kuang et al. 2022, arXiv
2206.13236), but chosen by a trained teacher instead of a second joint network, and as wide in
each frame as its paths need. The nodes of all utterances lie one after the other, without
padding: ordered by utterance, frame and row.
"""

import dataclasses
import functools
from typing import Iterator, List, NamedTuple, Optional

import torch

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
        diagonals: Nodes of each t + u.
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        is_whole: Whether it holds all nodes of all utterances.
        is_known: Whether all of its nodes are among those that were given as known.
    """

    size: torch.Size
    place: torch.Tensor
    counts: List[int]
    diagonals: List[int]
    t_len: torch.Tensor
    u_len: torch.Tensor
    is_whole: bool
    is_known: bool

    @classmethod
    def of(
        cls,
        mask: torch.Tensor,
        t_len: torch.Tensor,
        u_len: torch.Tensor,
        known: Optional[torch.Tensor] = None,
    ) -> "Band":
        """Make it of the nodes that it holds; on a GPU the host waits once.

        Args:
            mask: Which they are. (B, T, U + 1)
            t_len: Frames of each utterance. (B,)
            u_len: Labels of each utterance. (B,)
            known: Nodes of which something is known; None: all. (B, T, U + 1)
        """
        (B, T, U1), device = mask.shape, mask.device
        t_len, u_len = (x.to(device, torch.long).contiguous() for x in (t_len, u_len))
        mask = mask & node_mask(t_len, u_len, mask.shape)
        diagonal = torch.arange(T, device=device)[:, None] + torch.arange(U1, device=device)
        diagonals = t_len.new_zeros(T + U1).index_add_(
            0, diagonal.flatten(), mask.sum(0).flatten().to(t_len)
        )  # (T + U1,)
        unknown = mask.new_zeros(()) if known is None else (mask & ~known).any()
        facts = [mask.sum((1, 2)), diagonals, (t_len * (u_len + 1)).sum()[None], unknown[None]]
        read = torch.cat([x.long() for x in facts]).tolist()  # all that the host waits for
        counts, by_diagonal, N = read[:B], read[B:-2], sum(read[:B])
        # The number of each node among those inside; all others share one.
        number = torch.where(mask, mask.flatten().cumsum(0).view_as(mask) - 1, N)  # (B, T, U + 1)
        place = t_len.new_empty(N + 1)
        place[number.flatten()] = torch.arange(mask.numel(), device=device)
        while by_diagonal and not by_diagonal[-1]:
            by_diagonal.pop()
        whole, known_all = read[-2] == N, not read[-1]
        return cls(mask.shape, place[:N], counts, by_diagonal, t_len, u_len, whole, known_all)

    @functools.cached_property
    def steps(self) -> "Steps":
        """The order of a recursion over the band."""
        return Steps.of(self)

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
    known: Optional[torch.Tensor] = None,
) -> Band:
    """Choose the rows of each frame that a teacher's paths visit.

    Args:
        visits: Probability that a path of the teacher visits a node, from
            `lattice.visits.occupancy`. (B, T, U + 1)
        path: Its best path, from `lattice.visits.best_path`. (B, T, U + 1)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        kept: Share of a frame's visits that the band keeps at least.
        rows: Instead, the rows of a frame that it has at least; 0: as many as `kept` wants.
        known: See `Band.of`. (B, T, U + 1)

    Returns:
        A band of each utterance: see `rows_around`.
    """
    mask = rows_around(visits, path, t_len, u_len, kept, rows)  # (B, T, U + 1)
    return Band.of(mask, t_len, u_len, known)


def rows_around(
    visits: torch.Tensor,
    path: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    kept: float,
    rows: int = 0,
) -> torch.Tensor:
    """Mark the rows of each frame for `band_around`.

    Both borders never fall from frame to frame, and the band holds the best path: so it is
    connected, and holds a path from the first node to the last. (B, T, U + 1)
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
    return (u >= low[..., None]) & (u <= high[..., None])  # (B, T, U + 1)


class Steps(NamedTuple):
    """The order of a recursion: nodes of equal t + u at once, forwards and backwards together.

    A state is what is known of a node: of N nodes first the sums over all ways to them, then those
    over all ways from them on. In the order of the recursion: step n has the nodes with t + u = n
    forwards and those of the n-th last t + u backwards.

    Attributes:
        counts: States of each step.
        rank: Place of each state in that order. (2 N,)
        arcs: For each state, in that order, its arcs by blank and by label among all; an arc
            of nowhere is the last. (2, 2 N)
        states: Where the states lie at their other ends; 2 N: nowhere, 2 N + 1: begin or end.
            (2, 2 N)
        utterance: Utterance of each node. (N,)
        last: The last node of each utterance. (B,)
    """

    counts: List[int]
    rank: torch.Tensor
    arcs: torch.Tensor
    states: torch.Tensor
    utterance: torch.Tensor
    last: torch.Tensor

    @classmethod
    def of(cls, band: Band) -> "Steps":
        """Plan the recursion over a band."""
        (B, T, U1), N, device = band.size, len(band.place), band.place.device
        b, t, u = band.place // (T * U1), band.place // U1 % T, band.place % U1  # (N,) each
        node = torch.arange(N, device=device)
        # Frame -1, frame T, row -1 and row U + 1 are put around the lattice: no node is there.
        where = torch.full((B, T + 2, U1 + 2), N, device=device)
        where[b, t + 1, u + 1] = node
        before = torch.stack([where[b, t, u + 1], where[b, t + 1, u]])  # (2, N)
        after = torch.stack([where[b, t + 2, u + 1], where[b, t + 1, u + 2]])  # (2, N)
        last = where[torch.arange(B, device=device), band.t_len, band.u_len + 1]  # (B,)
        step = torch.cat([t + u, len(band.diagonals) - 1 - t - u])  # (2 N,)
        order = step.argsort(stable=True)  # (2 N,)
        rank = torch.empty_like(order).index_copy_(0, order, torch.arange(2 * N, device=device))
        # Of node N there is nothing.
        nowhere = rank.new_full((1,), 2 * N)
        states = torch.cat(
            [
                torch.cat([rank[:N], nowhere])[before],
                torch.cat([rank[N:], nowhere])[after],
            ],
            1,
        )  # (2, 2 N)
        states[0, :N].masked_fill_(t + u == 0, 2 * N + 1)
        states[0].index_fill_(0, N + last, 2 * N + 1)
        # Into a node lead arcs of others, from it its own.
        arcs = torch.cat([before, node.expand(2, -1)], 1)  # (2, 2 N)
        counts = [x + y for x, y in zip(band.diagonals, band.diagonals[::-1])]
        return cls(counts, rank, arcs[:, order], states[:, order], b, last)
