"""Lengths of a batch, read by the host once: everything that is planned follows from them."""

import functools
from typing import List, Sequence, Tuple

import torch


class Lengths:
    """Frames and labels of each utterance, on the host and where the lattice is.

    Lengths on a GPU cost the host one wait, those on the CPU none.

    Args:
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        size: B, T and U + 1 of the lattice; what follows does not count.
        device: Where the lattice is.

    Attributes:
        frames: Frames of each utterance, B of them.
        labels: Labels of each utterance, B of them.
        t_len: The same, there. (B,)
        u_len: The same, there. (B,)
        size: B, T and U + 1.

    Raises:
        ValueError: the batch is empty, or a length lies outside the lattice.
    """

    def __init__(
        self,
        t_len: torch.Tensor,
        u_len: torch.Tensor,
        size: Sequence[int],
        device: torch.device,
    ) -> None:
        B, T, U1 = size[:3]
        if B < 1:
            raise ValueError("the batch holds no utterance: B must be at least 1")
        if t_len.shape != (B,) or u_len.shape != (B,):
            raise ValueError(
                f"t_len and u_len must have shape ({B},): got {tuple(t_len.shape)}, "
                f"{tuple(u_len.shape)}"
            )
        self.size: Tuple[int, int, int] = (B, T, U1)
        self.frames, self.labels = _on_host(t_len, u_len)
        if min(self.frames) < 1 or max(self.frames) > T:
            raise ValueError(f"t_len must lie in [1, {T}]: got {self.frames}")
        if min(self.labels) < 0 or max(self.labels) > U1 - 1:
            raise ValueError(f"u_len must lie in [0, {U1 - 1}]: got {self.labels}")
        # Not blocking: a copy to a GPU would make the host wait, too. Kernels read one after the
        # other, whatever the strides.
        self.t_len = t_len.to(device, torch.long, non_blocking=True).contiguous()
        self.u_len = u_len.to(device, torch.long, non_blocking=True).contiguous()

    @property
    def nodes(self) -> int:
        """Nodes of all utterances, without padding: N."""
        return sum(t * (u + 1) for t, u in zip(self.frames, self.labels))

    @functools.cached_property
    def frame_and_row(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """Number of each node's frame, b * T + t, and of its row, b * (U + 1) + u, in their order.

        Made where the lattice is, of numbers that the host knows. (N,), (N,)
        """
        B, T, U1 = self.size
        device, total = self.t_len.device, sum(self.frames)
        rows = self.u_len + 1  # (B,)
        utterance = torch.repeat_interleave(self.t_len, output_size=total)  # (F,)
        before = (self.t_len.cumsum(0) - self.t_len)[utterance]  # (F,)
        frame = torch.arange(total, device=device) - before + utterance * T  # (F,)
        height = rows[utterance]  # (F,)
        of_node = torch.repeat_interleave(height, output_size=self.nodes)  # (N,)
        # What is added to a node's number to make it b * (U + 1) + u.
        shift = utterance * U1 - (height.cumsum(0) - height)  # (F,)
        row = torch.arange(len(of_node), device=device).add_(shift[of_node])  # (N,)
        return frame.int()[of_node], row.int()


def _on_host(t_len: torch.Tensor, u_len: torch.Tensor) -> Tuple[List[int], List[int]]:
    """Return both as Python numbers: one wait, if they are on a GPU."""
    if t_len.device != u_len.device or t_len.device.type == "cpu":
        return t_len.tolist(), u_len.tolist()
    frames, labels = torch.stack([t_len.long(), u_len.long()]).tolist()
    return frames, labels


def asks(device: torch.device) -> bool:
    """Tell whether the host may ask what a tensor holds: on a GPU it would have to wait."""
    return device.type == "cpu"
