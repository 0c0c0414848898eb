"""The band of a lattice: the few rows of each frame where the teacher's paths run."""

import torch


def band_starts(visits: torch.Tensor, rows: int) -> torch.Tensor:
    """Choose, for each frame, the `rows` neighbouring rows that paths visit most.

    Shared pruning bounds in the manner of k2's pruned RNN-T loss (Kuang et al. 2022, arXiv
    2206.13236), but frame by frame: a distillation loss is a sum over nodes, so the rows
    of two frames need not overlap.

    Args:
        visits: Probability that a path of the teacher visits a node, from
            `lattice.paths.occupancy`. (T, U + 1)
        rows: R <= U + 1.

    Returns:
        First row of each frame's band, in [0, U + 1 - R]. (T,)
    """
    total = torch.nn.functional.pad(visits.double().cumsum(1), (1, 0))  # (T, U + 2)
    mass = total[:, rows:] - total[:, :-rows]  # (T, U + 2 - R): of each place of the band
    u = torch.arange(visits.size(1), device=visits.device)
    mean = (visits * u).sum(1) / visits.sum(1).clamp_min(1e-6)  # (T,)
    middle = torch.arange(mass.size(1), device=visits.device) + (rows - 1) / 2
    # Many places hold (nearly) all: among them the one whose middle the paths run through.
    distance = (middle - mean[:, None]).abs()  # (T, U + 2 - R)
    return (mass - 1e-4 * distance).argmax(1)
