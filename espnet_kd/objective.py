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

from espnet_kd.lattice import Band, Grid, Joint, Lengths, band_around
from espnet_kd.lattice.nodes import check_labels
from espnet_kd.lattice.visits import LEAST, best_path, occupancy
from espnet_kd.lattice.windows import follow
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

    def held_arcs(self) -> torch.Tensor:
        """Return log p of {blank, next label}, next to none where nothing is held.

        (B, T, U + 1, 2)
        """
        two = self.three[..., :2]
        if self.weight is None:
            return two
        return two.masked_fill((self.weight == 0)[..., None], LEAST)


Teacher = Union[Joint, Posteriors]
Teachers = Sequence[Tuple[Teacher, float]]  # each with its share of the distillation loss


class BandFacts(NamedTuple):
    """Facts of the band of a batch.

    Attributes:
        kept: Share of the teacher's occupancy inside; of a teacher on-line, unless the whole
            lattice was walked over, of the occupancy that was looked at. ()
        nodes: Share of the lattices' nodes inside. ()
        rows: Mean rows of a frame. ()
        inside: Share of the student's path mass inside, exactly; None where the whole lattice
            was not walked over. (B,)
    """

    kept: torch.Tensor
    nodes: torch.Tensor
    rows: torch.Tensor
    inside: Optional[torch.Tensor] = None


class Losses(NamedTuple):
    """Losses of each utterance in nats.

    Attributes:
        rnnt: -log P(y | x), with a band that of the paths inside. (B,)
        kd: Distillation loss; None without a teacher. (B,)
        agreement: Agreement with the (first) teacher, a share without gradient: see
            `losses.agreement`; None without a teacher, or if it was not measured. (B,)
        band: Facts of the band, without gradient; None without one.
    """

    rnnt: torch.Tensor
    kd: Optional[torch.Tensor]
    agreement: Optional[torch.Tensor] = None
    band: Optional[BandFacts] = None


def distillation_losses(
    student: Joint,
    teacher: Union[Teacher, Teachers, None],
    labels: torch.Tensor,
    t_len: torch.Tensor,
    u_len: torch.Tensor,
    objective: Objective = DEFAULT,
    fastemit_lambda: float = 0.0,
    budget: Optional[int] = None,
    measure_band: bool = False,
    measure_agreement: bool = True,
) -> Losses:
    """Compute the RNN-T loss and the distillation loss of a batch.

    Neither lattice of B * T * (U + 1) * V logits is ever in memory.

    Args:
        student: The student's projected joint network.
        teacher: The teacher's; `Posteriors` of a cache; several as [(teacher, share), ...]:
            the distillation loss is then the sum of share * loss; None: no distillation, and
            no band.
        labels: Padded with anything in [0, V). (B, U)
        t_len: Frames of each utterance, the same for both models. On a GPU the host waits for
            them once, and not if they are given on the CPU. (B,)
        u_len: Labels of each utterance. (B,)
        objective: Options of the distillation loss.
        fastemit_lambda: See `lattice.rnnt_loss`; the RNN-T term only.
        budget: Bytes of a chunk: see `lattice.node_stats`.
        measure_band: Whether the losses are of the whole lattice in spite of a band, and
            `band.inside` says what share of the student's paths the band would hold.
        measure_agreement: Whether the agreement is computed, step by step along the rows.

    Returns:
        Differentiable with respect to the student.

    Raises:
        ValueError: an objective that a cache cannot serve, options that do not go together,
            shapes that do not fit, or an activation with no right gradient.
    """
    student.check_sizes()
    size = (*student.enc.shape[:2], student.dec.size(1))
    lengths = Lengths(t_len, u_len, size, student.enc.device)
    check_labels(labels, lengths)
    whole = Grid(labels, lengths.t_len, lengths.u_len, budget, lengths=lengths)
    teachers = _with_shares(teacher)
    if not teachers:
        return Losses(whole.loss(whole.stats(student), fastemit_lambda), None)
    for each, _ in teachers:
        _check(student, each, objective)
    paths = None
    if objective.lattice == "band":
        paths = _paths(teachers[0][0], whole, objective, measure_band)
    grid = whole
    if paths is not None and not measure_band and not paths.band.is_whole:
        grid = whole.inside(paths.band)  # of all nodes the whole lattice gives the same bits
    if objective.objective == "full_sum":
        losses = _full_sum(student, teachers, grid, paths, fastemit_lambda, measure_agreement)
    else:
        losses = _by_nodes(
            student, teachers, grid, paths, objective, fastemit_lambda, measure_agreement
        )
    return losses if paths is None else losses._replace(band=_facts(losses, student, grid, paths))


