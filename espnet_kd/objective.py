"""The distillation loss of a transducer as one function; torch only, no ESPnet.

    student = Joint(enc, dec, weight, bias)         # projections and output layer
    teacher = Joint(...)                            # its widths may be others
    objective = Objective("collapsed", divergence="forward")
    losses = distillation_losses(student, teacher, labels, t_len, u_len, objective)
    (losses.rnnt + 0.5 * losses.kd).mean().backward()

`examples/torchaudio_rnnt.py` distils torchaudio's own RNN-T model with it.
"""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch

from espnet_kd.lattice import Joint, node_stats, rnnt_loss
from espnet_kd.lattice.visits import best_path, occupancy
from espnet_kd.losses import (
    FullKL,
    Seen,
    TopKKL,
    agreement,
    collapsed_kl,
    full_sum,
    reduce_nodes,
)
from espnet_kd.spec.distillation import Objective

DEFAULT = Objective()


class Posteriors(NamedTuple):
    """A teacher whose collapsed posteriors were computed before (a cache).

    Attributes:
        three: log p of {blank, next label, rest} at temperature 1. (B, T, U + 1, 3)
        weight: 0 at nodes that the cache does not hold; None: it holds all. (B, T, U + 1)
    """

    three: torch.Tensor
    weight: Optional[torch.Tensor] = None


Teacher = Union[Joint, Posteriors]
Lattice = Tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # labels, t_len, u_len
Teachers = Sequence[Tuple[Teacher, float]]  # each with its share of the distillation loss


class Losses(NamedTuple):
    """Losses of each utterance in nats.

    Attributes:
        rnnt: -log P(y | x). (B,)
        kd: Distillation loss; None without a teacher. (B,)
        agreement: Agreement with the (first) teacher, a share without gradient: see
            `losses.agreement`; None without a teacher. (B,)
    """

    rnnt: torch.Tensor
    kd: Optional[torch.Tensor]
    agreement: Optional[torch.Tensor] = None


def distillation_losses(
    student: Joint,
    teacher: Union[Teacher, Teachers, None],
    labels: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    objective: Objective = DEFAULT,
    fastemit_lambda: float = 0.0,
    budget: Optional[int] = None,
) -> Losses:
    """Compute the RNN-T loss and the distillation loss of a batch.

    Neither lattice of B * T * (U + 1) * V logits is ever in memory.

    Args:
        student: The student's projected joint network.
        teacher: The teacher's; `Posteriors` of a cache; several as [(teacher, share), ...]:
            the distillation loss is then the sum of share * loss; None: no distillation.
        labels: Padded with anything in [0, V). (B, U)
        t_len: Frames of each utterance, the same for both models. (B,)
        u_len: Labels of each utterance. (B,)
        objective: Options of the distillation loss.
        fastemit_lambda: See `lattice.rnnt_loss`; the RNN-T term only.
        budget: Bytes of a chunk: see `lattice.node_stats`.

    Returns:
        Differentiable with respect to the student.

    Raises:
        ValueError: an objective that a cache cannot serve, or shapes that do not fit.
    """
    lattice = (labels, t_len, u_len)
    teachers = _with_shares(teacher)
    if not teachers:
        stats = node_stats(student, *lattice, budget=budget)  # (B, T, U + 1, 3)
        return Losses(rnnt_loss(stats[..., :2], t_len, u_len, fastemit_lambda), None)
    for each, _ in teachers:
        _check(student, each, objective)
    if objective.objective == "full_sum":
        return _full_sum(student, teachers, lattice, fastemit_lambda, budget)

    tau = objective.temperature
    hot = student.tempered(tau)
    # A divergence of the vocabulary is computed by the walk itself: a walk for each teacher.
    in_walk = objective.objective in ("full", "top_k")
    if not in_walk:
        stats = node_stats(hot, *lattice, budget=budget)
    kd: Any = 0.0  # (B,) from the first teacher on
    agrees: Optional[torch.Tensor] = None
    for each, share in teachers:
        plain = None if objective.nodes == "all" else _posteriors(each, lattice, budget)
        weight = _node_weight(each, plain, lattice, objective)  # (B, T, U + 1) or None
        if plain and tau == 1 and not in_walk and objective.frame_shift == 0:
            each = plain  # the same walk would give the same numbers
        each = _shift(each, objective.frame_shift)
        each = each.tempered(tau) if isinstance(each, Joint) else each
        if in_walk:
            assert isinstance(each, Joint)  # `_check` lets no cache in
            seen = Seen(each, labels) if agrees is None else None
            stats = node_stats(hot, *lattice, _over_tokens(each, objective, seen), budget)
            nodes = stats[..., 3]  # (B, T, U + 1)
            theirs = None if seen is None else Posteriors(seen.three)
        else:
            theirs = _posteriors(each, lattice, budget)
            nodes = collapsed_kl(stats, theirs.three, objective.divergence)  # (B, T, U + 1)
        if agrees is None and theirs is not None:
            agrees = agreement(stats, theirs.three, t_len, u_len, theirs.weight)
        reduced = reduce_nodes(nodes, t_len, u_len, objective.normalize, weight)  # (B,)
        kd = kd + share * (tau**2 * reduced)
    if tau != 1:  # the RNN-T loss is that of the other lattice
        stats = node_stats(student, *lattice, budget=budget)
    return Losses(rnnt_loss(stats[..., :2], t_len, u_len, fastemit_lambda), kd, agrees)


