"""KL over {blank, next label, rest} at every node.

Panchapagesan et al. 2020, "Efficient knowledge distillation for RNN-transducer models"
(arXiv 2011.06110), eq. 5-7: O(T * U) numbers of the teacher instead of O(T * U * V).
"""

import torch

from espnet_kd.lattice.nodes import next_labels


def collapse(logits: torch.Tensor, labels: torch.Tensor, u_len: torch.Tensor) -> torch.Tensor:
    """Reduce a distribution over V to log-probabilities of {blank, next label, rest}.

    Args:
        logits: (B, T, U + 1, V), already divided by the temperature
        labels: (B, U)
        u_len: (B,)

    Returns:
        (B, T, U + 1, 3). On the row u = u_len, which has no next label, the middle class
        is empty (-inf) and the rest is all but blank.
    """
    B, T, U1, V = logits.shape
    log_p = logits.log_softmax(dim=-1)  # (B, T, U + 1, V)
    label = next_labels(labels)[:, None, :, None]  # (B, 1, U + 1, 1)
    has_label = torch.arange(U1, device=logits.device) < u_len[:, None]  # (B, U + 1)
    # With a label that is blank (the padding) the scatter below hides blank only.
    label = label.masked_fill(~has_label[:, None, :, None], 0).expand(B, T, U1, 1)
    blank = log_p[..., :1]  # (B, T, U + 1, 1)
    next_label = log_p.gather(-1, label).masked_fill(
        ~has_label[:, None, :, None], float("-inf")
    )  # (B, T, U + 1, 1)
    # The rest is summed, not 1 - p(blank) - p(label): no cancellation when it is small.
    others = log_p.scatter(-1, label, float("-inf"))
    others = torch.cat([torch.full_like(blank, float("-inf")), others[..., 1:]], dim=-1)
    return torch.cat([blank, next_label, others.logsumexp(-1, keepdim=True)], dim=-1)


def collapsed_kl(
    student: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    u_len: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Compute KL(teacher || student) over three classes at each node, times temperature^2.

    Args:
        student: Logits of the student's joint network. (B, T, U + 1, V)
        teacher: Logits of the teacher's. (B, T, U + 1, V)
        labels: (B, U)
        u_len: Labels of each utterance. (B,)
        temperature: Divides both logits (Hinton et al. 2015, arXiv 1503.02531); the
            square keeps the size of the gradient.

    Returns:
        Nats. Nodes in the padding hold finite numbers without meaning. (B, T, U + 1)
    """
    q = collapse(student / temperature, labels, u_len)  # (B, T, U + 1, 3)
    p = collapse(teacher / temperature, labels, u_len).detach()  # (B, T, U + 1, 3)
    return temperature**2 * kl(p, q)


def kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) over the last dimension; classes that p gives nothing count nothing."""
    empty = log_p == float("-inf")
    difference = torch.where(empty, 0.0, log_p) - torch.where(empty, 0.0, log_q)
    return (log_p.exp() * difference).sum(-1)