def _by_nodes(
    student: Joint,
    teachers: Teachers,
    grid: Grid,
    paths: Optional["_Paths"],
    objective: Objective,
    fastemit_lambda: float,
    measure_agreement: bool,
) -> Losses:
    """Compute the losses of an objective that compares nodes; see `distillation_losses`."""
    whole, t_len, u_len = grid.inside(None), grid.t_len, grid.u_len
    tau = objective.temperature
    hot = student.tempered(tau)
    # A divergence of the vocabulary is computed by the walk itself: a walk for each teacher.
    in_walk = objective.objective in ("full", "top_k")
    if not in_walk:
        stats = grid.stats(hot)
    kd: Any = 0.0  # (B,) from the first teacher on
    agrees: Optional[torch.Tensor] = None
    for i, (each, share) in enumerate(teachers):
        known = paths if i == 0 else None
        plain = None if known is None else known.plain
        if plain is None and objective.nodes != "all":
            plain = _posteriors(each, whole)
        weight = grid.take(_node_weight(each, plain, known, whole, objective))
        if plain and tau == 1 and not in_walk and objective.frame_shift == 0:
            each = plain  # the same walk would give the same numbers
        each = _shift(each, objective.frame_shift)
        each = each.tempered(tau) if isinstance(each, Joint) else each
        if in_walk:
            assert isinstance(each, Joint)  # `_check` lets no cache in
            seen = None
            if measure_agreement and agrees is None:
                seen = Seen(each, grid.labels, u_len, grid.band)
            stats = grid.stats(hot, _over_tokens(each, objective, seen, grid.band))
            nodes = stats[..., 3]  # (B, T, U + 1) or (N,)
            theirs = None if seen is None else Posteriors(seen.three)
        else:
            theirs = _posteriors(each, grid)
            nodes = collapsed_kl(stats, theirs.three, objective.divergence)  # as above
        if measure_agreement and agrees is None and theirs is not None:
            agrees = _agreement(stats, theirs, grid, paths)
        reduced = reduce_nodes(nodes, t_len, u_len, objective.normalize, weight, grid.band)  # (B,)
        kd = kd + share * (tau**2 * reduced)
    if tau != 1:  # the RNN-T loss is that of the other lattice
        stats = grid.stats(student)
    return Losses(grid.loss(stats, fastemit_lambda), kd, agrees)


def _full_sum(
    student: Joint,
    teachers: Teachers,
    grid: Grid,
    paths: Optional["_Paths"],
    fastemit_lambda: float,
    measure_agreement: bool,
) -> Losses:
    """Compute the losses of the objective `full_sum`; see `distillation_losses`."""
    stats = grid.stats(student)  # (B, T, U + 1, 3) or (N, 3)
    rnnt = grid.loss(stats, fastemit_lambda)  # (B,)
    # FastEmit changes the gradient of the RNN-T loss, not of the distance.
    plain = rnnt if fastemit_lambda == 0 else grid.loss(stats)  # (B,)
    kd = torch.zeros_like(rnnt)  # (B,)
    agrees: Optional[torch.Tensor] = None
    for i, (each, share) in enumerate(teachers):
        theirs = _posteriors(paths.plain if paths is not None and i == 0 else each, grid)
        target = grid.loss(theirs.three)  # (B,)
        kd = kd + share * full_sum(plain, target, grid.t_len, grid.u_len)
        if measure_agreement and agrees is None:
            agrees = _agreement(stats, theirs, grid, paths)
    return Losses(rnnt, kd, agrees)


class _Paths(NamedTuple):
    """The paths of the teacher that a band is made around.

    Attributes:
        plain: Its posteriors, in the band at least.
        visits: Probability that a path visits a node, exact where the whole lattice was walked
            over or is in a cache; else of the paths among the nodes that were looked at.
            (B, T, U + 1)
        best: One on the best path, else zero. (B, T, U + 1)
        band: The band.
    """

    plain: Posteriors
    visits: torch.Tensor
    best: torch.Tensor
    band: Band


def _paths(teacher: Teacher, whole: Grid, objective: Objective, measure: bool) -> _Paths:
    """Find out where the teacher's paths go: in all of the lattice only if it is to be measured.

    A teacher on-line is asked where its paths run alone, and a cached one has been asked before.
    """
    lengths, limits = (whole.t_len, whole.u_len), (objective.band_kept, objective.band_rows)
    band = None
    if isinstance(teacher, Joint):
        grid = whole.labels, *lengths, whole.budget
        walked = follow(teacher.detach(), *grid, lengths=whole.lengths)
        best = best_path(walked.arcs(), *lengths)  # (B, T, U + 1)
        band = band_around(walked.visits, best, *lengths, *limits, known=walked.inside)
        # A band of all nodes is to give the whole lattice's bits.
        if band.is_whole or not band.is_known:
            band = None
        elif not measure:
            return _Paths(Posteriors(walked.three), walked.visits, best, band)
    plain = _posteriors(teacher, whole)
    two = plain.held_arcs()
    visits = occupancy(two, *lengths, whole.lengths)  # (B, T, U + 1)
    best = best_path(two, *lengths)  # (B, T, U + 1)
    if band is None:
        band = band_around(visits, best, *lengths, *limits)
    return _Paths(plain, visits, best, band)


