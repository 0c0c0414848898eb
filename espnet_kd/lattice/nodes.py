"""Which nodes of a padded lattice belong to an utterance, and which label comes next."""

import torch
import torch.nn.functional as F

from espnet_kd.lattice.host_lengths import Lengths, asks


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


def check_labels(labels: torch.Tensor, lengths: Lengths) -> None:
    """Refuse labels that are not there.

    Args:
        labels: Padded with anything. (B, U)
        lengths: Lengths of the batch.

    Raises:
        ValueError: they are of another batch, or fewer than the largest of `lengths`.
    """
    B, least = lengths.size[0], max(lengths.labels)
    if labels.dim() != 2 or len(labels) != B or labels.size(1) < least:
        raise ValueError(
            f"labels must have shape ({B}, U), U at least {least}, the largest of u_len: got "
            f"{tuple(labels.shape)}"
        )


def checked_labels(labels: torch.Tensor, lengths: Lengths, tokens: int) -> torch.Tensor:
    """Do `next_labels`, of labels that are there and in the vocabulary.

    Args:
        labels: Padded with anything. (B, U)
        lengths: Lengths of the batch.
        tokens: Size V of the vocabulary.

    Returns:
        (B, U + 1)

    Raises:
        ValueError: see `check_labels`; or one lies outside the vocabulary.
        RuntimeError: the same on a GPU, where the host would have to wait to say so: the device
            stops, and whatever asks something of it next is told.
    """
    check_labels(labels, lengths)
    label = next_labels(labels, lengths.u_len, lengths.size[2])  # (B, U + 1)
    known = label == label.clamp(0, tokens - 1)  # (B, U + 1)
    told = f"labels must lie in [0, {tokens - 1}], where the output layer has {tokens} tokens"
    if asks(label.device):
        if not known.all():
            raise ValueError(f"{told}: got {label[~known].unique().tolist()}")
    elif label.device.type in ("cpu", "cuda"):  # others have no such operator
        # Triton's kernels would read what lies beside the logits.
        torch._assert_async(known.all(), told)
    return label
