"""Which nodes of a padded lattice belong to an utterance, and which label comes next."""

import torch
import torch.nn.functional as F


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


def next_labels(labels: torch.Tensor, u_len: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the next label of each row; blank, 0, where there is none.

    Args:
        labels: Padded with anything. (B, U)
        u_len: Labels of each utterance. (B,)
        rows: U + 1.

    Returns:
        (B, U + 1)
    """
    row = torch.arange(rows, device=labels.device)  # (U + 1,)
    label = F.pad(labels.long(), (0, rows))[:, :rows]  # (B, U + 1)
    return label.masked_fill(row >= u_len.to(row.device)[:, None], 0)
