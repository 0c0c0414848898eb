"""A family of nested students, trained together: `family`, which becomes ordinary stages.

family:
  name: family              # of the largest; the others are family_2, family_3, ...
  members:                  # the largest first; each a part of the one before
    - target: 0.6
    - target: 0.35
    - student: {encoder: {num_blocks: 2, hidden_size: 48}}
  epochs: 12                # of all members together
  draw: 1                   # members between that an update trains, beside largest and smallest
  in_place: 0.5             # weight of the divergence of the others from the largest
  finish: 1                 # epochs of each other member alone, taught by the largest
  objective: full           # and whatever else a stage may hold

The first stage trains all members (`methods.nested`); each of the others takes one out
(`methods.member`) and finishes it.
"""

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.errors import UserError, shown
from espnet_kd.spec.distillation import IN_STAGE
from espnet_kd.spec.named_sizes import NamedSizes, read_sizes
from espnet_kd.spec.option import Options, known_options, option
from espnet_kd.spec.reader import check_keys, read
from espnet_kd.spec.size_table import SHAPES
from espnet_kd.spec.stage import Stage, read_stage
from espnet_kd.spec.target import Target, read_target

NAME = "family"
MOST_MEMBERS = 50
SIZES = ("target", "student")
# What a family decides itself, and why a stage's own word does not stand there.
DECIDED = {
    "target": "sizes stand in 'members'",
    "student": "sizes stand in 'members'",
    "method": "a family is cut, and trained as one",
    "method_conf": "a family is trained by its own method",
    "gate": "its members are not trained one after the other; a gate beside 'stages' is for these",
    "two_modes": "its members but the largest would have one mode",
    "anneal": "its members are no steps of one schedule",
}
# Of what the largest learns, which says nothing of the others behind it.
OF_LARGEST = (
    "name", "epochs", "teacher", "init", "blocks", "units", "allocate", "curriculum",
    "first_weight", "layers", "layer_weight", "auxiliary", "auxiliary_weights",
    "auxiliary_future", "relations", "relation_weight", "encoder_weight", "frame_shift",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size(Options):
    """Size of a member: a target, or sizes by name."""

    target: Optional[Target] = option(None, "", read=read_target)
    sizes: Optional[NamedSizes] = option(None, "", key="student", read=read_sizes)


def read_members(where: str, entries: Any) -> Tuple[Size, ...]:
    """Read the sizes of members.

    Raises:
        UserError: no list of them, an unknown key, a size that is none, or two.
    """
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_MEMBERS:
        raise UserError(
            f"{where}: expected a list of sizes, the largest first ([{{target: 0.6}}, {{target: "
            f"0.3}}]), {MOST_MEMBERS} at most, found {shown(entries)}"
        )
    members = []
    for i, entry in enumerate(entries):
        size = read(Size, entry, f"{where}[{i}]", "'target' or 'student'")
        if (size.target is None) == (size.sizes is None):
            what = "neither" if size.target is None else "both"
            raise UserError(f"{where}[{i}]: needs either 'target' or 'student', found {what}")
        members.append(size)
    return tuple(members)


@dataclasses.dataclass(frozen=True)
class Family(Options):
    """What a family says beside what a stage may say.

    Attributes:
        members: Sizes of all members, the largest first.
        draw: Members between that an update trains.
        in_place: Weight of the divergence of the others from the largest.
        finish: Epochs of each other member alone.
    """

    members: Sequence[Size] = option(
        (),
        "sizes of its members, the largest first: each a `target` or a `student`, as in a stage",
        read=read_members,
        values="`[{target: 0.6}, {target: 0.3}]`",
    )
    draw: int = option(
        1,
        "how many members between are trained in an update, drawn anew for each, beside the "
        "largest and the smallest",
        least=0,
        most=MOST_MEMBERS,
    )
    in_place: float = option(
        0.5,
        "weight of the divergence of all other members from the largest, in the same update",
        least=0,
    )
    finish: int = option(
        1, "epochs that each other member is trained alone in the end, by the largest", least=1
    )


def read_family(
    where: str, entry: Any, number: int, beside: Mapping[str, Any], stages: Sequence[Stage]
) -> List[Stage]:
    """Read a family as stages.

    Args:
        where: Name of the place, for messages.
        entry: Content of the YAML.
        number: Number of its first stage in the plan, from 1.
        beside: The rest of the plan.
        stages: Stages before it.

    Raises:
        UserError: an unknown key (naming the nearest right one), a wrong value, or one that has
            no use in a family.
    """
    options = known_options(Family)
    in_stage = [key for key in known_options(Stage) if key not in DECIDED]
    for key in entry if isinstance(entry, Mapping) else ():
        if key in DECIDED:
            raise UserError(f"{where}.{key}: {DECIDED[key]}; leave it out")
    check_keys(entry, where, [*options, *in_stage, *IN_STAGE], "keys and values")
    if beside.get("gate") is not None and not stages:
        raise UserError(
            f"{where}: the plan's 'gate' is for 'stages', and there are none; leave it out"
        )
    if "members" not in entry:
        raise UserError(f"{where}: no 'members'; list their sizes, the largest first")
    family = read(Family, {key: entry[key] for key in options if key in entry}, where)
    between = max(0, len(family.members) - 2)
    check_draw(where, family.written.get("draw", 0), between)
    for key in ("in_place", "finish") if len(family.members) == 1 else ():
        if key in family.written:
            raise UserError(
                f"{where}.{key}: found {family.written[key]}, which is of the members behind the "
                "largest, and there are none; leave it out"
            )
    rest = {key: entry[key] for key in entry if key not in options}
    first: Dict[str, Any] = {"name": NAME, **rest, **family.members[0].written}
    if len(family.members) > 1:
        nested = {"members": entry["members"][1:], "draw": min(family.draw, between)}
        first["method_conf"] = {"nested": {**nested, "weight": family.in_place}}
    sizes = {key: f"{where}.members[0].{key}" for key in SIZES}
    behind = range(1, len(family.members))
    inside = {f"method_conf.nested.members[{i - 1}]": f"{where}.members[{i}]" for i in behind}
    largest = read_stage(where, number, first, None, {**sizes, **inside})
    alone = {key: rest[key] for key in rest if key not in OF_LARGEST}
    if rest.get("allocate") in tuple(SHAPES):  # what is measured is measured on the largest alone
        alone["allocate"] = rest["allocate"]
    if isinstance(alone.get("train"), Mapping):  # 'finish' is theirs
        alone["train"] = {k: v for k, v in alone["train"].items() if k != "max_epoch"}
    of_all = {key: f"{where}.{key}" for key in ("name", *alone)}
    of_all["epochs"] = f"{where}.finish"
    members = [largest]
    for i, member in enumerate(family.members[1:], 1):
        place = {
            "name": f"{largest.name}_{i + 1}",
            "method": "member",
            "method_conf": {"of": largest.name, "number": i + 1},
            "epochs": family.finish,
        }
        last = {**alone, **place, **member.written}
        members.append(read_stage(f"{where}.members[{i}]", number + i, last, None, of_all))
    return members


def check_draw(where: str, draw: int, between: int) -> None:
    """Refuse to draw more members in an update than there are to draw from.

    Args:
        where: Place in the plan.
        draw: Members to draw.
        between: Members between the largest and the smallest.

    Raises:
        UserError: there are fewer.
    """
    if draw > between:
        raise UserError(
            f"{where}.draw: found {draw}, and there are {between} members between the "
            "largest and the smallest to draw from; leave it out, or say so many at most"
        )
