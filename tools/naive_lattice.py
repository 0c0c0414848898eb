"""The ordinary way: every lattice materialised, as one would write it down.

What the benchmarks compare with. Padding is masked, nothing else is saved.
"""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torchaudio.functional import rnnt_loss

from espnet_kd.lattice import Joint
from espnet_kd.losses import reduce_nodes
from espnet_kd.objective import Losses


class Lattice(NamedTuple):
    """Labels (B, U), frames (B,) and label counts (B,) of a batch."""

    labels: torch.Tensor
    t_len: torch.Tensor
    u_len: torch.Tensor


def logits_of(joint: Joint) -> torch.Tensor:
    """Compute the whole lattice. (B, T, U + 1, V)"""
    z = torch.tanh(joint.enc[:, :, None] + joint.dec[:, None])  # (B, T, U + 1, D)
    return F.linear(z, joint.weight, joint.bias)


def plain(logits: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """RNN-T loss of each utterance by torchaudio. (B,)"""
    labels, t_len, u_len = (x.int() for x in lattice)
    return rnnt_loss(logits, labels, t_len, u_len, blank=0, reduction="none")


def full(student: Joint, teacher: Joint, lattice: Lattice) -> Losses:
    """RNN-T loss and KL over the vocabulary, teacher on-line."""
    logits = logits_of(student)
    with torch.no_grad():
        log_p = logits_of(teacher).log_softmax(-1)  # (B, T, U + 1, V)
    log_q = logits.log_softmax(-1)  # (B, T, U + 1, V)
    kl = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)  # (B, T, U + 1)
    return Losses(plain(logits, lattice), _reduce(kl, lattice))


def collapsed(
    student: Joint, teacher: Optional[Joint], cache: Optional[torch.Tensor], lattice: Lattice
) -> Losses:
    """RNN-T loss and KL over {blank, next label, rest}.

    Args:
        student: The student.
        teacher: The teacher, or None with a cache.
        cache: The teacher's three log-probabilities at each node. (B, T, U + 1, 3)
        lattice: The batch.

    Raises:
        ValueError: neither teacher nor cache.
    """
    logits = logits_of(student)
    if cache is not None:
        p = cache.exp()  # (B, T, U + 1, 3)
    elif teacher is not None:
        with torch.no_grad():
            p = three_classes(logits_of(teacher), lattice)  # (B, T, U + 1, 3)
    else:
        raise ValueError("neither a teacher nor a cache is given")
    log_q = three_classes(logits, lattice).clamp_min(1e-20).log()  # (B, T, U + 1, 3)
    kl = torch.where(p > 0, p * (p.clamp_min(1e-20).log() - log_q), 0.0).sum(-1)
    return Losses(plain(logits, lattice), _reduce(kl, lattice))


def three_classes(logits: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """Compute p of {blank, next label, rest}; the row u = U has no label. (B, T, U + 1, 3)"""
    labels, _, u_len = lattice
    p = logits.softmax(-1)  # (B, T, U + 1, V)
    B, T, U1, _ = p.shape
    index = F.pad(labels, (0, 1))[:, None, :, None].expand(B, T, U1, 1)
    has_label = torch.arange(U1, device=p.device) < u_len[:, None]  # (B, U + 1)
    p_label = p.gather(-1, index)[..., 0] * has_label[:, None]  # (B, T, U + 1)
    p_blank = p[..., 0]
    return torch.stack([p_blank, p_label, (1 - p_blank - p_label).clamp_min(0.0)], dim=-1)


def _reduce(kl: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    return reduce_nodes(kl, lattice.t_len, lattice.u_len)
