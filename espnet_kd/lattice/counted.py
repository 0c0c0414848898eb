"""The nodes of a batch that its losses count: whole lattices, or a band of each."""

import dataclasses
from typing import Optional

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.banded_recursion import banded_rnnt_loss
from espnet_kd.lattice.change import Divergence
from espnet_kd.lattice.host_lengths import Lengths
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.recursion import rnnt_loss
from espnet_kd.lattice.stats import node_stats


@dataclasses.dataclass(frozen=True)
class Grid:
    """Whatever is computed of a node lies in (B, T, U + 1, ...), or in (N, ...) of a band.

    Attributes:
        labels: Padded with anything in [0, V). (B, U)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        budget: Bytes of a chunk: see `node_stats`.
        band: The nodes that count; None: all.
        lengths: The same lengths, where the host has read them already: it then waits no more.
    """

    labels: torch.Tensor
    t_len: torch.Tensor
    u_len: torch.Tensor
    budget: Optional[int] = None
    band: Optional[Band] = None
    lengths: Optional[Lengths] = None

    def inside(self, band: Optional[Band]) -> "Grid":
        """Return the same lattices, of which a band counts."""
        return dataclasses.replace(self, band=band)

    def stats(self, joint: Joint, divergence: Optional[Divergence] = None) -> torch.Tensor:
        """Walk over the nodes: see `node_stats`."""
        return node_stats(
            joint,
            self.labels,
            self.t_len,
            self.u_len,
            divergence,
            self.budget,
            self.band,
            self.lengths,
        )

    def loss(self, stats: torch.Tensor, fastemit_lambda: float = 0.0) -> torch.Tensor:
        """Compute -log P(y | x), of the paths inside, of what `stats` gives. (B,)"""
        if self.band is None:
            two, lengths = stats[..., :2], (self.t_len, self.u_len)
            return rnnt_loss(two, *lengths, fastemit_lambda, self.lengths)
        return banded_rnnt_loss(stats[..., :2], self.band, fastemit_lambda)

    def take(self, nodes: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
        """Return the nodes that count, of whole lattices (B, T, U + 1, ...); None: None."""
        return nodes if self.band is None or nodes is None else self.band.take(nodes)