@torch.no_grad()
def _facts(losses: Losses, student: Joint, grid: Grid, paths: _Paths) -> BandFacts:
    """Tell how much a band holds, of the student's paths too if the whole lattice was walked."""
    visits, band = paths.visits, paths.band
    nodes = (grid.t_len * (grid.u_len + 1)).sum()  # ()
    inside = None
    if grid.band is None and band.is_whole:
        inside = torch.ones_like(losses.rnnt)  # (B,)
    elif grid.band is None:
        banded = grid.inside(band)
        # Walking over the band again costs little beside what was done.
        inside = (losses.rnnt - banded.loss(banded.stats(student))).exp().clamp_max(1.0)  # (B,)
        inside = inside.nan_to_num(0.0)  # neither the band nor the lattice has a path
    return BandFacts(
        band.take(visits).sum() / visits.sum(),
        len(band.place) / nodes,
        len(band.place) / grid.t_len.sum(),
        inside,
    )


def _agreement(
    stats: torch.Tensor, theirs: Posteriors, grid: Grid, paths: Optional[_Paths]
) -> torch.Tensor:
    """Compute the agreement on the nodes that count. (B,)"""
    path = None
    if grid.band is not None:
        assert paths is not None  # a band is made around them
        path = grid.band.take(paths.best)  # (N,)
    return agreement(stats, theirs.three, grid.t_len, grid.u_len, theirs.weight, grid.band, path)


def _with_shares(teacher: Union[Teacher, Teachers, None]) -> List[Tuple[Teacher, float]]:
    """The teachers that count, each with its share."""
    if teacher is None:
        return []
    if isinstance(teacher, (Joint, Posteriors)):
        return [(teacher, 1.0)]
    return [(each, share) for each, share in teacher if share > 0]


def _over_tokens(
    teacher: Joint, objective: Objective, seen: Optional[Seen], band: Optional[Band]
) -> Union[FullKL, TopKKL]:
    """The divergence that a walk computes of all tokens of a node."""
    if objective.objective == "full":
        return FullKL(teacher, objective.divergence, seen)
    return TopKKL(teacher, objective.top_k, objective.divergence, seen, band)


@torch.no_grad()
def _posteriors(teacher: Teacher, grid: Grid) -> Posteriors:
    """The teacher's collapsed posteriors at the nodes that count, cached or walked for."""
    if isinstance(teacher, Posteriors):
        three = grid.take(teacher.three)
        assert three is not None
        return Posteriors(three, grid.take(teacher.weight))
    return Posteriors(grid.stats(teacher.detach()))


def _node_weight(
    teacher: Teacher,
    plain: Optional[Posteriors],
    paths: Optional[_Paths],
    whole: Grid,
    objective: Objective,
) -> Optional[torch.Tensor]:
    """Return the weight of each node of the student's lattice; None: all alike. (B, T, U + 1)

    `plain` are the teacher's posteriors where the nodes are chosen by its paths, and `paths`
    the paths themselves where they are known.
    """
    t_len, u_len = whole.t_len, whole.u_len
    weight = teacher.weight if isinstance(teacher, Posteriors) else None
    if objective.nodes != "all":
        assert plain is not None
        held = plain.weight
        if paths is not None:
            weight = paths.visits if objective.nodes == "occupancy" else paths.best
        else:
            two = plain.three[..., :2]
            if objective.nodes == "occupancy":
                weight = occupancy(two, t_len, u_len, whole.lengths)  # (B, T, U + 1)
            else:
                weight = best_path(two, t_len, u_len)  # (B, T, U + 1)
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
    clash = objective.clash()
    if clash is not None:
        raise ValueError(": ".join(clash))
    size = (*student.enc.shape[:2], student.dec.size(1))
    if isinstance(teacher, Posteriors):
        if objective.objective in ("full", "top_k") or objective.temperature != 1:
            raise ValueError(
                "a cache of collapsed posteriors serves 'collapsed' and 'full_sum' at temperature "
                f"1: got '{objective.objective}' at temperature {objective.temperature}"
            )
        shape = tuple(teacher.three.shape[:3])
        if teacher.weight is not None and tuple(teacher.weight.shape) != shape:
            raise ValueError(
                f"a cache of nodes {shape} has weights of {tuple(teacher.weight.shape)}; each "
                "node needs one"
            )
    else:
        teacher.check_sizes()
        teacher.check_activation()  # a walk of a divergence looks at it twice, too
        shape = (*teacher.enc.shape[:2], teacher.dec.size(1))
        if teacher.weight.size(0) != student.weight.size(0):
            raise ValueError(
                f"vocabularies differ: teacher {teacher.weight.size(0)}, student "
                f"{student.weight.size(0)}"
            )
    if shape != size:
        raise ValueError(f"lattices differ (B, T, U + 1): teacher {shape}, student {size}")
