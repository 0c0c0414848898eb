"""An addition: students in one another, trained together: `nested`, which `family` writes.

The student is the largest member. Of its units, sorted by rank once, each smaller one has the
first (`students.nested_units`), and runs as a stock ESPnet network of its own sizes whose weights
are gathered from the largest one's at each batch: so all gradients meet there. An update trains
the largest, the smallest and `draw` others, drawn anew (sandwich rule and in-place distillation
of Yu and Huang 2019, arXiv 1903.05134; transducers: arXiv 2309.01947, 2406.10160):

    L  =  L(largest)  +  sum over the others drawn of  L_RNNT  +  weight D(largest, detached)

with D the stage's divergence on the lattice, `collapsed` where the stage has none. The largest
learns from the stage's teacher, if there is one. Members have batch statistics of their own:
`kd_nested.*` in the saved form, and beside each average for the stages that take members out
(`methods.member`).
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence, Tuple

from espnet_kd.errors import UserError
from espnet_kd.methods.additions import Addition, with_facts
from espnet_kd.methods.callbacks import Callback, Run
from espnet_kd.methods.protocol import Attached, Job, Prepared, Term
from espnet_kd.spec.family_plan import MOST_MEMBERS, Size, check_draw, read_members
from espnet_kd.spec.option import Options, option
from espnet_kd.spec.reader import read
from espnet_kd.spec.size_table import RULE, SHAPES

if TYPE_CHECKING:
    import torch

    from espnet_kd.students.architecture import Architecture
    from espnet_kd.students.nested_units import Member

SAVED = "kd_nested."
PARTS = ("encoder", "decoder", "joint_network")
OF_PARTS = tuple(f"{part}." for part in PARTS)


@dataclasses.dataclass(frozen=True)
class Nested(Options):
    """The smaller members of a family; see `spec.family_plan.Family`.

    Attributes:
        members: Their sizes, the larger first.
        draw: Members that are drawn beside the smallest.
        weight: Weight of the divergence from the largest.
    """

    members: Sequence[Size] = option((), "", read=read_members)
    draw: int = option(1, "", least=0, most=MOST_MEMBERS)
    weight: float = option(0.5, "", least=0)


def read_nested(where: str, value: Any) -> Nested:
    """Read the smaller members.

    Raises:
        UserError: see `spec.reader.read`; or there is none.
    """
    nested = read(Nested, value, where, "{members: [{target: 0.3}]}")
    if not nested.members:
        raise UserError(f"{where}: no 'members'; list the smaller ones, the larger first")
    check_draw(where, nested.written.get("draw", 0), len(nested.members) - 1)
    return nested


class NestedAddition(Addition):
    """See the module."""

    name = "nested"
    kind = Nested
    of_cut = True
    own_schedule = True
    keeps = SAVED
    option = option(
        None,
        "smaller members that are trained inside the student; a plan's `family` writes it",
        read=read_nested,
        values="`{members: [{target: 0.3}], draw: 1, weight: 0.5}`",
        published=True,
    )

    def check_stage(self, stage: Any, value: Nested, where: str) -> None:
        """Refuse what changes weights in ways that members do not follow.

        Raises:
            UserError: the stage asks for it.
        """
        for other in ("tied", "predictor_dropout", "gates", "cascade"):
            if getattr(stage.method_conf, other, None):
                raise UserError(f"{where}: does not go with '{other}'")

    def prepare(self, job: Job, prepared: Prepared, value: Nested) -> Prepared:
        """Sort the student's units, and choose sizes and blocks of all members.

        Raises:
            UserError: a member cannot be a part of the one before.
        """
        from espnet_kd.students.importance import weight_scores
        from espnet_kd.students.model_config import config_of
        from espnet_kd.students.nested_units import (
            in_order_of_rank,
            member_units,
            params_of_update,
            take_member,
        )

        stage, whole = job.stage, prepared.sizes
        config = {**job.teacher.config, **config_of(whole, job.teacher.config, prepared.kept)}
        net = job.build(config)
        if list(net.joint_network.joint_activation.parameters()):
            raise UserError(
                f"{stage.where}: the joint network's activation is trained, which members of a "
                "family cannot share; take joint_activation_type: tanh"
            )
        members = _members(job, prepared, value)
        state = prepared.state
        if state is not None:
            state, scores = dict(state), weight_scores(state)
            if stage.units != "weight":
                assert job.sample is not None  # or its cutter has refused the stage
                net.load_state_dict(state)
                scores = job.sample.taylor(net, by_change=stage.units == "taylor_change")
            ranked = in_order_of_rank(state, whole, scores)
            state, causal = dict(ranked), job.teacher.causal
            for i, (member, units) in enumerate(zip(members, member_units(whole, members))):
                part = take_member(ranked, whole, member, units, causal)
                state.update({f"{SAVED}{i}.{k}": part[k] for k in statistics_of(net, part)})
        params = [whole.params, *(member.sizes.params for member in members)]
        facts = {
            "whole": plain(whole),
            "causal": job.teacher.causal,
            "draw": value.draw,
            "weight": value.weight,
            "members": [
                {
                    "sizes": plain(member.sizes),
                    "kept": list(member.kept),
                    **job.overruled(config_of(member.sizes, config, member.kept)),
                }
                for member in members
            ],
        }
        report = {
            **prepared.report,
            "members": params,
            "update_params": params_of_update(params, value.draw),
        }
        return with_facts(prepared, self.name, facts, state=state, report=report, alike=None)

    def attach(self, model: torch.nn.Module, facts: Mapping[str, Any]) -> Attached:
        """Build the members' networks, without weights of their own."""
        import torch

        whole, members = members_of(facts)
        networks = [_network(model, whole, conf) for conf in facts["members"]]
        saved = model.kd_nested = torch.nn.ModuleList(networks)

        def load(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
            # An average of an earlier, shorter training is exported already: it has none of them.
            for name, tensor in saved.state_dict(prefix=SAVED).items():
                state.setdefault(name, tensor)

        model.register_load_state_dict_pre_hook(load)
        term = MembersLoss(facts, whole, members)
        return Attached([term], [term])


def _members(job: Job, prepared: Prepared, value: Nested) -> List[Member]:
    """Decide sizes and blocks of the members, each from the one before."""
    from espnet_kd.students.checkpoint_size import NOTHING, for_target
    from espnet_kd.students.importance import most_important
    from espnet_kd.students.nested_units import Member, check_nests

    scores = (prepared.report.get("importance") or {}).get(job.stage.blocks)
    largest = list(range(prepared.sizes.num_blocks))
    members = [Member(prepared.sizes, largest)]
    for i, size in enumerate(value.members):
        before, where = members[-1], job.stage.at(f"method_conf.nested.members[{i}]")

        def choose(count: int, before: Member = before) -> Sequence[int]:
            if scores is None:
                return before.sizes.spaced(count)
            return most_important([scores[prepared.kept[b]] for b in before.kept], count)

        if size.target is not None:
            given = size.target, job.first.params, job.others or NOTHING
            shape = SHAPES.get(job.stage.allocate, RULE)
            sizes = for_target(before.sizes, *given, f"{where}.target", choose, True, shape)
        else:
            assert size.sizes is not None  # `read_members` wants one of the two
            sizes = before.sizes.with_sizes(size.sizes, f"{where}.student", choose)
        check_nests(before.sizes, sizes, where)
        kept = [before.kept[b] for b in choose(sizes.num_blocks)]
        members.append(Member(sizes, kept))
    return members[1:]


def members_of(facts: Mapping[str, Any]) -> Tuple[Architecture, List[Member]]:
    """Return the sizes of the largest member, and the others.

    Args:
        facts: Facts that `prepare` has written down.
    """
    from espnet_kd.students.architecture import Architecture
    from espnet_kd.students.nested_units import Member

    members = [Member(Architecture(**m["sizes"]), m["kept"]) for m in facts["members"]]
    return Architecture(**facts["whole"]), members


def statistics_of(net: torch.nn.Module, part: Mapping[str, Any]) -> List[str]:
    """List the tensors of a member that are not trained: batch statistics.

    Args:
        net: The largest member.
        part: Tensors of the member by name, blocks by its own numbers.
    """
    trained = {name for name, _ in net.named_parameters()}
    return [name for name in part if name.startswith(OF_PARTS) and name not in trained]


def _network(
    model: torch.nn.Module, whole: Architecture, conf: Mapping[str, Any]
) -> torch.nn.Module:
    """Build ESPnet's encoder, predictor and joint network of a member's sizes."""
    import copy

    import torch

    conf = copy.deepcopy(dict(conf))  # ESPnet writes into what it is given
    encoder, decoder, joint = (type(model.get_submodule(name)) for name in PARTS)
    with torch.random.fork_rng(devices=[]):  # weights that are drawn, and thrown away
        network = torch.nn.Module()
        network.encoder = encoder(whole.features, **conf["encoder_conf"])
        network.decoder = decoder(whole.vocab, **conf["decoder_conf"])
        widths = network.encoder.output_size, network.decoder.output_size
        network.joint_network = joint(whole.vocab, *widths, **conf["joint_network_conf"])
    for name, parameter in list(network.named_parameters()):
        place, _, weight = name.rpartition(".")
        module = network.get_submodule(place)
        delattr(module, weight)
        setattr(module, weight, parameter.detach())
    return network


def give_weights(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Let a network without parameters compute with some tensors.

    Args:
        network: See `_network`.
        weights: Tensors by name.
    """
    for name, tensor in weights.items():
        module, _, weight = name.rpartition(".")
        setattr(network.get_submodule(module), weight, tensor)


class MembersLoss(Term, Callback):
    """Losses of the members but the largest.

    Args:
        facts: Facts that `prepare` has written down.
        whole: Sizes of the largest member.
        members: The others.
    """

    name = "loss_members"

    def __init__(
        self, facts: Mapping[str, Any], whole: Architecture, members: Sequence[Member]
    ) -> None:
        from espnet_kd.students.nested_units import member_units

        self.draw, self.share, self.causal = facts["draw"], facts["weight"], facts["causal"]
        self.whole, self.members = whole, members
        self.units = member_units(whole, members)
        self.device: Any = None  # where they are
        self.seed = 0
        self.seen: Dict[str, torch.Tensor] = {}  # losses of the members of the last batch

    def on_start(self, run: Run) -> None:
        """Remember the seed of the draws."""
        self.seed = run.options.seed

    def weight(self, model: Any) -> float:
        """Return 1: its parts have their weights."""
        return 1.0

    def drawn(self, update: int) -> List[int]:
        """Choose the members of an update: the same ones when it is made again.

        Args:
            update: Number of updates made before.
        """
        between = range(len(self.members) - 1)
        chosen = random.Random(f"{self.seed} {update}").sample(
            between, min(self.draw, len(between))
        )
        return [*sorted(chosen), len(self.members) - 1]

    def value(self, out: Any) -> torch.Tensor:
        """Run the members of this update, in a validation all of them. ()"""
        import torch

        from espnet_kd.objective import distillation_losses
        from espnet_kd.students.nested_units import take_member

        model = out.model
        options = model.options.changed(
            lattice="full", band_kept=0.999, band_rows=0, frame_shift=0
        )
        if not options.distils:
            options = options.changed(objective="collapsed")
        teacher = [(out.joint.detach(), 1.0)] if self.share else None
        weights = {k: p for k, p in model.named_parameters() if k.startswith(OF_PARTS)}
        total = torch.zeros((), device=out.enc.device)  # ()
        if self.device != out.enc.device:  # taps are counted on the host
            self.device = out.enc.device
            self.units = [
                {r: x if r.startswith("taps") else x.to(self.device) for r, x in units.items()}
                for units in self.units
            ]
        self.seen = {}
        for i in self.drawn(model.updates) if model.training else range(len(self.members)):
            network = model.kd_nested[i]
            give_weights(
                network,
                take_member(weights, self.whole, self.members[i], self.units[i], self.causal),
            )
            joint = out.joint_of(network)
            t_len, u_len = out.host_lengths
            losses = distillation_losses(
                joint, teacher, out.labels, t_len, u_len, options, model.fastemit_lambda,
                measure_agreement=False,
            )  # fmt: skip
            rnnt = losses.rnnt.mean()  # ()
            total = total + model.transducer_weight * rnnt
            self.seen[f"member{i + 2}_loss_transducer"] = rnnt.detach()
            if losses.kd is not None:
                total = total + self.share * losses.kd.mean()
                self.seen[f"member{i + 2}_loss_kd"] = losses.kd.mean().detach()
        return total

    def beside(self, out: Any) -> Dict[str, torch.Tensor]:
        """Return the losses of each member that was run."""
        return self.seen


def plain(sizes: Architecture) -> Dict[str, Any]:
    """Return sizes as YAML holds them."""
    values = dataclasses.asdict(sizes)
    return {key: list(x) if isinstance(x, tuple) else x for key, x in values.items()}


ADDITION = NestedAddition()
