"""Which nodes of a padded lattice belong to an utterance."""

import torch


def node_mask(t_len: torch.Tensor, u_len: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Mark the nodes that belong to an utterance.

    Args:
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        size: At least (B, T, U + 1).

    Returns:
        True where t < t_len and u <= u_len. (B, T, U + 1)
    """
    t = torch.arange(size[1], device=t_len.device)  # (T,)
    u = torch.arange(size[2], device=t_len.device)  # (U + 1,)
    return (t < t_len[:, None])[:, :, None] & (u <= u_len[:, None])[:, None, :]
