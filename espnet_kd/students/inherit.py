"""A student's first weights, cut out of its teacher's.

Kept layers as in DistilBERT (Sanh et al. 2019, arXiv 1910.01108); kept units by a score of
their weights, chosen once for each set of units so that every layer that shares the residual
stream keeps the same channels. What is narrowed between two linear maps is not cut but
factored anew (`factors`): the label embedding with what reads it, and the values of each
attention head with its output.
"""

import re
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import torch

from espnet_kd.students.architecture import Architecture
from espnet_kd.students.averaged import averaged_teacher
from espnet_kd.students.axes import axis_roles, block_number, rename_block
from espnet_kd.students.factors import narrow_product
from espnet_kd.students.importance import weight_scores
from espnet_kd.students.predictors import PREDICTORS
from espnet_kd.students.stateless import EMBED, stateless_teacher

State = Dict[str, torch.Tensor]
Index = Dict[str, torch.Tensor]  # units that are kept, by role
# Makers of another kind of predictor, by the teacher's kind and the student's.
CONVERSIONS = {
    ("rnn", "stateless"): stateless_teacher,
    ("rnn", "averaged"): averaged_teacher,
    ("stateless", "averaged"): averaged_teacher,
}


def inherit(
    teacher_state: Mapping[str, torch.Tensor],
    teacher: Architecture,
    student: Architecture,
    kept: List[int],
    causal: bool = True,
    scores: Optional[Mapping[str, torch.Tensor]] = None,
) -> State:
    """Cut the student's state dict out of the teacher's.

    With equal sizes and a subset of the blocks the student computes exactly what the
    teacher computes with its other blocks left out.

    Args:
        teacher_state: The teacher's state dict.
        teacher: The teacher's sizes.
        student: The student's sizes, none larger.
        kept: The teacher's block for each of the student's blocks.
        causal: Whether depthwise convolutions see the past only (streaming models).
        scores: Importance of each element of a parameter, by the parameter's name; a
            unit has the sum of its elements. By default the squared weights
            (`importance.weight_scores`).

    Returns:
        State dict of the student, every tensor a copy.
    """
    if scores is None:
        scores = weight_scores(teacher_state)
    teacher = teacher.with_blocks(kept)
    if teacher.decoder != student.decoder:
        convert = CONVERSIONS[teacher.decoder, student.decoder]
        teacher_state, teacher = convert(teacher_state, teacher, student)
        shapes = {name: t.shape for name, t in teacher_state.items()}
        scores = {name: s for name, s in scores.items() if s.shape == shapes.get(name)}
    state = with_kept_blocks(teacher_state, kept)
    layers = PREDICTORS[teacher.decoder].layers(teacher)
    index = _kept_units(with_kept_blocks(scores, kept), teacher, student, layers)
    cut = {name: cut_units(name, t, index, layers, causal) for name, t in state.items()}
    if student.embed_size < teacher.embed_size:
        cut.update(_embedding(state, index, student.embed_size, layers))
    d_t, d_s = (size.hidden_size // size.heads for size in (teacher, student))
    if d_s != d_t:
        for b in range(student.num_blocks):
            keep_temperature(cut, b, (d_s / d_t) ** 0.5)
    if d_s < d_t:
        for b in range(student.num_blocks):
            cut.update(_values(state, index, b, teacher, student))
    return cut


def cut_alike(
    tensors: Mapping[str, torch.Tensor],
    teacher_state: Mapping[str, torch.Tensor],
    teacher: Architecture,
    student: Architecture,
    kept: List[int],
    causal: bool = True,
    scores: Optional[Mapping[str, torch.Tensor]] = None,
) -> State:
    """Cut other tensors of the parameters' shapes, such as moments, as `inherit` cuts these.

    Args:
        tensors: Tensors by the name of the parameter.
        teacher_state: See `inherit`, as all that follows.
        teacher: The teacher's sizes.
        student: The student's sizes, with the same kind of predictor.
        kept: The teacher's block for each of the student's blocks.
        causal: Whether depthwise convolutions see the past only.
        scores: Importance of each element of a parameter.

    Returns:
        Copies, of the parameters that are plain parts of the teacher's. What is factored anew or
        scaled where it is narrowed (label embedding, values and queries of attention) is left out.
    """
    inherited = inherit(teacher_state, teacher, student, kept, causal, scores)
    whole = teacher.with_blocks(kept)
    layers = PREDICTORS[whole.decoder].layers(whole)
    scored = weight_scores(teacher_state) if scores is None else scores
    index = _kept_units(with_kept_blocks(scored, kept), whole, student, layers)
    weights = with_kept_blocks(teacher_state, kept)
    return {
        name: cut_units(name, tensor, index, layers, causal)
        for name, tensor in with_kept_blocks(tensors, kept).items()
        if torch.equal(cut_units(name, weights[name], index, layers, causal), inherited[name])
    }


def with_kept_blocks(tensors: Mapping[str, torch.Tensor], kept: Sequence[int]) -> State:
    """Renumber the blocks that are kept; leave out the others."""
    state: State = {}
    for name, tensor in tensors.items():
        block = block_number(name)
        if block is None:
            state[name] = tensor
        for new, old in enumerate(kept):
            if block == old:
                state[rename_block(name, new)] = tensor
    return state


def _kept_units(scores: State, t: Architecture, s: Architecture, layers: int) -> Index:
    """Choose the units of every role that shrinks. Indices are sorted: order is kept."""
    sizes = role_sizes(t, s, layers)
    taps = {role: pair for role, pair in sizes.items() if role.startswith("taps")}
    sizes = {role: pair for role, pair in sizes.items() if role not in taps}
    whole = {role: size for role, (size, _) in sizes.items()}
    total = unit_scores(scores, whole, layers, t.front_end_bins)
    index = {
        role: total[role].topk(after).indices.sort().values  # (after,)
        for role, (before, after) in sizes.items()
        if after < before and not role.startswith("att")
    }
    if "hidden" in index or s.heads < t.heads:
        for b in range(s.num_blocks):
            units = _attention_units(total[f"att{b}"], t, s)  # (heads, d_k)
            index[f"att{b}"], index[f"att{b}/heads"] = units.flatten(), units
    if "hidden" in index:
        index["frequency"] = frequencies(t.hidden_size, s.hidden_size)
    for role, (before, after) in taps.items():
        if after < before:
            index[role] = torch.tensor([before, after])  # (2,), see `cut_units`
    return with_copies(index, t)


def role_sizes(t: Architecture, s: Architecture, layers: int) -> Dict[str, Tuple[int, int]]:
    """Return how many units of each role the teacher has, and the student.

    Args:
        t: The teacher's sizes, with as many blocks as the student.
        s: The student's sizes.
        layers: Layers of the predictor.
    """
    sizes: Dict[str, Tuple[int, int]] = {}
    for axis in t.axes:
        for role in axis.roles:
            number = 1 if "{}" not in role else layers if role == "rnn{}" else s.num_blocks
            for n in range(number):
                b = n if axis.per_block else 0
                sizes[role.format(n)] = t.size_of(axis, b), s.size_of(axis, b)
    return sizes


def with_copies(index: Index, t: Architecture) -> Index:
    """Add the roles that hold units of others several times.

    Args:
        index: Units by role.
        t: Sizes of the model that they are units of.
    """
    index = dict(index)
    if "c2" in index:
        bins = torch.arange(t.front_end_bins)
        index["c2*bins"] = (index["c2"][:, None] * t.front_end_bins + bins).flatten()
    for copies, (role, number) in PREDICTORS[t.decoder].copies(t).items():
        if role in index:
            index[copies] = torch.cat([index[role] + n * t.decoder_size for n in range(number)])
    for role in [role for role in index if role.startswith("conv")]:
        conv = index[role]
        index[f"2*{role}"] = torch.cat([conv, conv + t.hidden_size])  # value, then gate
    return index


def frequencies(whole: int, width: int) -> torch.Tensor:
    """Choose the sinusoids of a position for a smaller width. (width,)

    Those of another width have other frequencies: equal or next higher ones are taken.
    """
    pair = torch.arange(width // 2) * whole // width
    return (2 * pair[:, None] + torch.arange(2)).flatten()  # sine, cosine


def _attention_units(score: torch.Tensor, t: Architecture, s: Architecture) -> torch.Tensor:
    """Keep the best heads, and in each its best dimensions.

    Fewer heads than the width asks for have more dimensions than the teacher's: the best
    ones of the heads that go fill them up.

    Args:
        score: Importance of every unit. (heads * d_k of the teacher,)
        t: The teacher's sizes.
        s: The student's.

    Returns:
        Units of each of the student's heads. (heads, d_k)
    """
    d_t, d_s = t.hidden_size // t.heads, s.hidden_size // s.heads
    of_heads = score.view(t.heads, d_t)
    heads = of_heads.sum(1).topk(s.heads).indices.sort().values  # (heads,)
    dims = of_heads[heads].topk(min(d_t, d_s), dim=1).indices.sort(dim=1).values
    units = heads[:, None] * d_t + dims  # (heads, min(d_t, d_s))
    if d_s > d_t:
        rest = score.clone()
        rest[units.flatten()] = -1.0
        more = rest.topk(s.heads * (d_s - d_t)).indices.sort().values
        units = torch.cat([units, more.view(s.heads, -1)], dim=1)
    return units


def unit_scores(scores: State, sizes: Mapping[str, int], layers: int, bins: int) -> State:
    """Sum the scores of every unit of every role.

    Args:
        scores: Scores by parameter.
        sizes: Units of each role.
        layers: Layers of the predictor.
        bins: Feature bins behind the front end.
    """
    total: State = {role: torch.zeros(size, dtype=torch.double) for role, size in sizes.items()}
    for name, score in scores.items():
        for axis, role in enumerate(axis_roles(name, score.dim(), layers) or []):
            if role is None:
                continue
            others = [i for i in range(score.dim()) if i != axis]
            sums = score.double().cpu()
            sums = sums.sum(dim=others) if others else sums  # (size of the axis,)
            if role == "c2*bins":
                role, sums = "c2", sums.view(-1, bins).sum(1)
            elif role not in sizes:
                # Roles made of several copies of another: 2*conv, gates*rnn.
                role = re.sub(r"^\w+\*", "", role)
                sums = sums.view(-1, sizes[role]).sum(0) if role in sizes else sums
            if role in sizes:
                total[role] += sums
    return total


def cut_units(
    name: str, tensor: torch.Tensor, index: Index, layers: int, causal: bool
) -> torch.Tensor:
    """Keep the chosen units along every axis; differentiable.

    Args:
        name: Name of the parameter.
        tensor: The parameter, or what has its shape.
        index: Units that are kept, by role; of other roles all are.
        layers: Layers of the predictor.
        causal: Whether depthwise convolutions see the past only.
    """
    roles = axis_roles(name, tensor.dim(), layers)
    if roles is None:
        return tensor.clone()
    for axis, role in enumerate(roles):
        if role not in index:
            continue
        if role.startswith("taps"):
            before, after = index[role].tolist()
            # A causal kernel's last tap is the present frame; else the middle one is.
            first = before - after if causal else (before - after) // 2
            tensor = tensor.narrow(axis, first, after)
        elif index[role].dim() == 2:  # (heads, d_k): both axes at once
            return tensor.flatten()[index[role].to(tensor.device)]
        else:
            tensor = tensor.index_select(axis, index[role].to(tensor.device))
    return tensor.clone()


def _embedding(state: State, index: Index, width: int, layers: int) -> State:
    """Factor the label embedding and all that reads it to a smaller width."""
    readers = (
        "decoder.rnn.0.weight_ih_l0",
        "decoder.position.weight",
        "decoder.output.weight",
        "joint_network.lin_dec.weight",
        "lm_lin.weight",
    )
    cut = {
        name: cut_units(name, state[name], index, layers, True)  # (outputs, E)
        for name in readers
        if name in state and "embed" in (axis_roles(name, 2, layers) or ())
    }
    embed, right = narrow_product(state[EMBED], torch.cat(list(cut.values())).T, width)
    parts = right.T.split([w.size(0) for w in cut.values()])
    return {EMBED: embed, **{name: part.clone() for name, part in zip(cut, parts)}}


def keep_temperature(state: State, block: int, factor: float) -> None:
    """Make up for attention's division by the root of d_k, which has changed.

    Args:
        state: The student's weights, changed in place.
        block: Number of the block.
        factor: Root of the new d_k over the old one.
    """
    prefix = f"encoder.encoders.blocks.{block}.self_att."
    for name in ("linear_q.weight", "linear_q.bias", "pos_bias_u", "pos_bias_v"):
        state[prefix + name] *= factor


def _values(state: State, index: Index, block: int, t: Architecture, s: Architecture) -> State:
    """Factor each head's values and its part of the output to fewer dimensions.

    Attention weights sum to one, so what the values' bias adds to the output is a constant:
    it goes into the output's bias whole.
    """
    prefix = f"encoder.encoders.blocks.{block}.self_att."
    others = {"hidden": index["hidden"]} if "hidden" in index else {}
    v, bias, out, out_bias = (
        cut_units(prefix + name, state[prefix + name], others, 0, True)
        for name in ("linear_v.weight", "linear_v.bias", "linear_out.weight", "linear_out.bias")
    )
    d_t, d_s = t.hidden_size // t.heads, s.hidden_size // s.heads
    heads = index[f"att{block}"].view(s.heads, d_s)[:, 0] // d_t  # the teacher's, kept
    pairs = [
        narrow_product(out[:, h * d_t : (h + 1) * d_t], v[h * d_t : (h + 1) * d_t], d_s)
        for h in heads.tolist()
    ]
    units = (heads[:, None] * d_t + torch.arange(d_t)).flatten()
    return {
        prefix + "linear_out.weight": torch.cat([left for left, _ in pairs], dim=1),
        prefix + "linear_v.weight": torch.cat([right for _, right in pairs]),
        prefix + "linear_v.bias": torch.zeros_like(bias[: s.hidden_size]),
        prefix + "linear_out.bias": out_bias + out[:, units] @ bias[units],
    }
