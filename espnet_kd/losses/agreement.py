"""Agreement of teacher and student along the teacher's best path: a figure to watch."""

from typing import Optional

import torch

from espnet_kd.lattice.visits import LEAST, best_path


@torch.no_grad()
def agreement(
    student: torch.Tensor,
    teacher: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    held: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Compute on which share of the teacher's best path both choose alike.

    At each of its T + U nodes the likeliest of {blank, next label, rest} is the choice. Off
    the path, where neither would ever be, agreement means nothing. Most nodes of a path are
    blanks: two models that know nothing of each other agree on many of them.

    Args:
        student: log p of {blank, next label, rest}, as the objective compares them: at its
            temperature. (B, T, U + 1, 3)
        teacher: The same of the teacher. (B, T, U + 1, 3)
        t_len: (B,)
        u_len: (B,)
        held: 0 where a cache holds nothing of the teacher; None: it holds all.
            (B, T, U + 1)

    Returns:
        From 0 to 1. (B,)
    """
    if held is not None:
        teacher = teacher.masked_fill((held == 0)[..., None], LEAST)
    path = best_path(teacher[..., :2], t_len, u_len)  # (B, T, U + 1)
    same = student[..., :3].argmax(-1) == teacher.argmax(-1)  # (B, T, U + 1)
    return (path * same).sum((1, 2)) / path.sum((1, 2))
