"""From divergences at nodes to one figure an utterance."""

from typing import Optional

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.nodes import node_mask
from espnet_kd.lattice.side_by_side import alone
from espnet_kd.spec.distillation import NORMALIZATIONS


@alone
def reduce_nodes(
    divergence: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    normalize: str = "path",
    weight: Optional[torch.Tensor] = None,
    band: Optional[Band] = None,
) -> torch.Tensor:
    """Sum node divergences over each utterance's own lattice.

    Args:
        divergence: Nats at each node. (B, T, U + 1), or (N,) of a band
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        normalize: `sum`: over nodes, as in Panchapagesan et al. 2020 (arXiv 2011.06110,
            eq. 7); grows with T * U. `node`: the weighted mean over nodes. `path`: that mean
            times the T + U nodes that one path visits, which is in nats an utterance like
            the RNN-T loss, so that one lambda fits short and long utterances (ours).
        weight: Weight of each node, 0 leaves it out; by default 1. (B, T, U + 1) or (N,)
        band: The nodes that count; None: all.

    Returns:
        Zero for an utterance whose nodes all have weight 0. (B,)

    Raises:
        ValueError: unknown `normalize`.
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize must be one of {NORMALIZATIONS}: got '{normalize}'")
    if band is None:
        counts = node_mask(t_len, u_len, divergence.shape)  # (B, T, U + 1)
    else:
        counts = torch.ones_like(divergence, dtype=torch.bool)  # (N,)

    def added(nodes: torch.Tensor) -> torch.Tensor:
        """Sum over the nodes of each utterance. (B,)"""
        return nodes.sum(dim=(1, 2)) if band is None else band.sums(nodes)

    if weight is not None:
        counts = counts & (weight > 0)
    # where, not multiplication: what is left out may hold anything, NaN included.
    weighted = divergence if weight is None else weight * divergence
    total = added(torch.where(counts, weighted, 0.0))  # (B,)
    if normalize == "sum":
        return total
    mass = added(counts if weight is None else torch.where(counts, weight, 0.0))  # (B,)
    mean = total / mass.to(total).clamp_min(torch.finfo(total.dtype).tiny)  # (B,)
    return mean if normalize == "node" else mean * (t_len + u_len).to(total)
