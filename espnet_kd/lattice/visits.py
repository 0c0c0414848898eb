"""Which nodes a model's paths visit: expected visits, and the best path."""

from typing import Optional

import torch

from espnet_kd.lattice.host_lengths import Lengths
from espnet_kd.lattice.recursion import NEG_INF, arc_occupancies
from espnet_kd.lattice.side_by_side import alone

LEAST = -1e4  # log-probabilities below are as good as none, and can be added up


def occupancy(
    log_probs: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    lengths: Optional[Lengths] = None,
) -> torch.Tensor:
    """Compute the probability that a path visits a node.

    It is the sum of the occupancies of both arcs that leave the node, gamma(t, u) in Graves
    2012 (arXiv 1211.3711, eq. 19).

    Args:
        log_probs: log p(blank) and log p(next label) of each node. (B, T, U + 1, 2)
        t_len: (B,)
        u_len: (B,)
        lengths: The same lengths, where the host has read them already.

    Returns:
        Sums to T + U over an utterance, the nodes of one path. (B, T, U + 1)
    """
    return arc_occupancies(log_probs, t_len, u_len, lengths).sum(-1)


@torch.no_grad()
@alone
def best_path(log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> torch.Tensor:
    """Mark the nodes of the likeliest path (Viterbi).

    A path is the frames at which it enters the rows. With C(t) the sum of a row's blanks
    before t, staying in it from s to t costs C(t) - C(s): the best s for every t is a running
    maximum, which looks back and never at the padding. So a row of the whole batch is one
    vector operation, U + 1 of them in all.

    Args:
        log_probs: log p(blank) and log p(next label) of each node. (B, T, U + 1, 2)
        t_len: (B,)
        u_len: (B,)

    Returns:
        One at the T + U nodes of the path, else zero. (B, T, U + 1)
    """
    B, T, U1, _ = log_probs.shape
    t_len, u_len = t_len.to(log_probs.device), u_len.to(log_probs.device)
    t = torch.arange(T, device=log_probs.device)  # (T,)
    blank, label = log_probs.permute(3, 2, 0, 1)  # (U + 1, B, T) each
    blank = blank.double().clamp_min(LEAST)
    before = blank.cumsum(-1) - blank  # C, (U + 1, B, T)
    on = before + label.clamp_min(LEAST)  # from a row to the next, (U + 1, B, T)
    enter = torch.where(t == 0, 0.0, NEG_INF).to(before).expand(B, T)  # into row u at t
    entered = []  # [u][b, t]: when row u was entered by who leaves it at t
    for stay, move in zip(before.unbind(), on.unbind()):
        best, since = (enter - stay).cummax(-1)  # (B, T) each
        entered.append(since)
        enter = best + move  # (B, T)
    last = (t_len - 1)[:, None].long()  # (B, 1)
    borders = []  # [U - u]: first and last frame in row u, none above the last row
    for u in range(U1 - 1, -1, -1):
        inside = (u <= u_len)[:, None]  # (B, 1)
        first = entered[u].gather(1, last)  # (B, 1)
        borders.append(torch.cat([torch.where(inside, first, T), last], 1))  # (B, 2)
        last = torch.where(inside, first, last)
    first, last = torch.stack(borders[::-1], 1).unbind(-1)  # (B, U + 1) each
    visited = (first[:, None] <= t[:, None]) & (t[:, None] <= last[:, None])  # (B, T, U + 1)
    return visited.to(log_probs.dtype)
