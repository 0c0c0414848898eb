"""What a loss needs to know of one lattice node."""

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


def next_labels(labels: torch.Tensor) -> torch.Tensor:
    """Append the row u = U, which has no next label; blank (0) stands in for it.

    Args:
        labels: (B, U)

    Returns:
        (B, U + 1), int64
    """
    return torch.nn.functional.pad(labels.long(), (0, 1))


def node_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Gather log p(blank) and log p(next label) of every node.

    The RNN-T loss of a lattice depends on the vocabulary through these two only.

    Args:
        logits: Output of the joint network. (B, T, U + 1, V)
        labels: Labels, padded with anything in [0, V). (B, U)

    Returns:
        [..., 0] is log p(blank | t, u) and [..., 1] is log p(labels[u] | t, u). The row
        u = U has no label: its [..., 1] means nothing. (B, T, U + 1, 2)
    """
    log_z = logits.logsumexp(dim=-1, keepdim=True)  # (B, T, U + 1, 1)
    index = next_labels(labels)[:, None, :, None]  # (B, 1, U + 1, 1)
    index = index.expand(-1, logits.size(1), -1, -1)  # (B, T, U + 1, 1)
    two = torch.cat([logits[..., :1], logits.gather(-1, index)], dim=-1)
    return two - log_z  # (B, T, U + 1, 2)
