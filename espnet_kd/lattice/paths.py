"""Which nodes a model's paths visit: expected visits, and the best path."""

import torch

from espnet_kd.lattice.recursion import rnnt_loss


def occupancy(log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> torch.Tensor:
    """Compute the probability that a path visits a node.

    It is the sum of the occupancies of both arcs that leave the node, gamma(t, u) in Graves
    2012 (arXiv 1211.3711, eq. 19).

    Args:
        log_probs: log p(blank) and log p(next label) of each node. (B, T, U + 1, 2)
        t_len: (B,)
        u_len: (B,)

    Returns:
        Sums to T + U over an utterance, the nodes of one path. (B, T, U + 1)
    """
    with torch.enable_grad():
        arcs = log_probs.detach().requires_grad_()
        (grad,) = torch.autograd.grad(rnnt_loss(arcs, t_len, u_len).sum(), arcs)
    return -grad.sum(-1)


@torch.no_grad()
def best_path(log_probs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> torch.Tensor:
    """Mark the nodes of the likeliest path (Viterbi).

    Args:
        log_probs: log p(blank) and log p(next label) of each node. (B, T, U + 1, 2)
        t_len: (B,)
        u_len: (B,)

    Returns:
        One at the T + U nodes of the path, else zero. (B, T, U + 1)
    """
    B, T, U1, _ = log_probs.shape
    visited = torch.zeros(B, T, U1)
    # One utterance at a time on the host: T + U steps back, and no batch of it is worth more.
    scores = log_probs.double().cpu()
    for b in range(B):
        frames, labels = int(t_len[b]), int(u_len[b])
        blank, label = scores[b, :frames, : labels + 1].unbind(-1)  # (T, U + 1) each
        best = torch.full((frames, labels + 1), float("-inf"), dtype=torch.float64)
        for t in range(frames):
            # By blank from (t - 1, u), or at (0, 0); then by labels within the frame.
            row = best[t - 1] + blank[t - 1] if t else best[0].index_fill(0, torch.tensor(0), 0.0)
            # max over v <= u of row[v] + sum of labels v..u-1: a running maximum.
            said = torch.nn.functional.pad(label[t, :-1].cumsum(0), (1, 0))  # (U + 1,)
            best[t] = (row - said).cummax(0).values + said
        t, u = frames - 1, labels
        visited[b, t, u] = 1
        while t or u:
            # On the borders there is one way back, whatever its probability.
            by_label = u and (
                not t or best[t, u - 1] + label[t, u - 1] > best[t - 1, u] + blank[t - 1, u]
            )
            t, u = (t, u - 1) if by_label else (t - 1, u)
            visited[b, t, u] = 1
    return visited.to(log_probs)
