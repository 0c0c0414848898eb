"""Full-sum distillation: match the probability of the label sequence.

Zeineldeen et al. 2023 (arXiv 2303.05958) distil the posterior probability of the sequence,
which does not need the alignments of both models to agree. The distance is ours.
"""

import torch


def full_sum(
    student: torch.Tensor, teacher: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor
) -> torch.Tensor:
    """Compute (log P_teacher(y | x) - log P_student(y | x))^2 / (T + U).

    It uses the recursion only: no node of one lattice is compared with one of the other.

    Args:
        student: RNN-T loss, -log P(y | x). (B,)
        teacher: The same of the teacher. (B,)
        t_len: (B,)
        u_len: (B,)

    Returns:
        Zero where one of the models cannot say the labels at all. (B,)
    """
    there = torch.isfinite(student) & torch.isfinite(teacher)
    difference = (student - teacher.detach()).masked_fill(~there, 0.0)  # (B,)
    return difference.square() / (t_len + u_len).to(student)
