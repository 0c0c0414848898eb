"""A student's first weights, cut out of its teacher's.

Kept layers as in DistilBERT (Sanh et al. 2019, arXiv 1910.01108); kept units by the norm of
their weights, chosen once for each set of units so that every layer that shares the residual
stream keeps the same channels.
"""

import re
from typing import Dict, List, Mapping

import torch

from espnet_kd.students.architecture import Architecture
from espnet_kd.students.axes import axis_roles, block_number, rename_block

State = Dict[str, torch.Tensor]


def spaced_blocks(teacher: int, student: int) -> List[int]:
    """Choose evenly spaced blocks; the first and the last are always among them.

    >>> spaced_blocks(12, 5)
    [0, 3, 6, 8, 11]
    """
    if student == 1:
        return [teacher - 1]
    return [int(i * (teacher - 1) / (student - 1) + 0.5) for i in range(student)]


def inherit(
    teacher_state: Mapping[str, torch.Tensor],
    teacher: Architecture,
    student: Architecture,
    kept: List[int],
    causal: bool = True,
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

    Returns:
        State dict of the student, every tensor a copy.

    Raises:
        KeyError: the teacher holds a tensor whose axes are unknown and must be cut.
    """
    state: State = {}
    for name, tensor in teacher_state.items():
        block = block_number(name)
        if block is None:
            state[name] = tensor
        for new, old in enumerate(kept):
            if block == old:
                state[rename_block(name, new)] = tensor
    layers = teacher.rnn_layers if teacher.decoder == "rnn" else 0
    index = _kept_units(state, teacher, student, layers)
    return {name: _cut(name, t, index, layers, causal) for name, t in state.items()}


def _kept_units(
    state: State, teacher: Architecture, student: Architecture, layers: int
) -> Dict[str, torch.Tensor]:
    """Choose the units of every role that shrinks. Indices are sorted: order is kept."""
    t, s = teacher, student
    sizes = {"hidden": (t.hidden_size, s.hidden_size), "joint": (t.joint_size, s.joint_size)}
    sizes["embed"] = (t.embed_size, s.embed_size)
    # A VGG-like front end has other layers, but its channels never shrink.
    sizes["c1"] = sizes["c2"] = (t.conv_size, s.conv_size)
    for n in range(layers):
        sizes[f"rnn{n}"] = (t.decoder_size, s.decoder_size)
    for b in range(s.num_blocks):
        sizes[f"ff{b}"] = sizes[f"mac{b}"] = (t.linear_size, s.linear_size)
        sizes[f"conv{b}"] = (t.hidden_size, s.hidden_size)
    energy = _energies(state, sizes, layers)
    index = {
        role: energy[role].topk(after).indices.sort().values  # (after,)
        for role, (before, after) in sizes.items()
        if after < before
    }
    if "c2" in index:
        bins = torch.arange(t.front_end_bins)
        index["c2*bins"] = (index["c2"][:, None] * t.front_end_bins + bins).flatten()
    gates = {"lstm": 4, "gru": 3}[t.rnn_type]
    for n in range(layers):
        if f"rnn{n}" in index:
            unit = index[f"rnn{n}"]
            index[f"gates*rnn{n}"] = torch.cat([unit + g * t.decoder_size for g in range(gates)])
    if "hidden" in index or s.heads < t.heads:
        index.update(_attention_units(t, s))
    if "hidden" in index:
        for b in range(s.num_blocks):
            conv = index[f"conv{b}"]
            index[f"2*conv{b}"] = torch.cat([conv, conv + t.hidden_size])  # value, then gate
        # Sinusoids of another width have other frequencies: take the teacher's nearest.
        pair = torch.arange(s.hidden_size // 2) * t.hidden_size // s.hidden_size
        index["frequency"] = (2 * pair[:, None] + torch.arange(2)).flatten()  # sine, cosine
    if s.kernel_size < t.kernel_size:
        index["taps"] = torch.tensor([t.kernel_size, s.kernel_size])  # see `_cut`
    return index


def _attention_units(t: Architecture, s: Architecture) -> Dict[str, torch.Tensor]:
    """Keep the same number of dimensions of every head that stays."""
    d_t, d_s = t.hidden_size // t.heads, s.hidden_size // s.heads
    heads, dims = torch.arange(s.heads), torch.arange(d_s) * d_t // d_s
    units = (heads[:, None] * d_t + dims).flatten()  # (heads * d_k,)
    index = {}
    for b in range(s.num_blocks):
        index[f"att{b}"], index[f"att{b}/heads"], index[f"att{b}/d_k"] = units, heads, dims
    return index


def _energies(state: State, sizes: Mapping[str, object], layers: int) -> Dict[str, torch.Tensor]:
    """Sum of squared weights of every unit of every role."""
    energy: Dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        roles = axis_roles(name, tensor.dim(), layers) or []
        # Norm layers have a weight near one for every unit: they say nothing.
        if tensor.dim() < 2:
            continue
        for axis, role in enumerate(roles):
            if role is None:
                continue
            others = [i for i in range(tensor.dim()) if i != axis]
            norm = tensor.double().square().sum(dim=others)  # (size of the axis,)
            if role not in sizes:
                # Roles made of several copies of another: 2*conv, gates*rnn.
                base = re.sub(r"^\w+\*", "", role)
                if base not in sizes or role == "c2*bins":
                    continue
                role, norm = base, norm.view(-1, sizes[base][0]).sum(0)
            energy[role] = energy.get(role, 0) + norm
    return energy


def _cut(
    name: str, tensor: torch.Tensor, index: Mapping[str, torch.Tensor], layers: int, causal: bool
) -> torch.Tensor:
    """Keep the chosen units along every axis."""
    roles = axis_roles(name, tensor.dim(), layers)
    if roles is None:
        return tensor.clone()
    for axis, role in enumerate(roles):
        if role not in index:
            continue
        if role == "taps":
            before, after = index["taps"].tolist()
            # A causal kernel's last tap is the present frame; else the middle one is.
            first = before - after if causal else (before - after) // 2
            tensor = tensor.narrow(axis, first, after)
        else:
            tensor = tensor.index_select(axis, index[role].to(tensor.device))
    return tensor.clone()
