"""Agreement of teacher and student along the teacher's best path: a figure to watch."""

from typing import Optional

import torch

from espnet_kd.lattice.banded import Band
from espnet_kd.lattice.side_by_side import alone
from espnet_kd.lattice.visits import LEAST, best_path


@torch.no_grad()
@alone
def agreement(
    student: torch.Tensor,
    teacher: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    held: Optional[torch.Tensor] = None,
    band: Optional[Band] = None,
    path: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Compute on which share of the teacher's best path both choose alike.

    At each of its T + U nodes the likeliest of {blank, next label, rest} is the choice. Off
    the path, where neither would ever be, agreement means nothing. Most nodes of a path are
    blanks: two models that know nothing of each other agree on many of them.

    Args:
        student: log p of {blank, next label, rest}, as the objective compares them: at its
            temperature. (B, T, U + 1, 3), or (N, 3) of a band
        teacher: The same of the teacher.
        t_len: Frames of each utterance. (B,)
        u_len: Labels of each utterance. (B,)
        held: 0 where a cache holds nothing of the teacher, which is left out; None: it holds
            all. (B, T, U + 1) or (N,)
        band: The nodes that count; None: all.
        path: The teacher's best path, which a band alone does not say. (N,)

    Returns:
        From 0 to 1; 1 where nothing of the path is held. (B,)
    """
    if path is None:
        two = teacher[..., :2]
        if held is not None:
            two = two.masked_fill((held == 0)[..., None], LEAST)
        path = best_path(two, t_len, u_len)  # (B, T, U + 1)
    if held is not None:
        path = path * (held > 0)
    same = path * (student[..., :3].argmax(-1) == teacher.argmax(-1))
    alike, nodes = (x.sum((1, 2)) if band is None else band.sums(x) for x in (same, path))
    return torch.where(nodes > 0, alike / nodes.clamp_min(1), 1.0)