def _full_sum(
    student: Joint,
    teachers: Teachers,
    lattice: Lattice,
    fastemit_lambda: float,
    budget: Optional[int],
) -> Losses:
    """Compute the losses of the objective `full_sum`; see `distillation_losses`."""
    _, t_len, u_len = lattice
    stats = node_stats(student, *lattice, budget=budget)  # (B, T, U + 1, 3)
    rnnt = rnnt_loss(stats[..., :2], t_len, u_len, fastemit_lambda)  # (B,)
    kd = torch.zeros_like(rnnt)  # (B,)
    agrees: Optional[torch.Tensor] = None
    for each, share in teachers:
        three, held = _posteriors(each, lattice, budget)
        target = rnnt_loss(three[..., :2], t_len, u_len)  # (B,)
        kd = kd + share * full_sum(rnnt, target, t_len, u_len)
        if agrees is None:
            agrees = agreement(stats, three, t_len, u_len, held)
    return Losses(rnnt, kd, agrees)


def _with_shares(teacher: Union[Teacher, Teachers, None]) -> List[Tuple[Teacher, float]]:
    """The teachers that count, each with its share."""
    if teacher is None:
        return []
    if isinstance(teacher, (Joint, Posteriors)):
        return [(teacher, 1.0)]
    return [(each, share) for each, share in teacher if share > 0]


def _over_tokens(
    teacher: Joint, objective: Objective, seen: Optional[Seen]
) -> Union[FullKL, TopKKL]:
    """The divergence that a walk computes of all tokens of a node."""
    if objective.objective == "full":
        return FullKL(teacher, objective.divergence, seen)
    return TopKKL(teacher, objective.top_k, objective.divergence, seen)


def _posteriors(teacher: Teacher, lattice: Lattice, budget: Optional[int]) -> Posteriors:
    """The teacher's collapsed posteriors, cached or walked for."""
    if isinstance(teacher, Posteriors):
        return teacher
    return Posteriors(node_stats(teacher.detach(), *lattice, budget=budget))


def _node_weight(
    teacher: Teacher,
    plain: Optional[Posteriors],
    lattice: Lattice,
    objective: Objective,
) -> Optional[torch.Tensor]:
    """Return the weight of each node of the student's lattice; None: all alike. (B, T, U + 1)

    `plain` are the teacher's posteriors where the nodes are chosen by its paths.
    """
    _, t_len, u_len = lattice
    weight = teacher.weight if isinstance(teacher, Posteriors) else None
    if plain is not None:
        three, held = plain
        visits = occupancy if objective.nodes == "occupancy" else best_path
        weight = visits(three[..., :2], t_len, u_len)  # (B, T, U + 1)
        weight = weight if held is None else weight * held
    if objective.frame_shift == 0:
        return weight
    if weight is None:
        size = (
            [s.size(1) for s in (teacher.enc, teacher.dec)]
            if isinstance(teacher, Joint)
            else (teacher.three.shape[1:3])
        )
        weight = torch.ones(len(t_len), *size, device=t_len.device)
    T = weight.size(1)
    source = torch.arange(T, device=t_len.device) - objective.frame_shift  # (T,)
    inside = (source >= 0) & (source < t_len[:, None])  # (B, T): the teacher has that frame
    return weight[:, source.clamp(0, T - 1)] * inside[:, :, None]


def _shift(teacher: Teacher, shift: int) -> Teacher:
    """Move the teacher `shift` frames later; frames that it lacks repeat others."""
    if shift == 0:
        return teacher
    frames = teacher.enc if isinstance(teacher, Joint) else teacher.three
    T = frames.size(1)
    source = (torch.arange(T, device=frames.device) - shift).clamp(0, T - 1)  # (T,)
    if isinstance(teacher, Joint):
        return teacher._replace(enc=frames[:, source])
    weight = None if teacher.weight is None else teacher.weight[:, source]
    return Posteriors(frames[:, source], weight)


def _check(student: Joint, teacher: Teacher, objective: Objective) -> None:
    size = (*student.enc.shape[:2], student.dec.size(1))
    if isinstance(teacher, Posteriors):
        if objective.objective in ("full", "top_k") or objective.temperature != 1:
            raise ValueError(
                "a cache of collapsed posteriors serves 'collapsed' and 'full_sum' at temperature "
                f"1: got '{objective.objective}' at temperature {objective.temperature}"
            )
        shape = tuple(teacher.three.shape[:3])
    else:
        shape = (*teacher.enc.shape[:2], teacher.dec.size(1))
        if teacher.weight.size(0) != student.weight.size(0):
            raise ValueError(
                f"vocabularies differ: teacher {teacher.weight.size(0)}, student "
                f"{student.weight.size(0)}"
            )
    if shape != size:
        raise ValueError(f"lattices differ (B, T, U + 1): teacher {shape}, student {size}")
