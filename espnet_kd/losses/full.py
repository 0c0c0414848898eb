"""KL over the full vocabulary at every node (Hinton et al. 2015, arXiv 1503.02531)."""

import torch


def full_kl(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Compute KL(teacher || student) over V at each node, times temperature^2.

    The row u = U needs no care here: its distribution over {blank, any label} is as
    defined as that of any other row.

    Args:
        student: Logits of the student's joint network. (B, T, U + 1, V)
        teacher: Logits of the teacher's. (B, T, U + 1, V)
        temperature: Divides both logits; the square keeps the size of the gradient.

    Returns:
        Nats. Nodes in the padding hold finite numbers without meaning. (B, T, U + 1)
    """
    log_q = (student / temperature).log_softmax(dim=-1)  # (B, T, U + 1, V)
    log_p = (teacher / temperature).log_softmax(dim=-1).detach()  # (B, T, U + 1, V)
    return temperature**2 * torch.nn.functional.kl_div(
        log_q, log_p, log_target=True, reduction="none"
    ).sum(-1)
