"""Members of a family in one another: the first units of each role, of units in order of rank.

The largest member's units are sorted once, so that a smaller member has the first n of each role,
and of each role no others than the next larger one: sets are nested by what they are. Its blocks
are chosen among that one's. So a member's weights are parts of the largest one's, apart from the
factor that makes up for another width of the attention heads.
"""

from typing import List, Mapping, NamedTuple, Sequence

import torch

from espnet_kd.errors import UserError
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.inherit import (
    Index,
    State,
    cut_units,
    frequencies,
    keep_temperature,
    role_sizes,
    unit_scores,
    with_copies,
    with_kept_blocks,
)
from espnet_kd.students.predictors import PREDICTORS


class Member(NamedTuple):
    """A member of a family.

    Attributes:
        sizes: Sizes of the member.
        kept: The largest member's block for each of its blocks.
    """

    sizes: Architecture
    kept: Sequence[int]


def check_nests(larger: Architecture, smaller: Architecture, where: str) -> None:
    """Refuse a member that is no part of the next larger one.

    Args:
        larger: Sizes of the next larger member.
        smaller: Sizes of the member.
        where: Name of the place in the plan, for messages.

    Raises:
        UserError: it has another predictor, wider attention heads, or is not smaller.
    """
    if smaller.decoder != larger.decoder:
        raise UserError(
            f"{where}: a predictor of type '{smaller.decoder}' is no part of the next larger "
            f"member's '{larger.decoder}'; all members have predictors of one type"
        )
    widths = [model.hidden_size // model.heads for model in (smaller, larger)]
    if widths[0] > widths[1]:
        raise UserError(
            f"{where}: attention heads of {widths[0]} channels ({smaller.hidden_size} / "
            f"{smaller.heads}) are no part of those of {widths[1]} ({larger.hidden_size} / "
            f"{larger.heads}) of the next larger member; name more heads, or a smaller width"
        )
    if smaller.params >= larger.params:
        raise UserError(
            f"{where}: {smaller.params:,} parameters are not fewer than the {larger.params:,} of "
            "the next larger member"
        )


def in_order_of_rank(
    state: Mapping[str, torch.Tensor], model: Architecture, scores: Mapping[str, torch.Tensor]
) -> State:
    """Sort the units of each role, the best first: the same function.

    Args:
        state: Weights.
        model: Their sizes.
        scores: Importance of each element of a parameter; a unit has the sum of its elements.
    """
    layers = PREDICTORS[model.decoder].layers(model)
    units = {role: size for role, (size, _) in role_sizes(model, model, layers).items()}
    units = {r: n for r, n in units.items() if not r.startswith("taps")}
    units["embed"] = model.embed_size
    total = unit_scores(dict(scores), units, layers, model.front_end_bins)
    index: Index = {}
    for role, score in total.items():
        if not role.startswith("att"):
            index[role] = score.argsort(descending=True, stable=True)  # (units,)
            continue
        of_heads = score.view(model.heads, -1)  # (heads, d_k)
        heads = of_heads.sum(1).argsort(descending=True, stable=True)  # (heads,)
        dims = of_heads[heads].argsort(dim=1, descending=True, stable=True)  # (heads, d_k)
        places = heads[:, None] * of_heads.size(1) + dims  # (heads, d_k)
        index[role], index[f"{role}/heads"] = places.flatten(), places
    index = with_copies(index, model)
    return {name: cut_units(name, t, index, layers, True) for name, t in state.items()}


def member_units(whole: Architecture, members: Sequence[Member]) -> List[Index]:
    """Return the units of each member, by role, in the largest member.

    Args:
        whole: Sizes of the largest member.
        members: All others, each smaller than the one before.

    Returns:
        Units of the roles that are smaller than the largest one's. Blocks have the member's
        numbers.
    """
    # Positions of a width between come from that width: then they are nested, too.
    position, width = torch.arange(whole.hidden_size), whole.hidden_size  # (D,)
    units: List[Index] = []
    for sizes, kept in members:
        layers = PREDICTORS[sizes.decoder].layers(sizes)
        largest = whole.with_blocks(kept)
        index: Index = {}
        for role, (before, after) in role_sizes(largest, sizes, layers).items():
            if role.startswith("taps"):
                if after < before:
                    index[role] = torch.tensor([before, after])  # (2,), see `cut_units`
            elif after < before and not role.startswith("att"):
                index[role] = torch.arange(after)  # (units,)
        if sizes.embed_size < whole.embed_size:
            index["embed"] = torch.arange(sizes.embed_size)  # (units,)
        d_whole, d_k = (m.hidden_size // m.heads for m in (whole, sizes))
        if sizes.hidden_size < whole.hidden_size or sizes.heads < whole.heads:
            places = torch.arange(sizes.heads)[:, None] * d_whole + torch.arange(d_k)
            for b in range(sizes.num_blocks):  # places: (heads, d_k)
                index[f"att{b}"], index[f"att{b}/heads"] = places.flatten(), places
        position = position[frequencies(width, sizes.hidden_size)]  # (D of the member,)
        width = sizes.hidden_size
        if width < whole.hidden_size:
            index["frequency"] = position
        units.append(with_copies(index, whole))
    return units


def take_member(
    state: Mapping[str, torch.Tensor],
    whole: Architecture,
    member: Member,
    units: Index,
    causal: bool,
) -> State:
    """Take a member's weights out of the largest one's; differentiable.

    Args:
        state: Weights of the largest member, in order of rank.
        whole: Sizes of the largest member.
        member: The member.
        units: Units of the member (`member_units`).
        causal: Whether depthwise convolutions see the past only.
    """
    sizes, kept = member
    layers = PREDICTORS[sizes.decoder].layers(sizes)
    part = {
        name: cut_units(name, tensor, units, layers, causal)
        for name, tensor in with_kept_blocks(state, kept).items()
    }
    d_whole, d_k = (m.hidden_size // m.heads for m in (whole, sizes))
    if d_k != d_whole:
        for b in range(sizes.num_blocks):
            keep_temperature(part, b, (d_k / d_whole) ** 0.5)
    return part


def params_of_update(params: Sequence[int], draw: int) -> float:
    """Return how many parameters an update computes with, on average.

    Args:
        params: Parameters of all members, the largest first.
        draw: Members that are drawn beside the largest and the smallest.
    """
    middle = params[1:-1]
    drawn = min(draw, len(middle)) * sum(middle) / len(middle) if middle else 0.0
    return params[0] + (params[-1] if len(params) > 1 else 0) + drawn
