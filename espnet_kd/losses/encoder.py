"""Auxiliary distillation of the encoder: what it says of each frame, apart from the lattice."""

from typing import Tuple

import torch

from espnet_kd.losses.kl import divergence


def _without_padding(
    student: torch.Tensor, teacher: torch.Tensor, t_len: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return student and teacher with zeros in the padding, and True at real frames.

    Before anything is computed of it: a NaN there would reach the gradient through a mask
    that comes after.
    """
    inside = torch.arange(teacher.size(1), device=t_len.device) < t_len[:, None]
    inside = inside[:, :, None]  # (B, T, 1)
    return student.masked_fill(~inside, 0.0), teacher.detach().masked_fill(~inside, 0.0), inside


def ctc_kl(
    student: torch.Tensor, teacher: torch.Tensor, t_len: torch.Tensor, kind: str = "forward"
) -> torch.Tensor:
    """Compute the divergence of the CTC posteriors, summed over frames.

    Encoder-logit distillation as in arXiv 2106.07734, on the auxiliary CTC heads.

    Args:
        student: Logits of the student's CTC head. (B, T, V)
        teacher: Logits of the teacher's. (B, T, V)
        t_len: Frames of each utterance. (B,)
        kind: See `losses.kl.divergence`.

    Returns:
        Nats. (B,)
    """
    student, teacher, inside = _without_padding(student, teacher, t_len)
    frames = divergence(teacher.log_softmax(-1), student.log_softmax(-1), kind)  # (B, T)
    return (frames * inside.squeeze(-1)).sum(1)


def encoder_distance(
    student: torch.Tensor, teacher: torch.Tensor, t_len: torch.Tensor
) -> torch.Tensor:
    """Compute the mean squared error of encoder outputs, in units of the teacher's variance.

    1 is what a student gains nothing over that always says the teacher's mean (ours).

    Args:
        student: The student's encoder output, projected to the teacher's width. (B, T, D)
        teacher: The teacher's encoder output. (B, T, D)
        t_len: Frames of each utterance. (B,)

    Returns:
        (B,)
    """
    student, teacher, inside = _without_padding(student, teacher, t_len)
    mean = teacher.sum((0, 1)) / inside.sum()  # (D,)
    variance = ((teacher - mean).square() * inside).sum() / inside.sum()
    error = (student - teacher).square().sum((1, 2))  # (B,)
    return error / t_len.to(error) / variance.clamp_min(torch.finfo(error.dtype).tiny)
