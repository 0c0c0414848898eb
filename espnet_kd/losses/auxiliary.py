"""Losses of auxiliary layers: what a layer says, how its frames relate, what comes next.

Source: arXiv 2308.16415, of which the abstract alone could be read; the formulas are those of a
public re-implementation that names that paper's losses. Sums over frames, so that a weight stands
beside the RNN-T loss of an utterance (ours).
"""

from typing import Optional, Sequence

import torch


def frames_inside(t_len: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Return True at real frames. (B,) -> (B, T)"""
    return torch.arange(n_frames, device=t_len.device) < t_len[:, None]


def l1_cosine(student: torch.Tensor, teacher: torch.Tensor, t_len: torch.Tensor) -> torch.Tensor:
    """Sum |h - z|_1 / D - log sigmoid(cos(h, z)) over frames.

    Equal frames count -log sigmoid(1) = 0.3133 each.

    Args:
        student: Output z. (B, T, D)
        teacher: Output h. (B, T, D)
        t_len: Frames; 0 or less: none. (B,)

    Returns:
        (B,)
    """
    inside = frames_inside(t_len, student.size(1))  # (B, T)
    # Before anything is computed of it: a NaN in the padding would reach the gradient.
    z = student.masked_fill(~inside[..., None], 0.0)  # (B, T, D)
    h = teacher.detach().masked_fill(~inside[..., None], 0.0)  # (B, T, D)
    cosine = torch.nn.functional.cosine_similarity(h, z, dim=-1)  # (B, T)
    frames = (h - z).abs().mean(-1) - torch.nn.functional.logsigmoid(cosine)  # (B, T)
    return frames.masked_fill(~inside, 0.0).sum(1)


def future_distance(
    predicted: torch.Tensor, teacher: torch.Tensor, t_len: torch.Tensor, ahead: int
) -> torch.Tensor:
    """Compare what is predicted at frame t with the teacher at t + `ahead`: `l1_cosine`. (B,)

    Args:
        predicted: (B, T, D)
        teacher: (B, T, D)
        t_len: (B,)
        ahead: Frames N; an utterance that has no more counts nothing.
    """
    # Without a frame, too, by way of `predicted`: else its layers would have no gradient, which
    # training in several processes asks of all parameters.
    kept = max(0, predicted.size(1) - ahead)
    return l1_cosine(predicted[:, :kept], teacher[:, ahead:], t_len - ahead)


def relation_kl(
    student: Sequence[torch.Tensor],
    teacher: Sequence[torch.Tensor],
    t_len: torch.Tensor,
    heads: int,
    visible: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Sum KL(teacher's relations || student's) over frames and over queries, keys, values.

    The relations of frame t are softmax_k(x_t . x_k / sqrt(d)) in each head; their mean over
    heads counts.

    Args:
        student: Projections x, of any width that heads divide. (B, T, D) each
        teacher: The same of the teacher, of its width. (B, T, D) each
        t_len: Frames; an utterance of fewer than two has no relations. (B,)
        heads: Heads of both.
        visible: True where frame t (row) may relate to frame k; None: everywhere. (T, T)

    Returns:
        Nats. (B,)

    Source: W. Wang et al., "MiniLMv2", Findings of ACL 2021 (arXiv 2012.15828).
    """
    T = student[0].size(1)
    inside = frames_inside(t_len, T)  # (B, T)
    seen = inside[:, None, None, :]  # (B, 1, 1, T)
    if visible is not None:
        seen = seen & visible  # (B, 1, T, T)
    total = student[0].new_zeros(len(t_len))  # (B,)
    for x_student, x_teacher in zip(student, teacher):
        log_p = _log_relations(x_teacher.detach(), inside, seen, heads)  # (B, heads, T, T)
        log_q = _log_relations(x_student, inside, seen, heads)
        frames = (log_p.exp() * (log_p - log_q)).masked_fill(~seen, 0.0).sum(-1).mean(1)  # (B, T)
        total = total + frames.masked_fill(~inside, 0.0).sum(1)
    return total.masked_fill(t_len < 2, 0.0)


def _log_relations(
    x: torch.Tensor, inside: torch.Tensor, seen: torch.Tensor, heads: int
) -> torch.Tensor:
    """Return log softmax of the products of frames. (B, T, D) -> (B, heads, T, T)"""
    B, T, D = x.shape
    x = x.masked_fill(~inside[..., None], 0.0)
    x = x.view(B, T, heads, D // heads).transpose(1, 2)  # (B, heads, T, D / heads)
    scores = x @ x.transpose(2, 3) / (D // heads) ** 0.5  # (B, heads, T, T)
    return scores.masked_fill(~seen, -1e4).log_softmax(-1)
