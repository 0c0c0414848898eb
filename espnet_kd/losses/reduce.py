"""From divergences at nodes to one figure an utterance."""

import torch

from espnet_kd.lattice.nodes import node_mask

NORMALIZATIONS = ("path", "node", "sum")


def reduce_nodes(
    divergence: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    normalize: str = "path",
) -> torch.Tensor:
    """Sum node divergences over each utterance's own lattice.

    Args:
        divergence: Nats at each node. (B, T, U + 1)
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        normalize: `sum`: over nodes, as in Panchapagesan et al. 2020 (arXiv 2011.06110,
            eq. 7); grows with T * U. `node`: the mean over nodes. `path`: that mean times
            the T + U nodes that one path visits, which is in nats an utterance like the
            RNN-T loss, so that one weight fits short and long utterances (ours).

    Returns:
        (B,)

    Raises:
        ValueError: unknown `normalize`.
    """
    mask = node_mask(t_len, u_len, divergence.shape)
    # where, not multiplication: padding may hold anything, NaN included.
    total = torch.where(mask, divergence, 0.0).sum(dim=(1, 2))  # (B,)
    nodes = (t_len * (u_len + 1)).to(total)  # (B,)
    if normalize == "sum":
        return total
    if normalize == "node":
        return total / nodes
    if normalize == "path":
        return total * (t_len + u_len).to(total) / nodes
    raise ValueError(f"normalize must be one of {NORMALIZATIONS}: got '{normalize}'")
