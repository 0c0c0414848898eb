"""Units that learn whether they stay: `gates`, and sizes of them: `allocate: learned`.

A student is trained with a gate on each feed-forward unit, channel of the front end, predictor
unit and joint unit (`students/hard_concrete.py`), its weights and gates together. Of its updates

    the first 30 %   lower the expected size from the whole student's to the target,
    up to 70 %       are trained at the target,
    the rest         with gates that are open or closed, as the student will be cut.

What is decoded has zeros in the place of closed units, so that stock ESPnet computes what was
trained. A next stage of `cut` with `allocate: learned` leaves them out, which changes nothing.

Width and depth have no gates: norms and positions of a narrower conformer are others, so that no
smaller model of ESPnet's computes what one with closed channels does. `student` names them.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any, Dict, Mapping

from espnet_kd.errors import UserError
from espnet_kd.methods.additions import Addition, with_facts
from espnet_kd.methods.callbacks import Callback, Run
from espnet_kd.methods.computed_weights import compute_weights
from espnet_kd.methods.protocol import Attached, Job, Prepared
from espnet_kd.spec.option import option
from espnet_kd.spec.target import Target, parse_target

if TYPE_CHECKING:
    import torch

    from espnet_kd.methods.protocol import State
    from espnet_kd.students.architecture import Architecture

SAVED = "kd_gates.theta"
RAMP, HARD = 0.3, 0.7  # shares of the updates


def read_gates(where: str, value: Any) -> Target:
    """Return the size that is left.

    Raises:
        UserError: no size, or one in bytes.
    """
    target = parse_target(value, where)
    if target.bytes is not None:
        raise UserError(f"{where}: expected a share or a number of parameters, found {target}")
    return target


class GatesAddition(Addition):
    """See the module."""

    name = "gates"
    kind = Target
    inherits = True
    decodes_averages = True
    own_schedule = True
    option = option(
        None,
        "parameters that are left, or their share of the first teacher's, when units whose gates "
        "close are cut; a next stage with `allocate: learned` cuts them",
        read=read_gates,
        values="`0.08`, `100000`",
        published=True,
    )

    def check_stage(self, stage: Any, value: Target, where: str) -> None:
        """Refuse ties to what is cut apart.

        Raises:
            UserError: that is so.
        """
        if getattr(stage.method_conf, "tied", False):
            raise UserError(f"{where}: does not go with 'tied', whose widths stay equal")

    def prepare(self, job: Job, prepared: Prepared, value: Target) -> Prepared:
        """Sort the student's units and lay open gates beside."""
        from espnet_kd.students.hard_concrete import Gates, in_order, sized

        sizes, where = prepared.sizes, job.stage.at("method_conf.gates")
        params = value.params(job.first.params)
        if params >= sizes.params:
            raise UserError(
                f"{where}: {params:,} parameters are not fewer than the student's {sizes.params:,}"
            )
        gates = Gates(sizes, params)
        least = sized(sizes, dict.fromkeys(gates.names, 1)).params
        if params < least:
            raise UserError(
                f"{where}: {params:,} parameters are fewer than the {least:,} that stay whatever "
                "closes; name a smaller 'student'"
            )
        assert prepared.state is not None  # it inherits
        state = {**in_order(prepared.state, sizes), SAVED: gates.theta.detach().clone()}
        plain = {key: _plain(x) for key, x in dataclasses.asdict(sizes).items()}
        facts = {"target": params, "sizes": plain}
        return with_facts(prepared, self.name, facts, state=state, alike=None)

    def attach(self, model: torch.nn.Module, facts: Mapping[str, Any]) -> Attached:
        """Put the gates on the matrices that read the units."""
        from espnet_kd.students.hard_concrete import GatedInputs, readers

        sizes, gates = _gates(facts)
        names = {name for name, _ in model.named_parameters()}
        gated = {name: how for name, how in readers(sizes).items() if name in names}
        compute_weights(model, {name: GatedInputs(gates, *how) for name, how in gated.items()})
        model.kd_gates = gates

        def draw(module: torch.nn.Module, inputs: Any) -> None:
            if module.training:
                gates.draw()

        def load(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
            # An exported state has no gates any more: its zeros are in the weights.
            state.setdefault(SAVED, gates.theta.detach().clone())

        model.register_forward_pre_hook(draw)
        model.register_load_state_dict_pre_hook(load)
        return Attached(callbacks=[Schedule(gates)], rests=True)  # what is closed learns no more

    def export(self, state: State, facts: Mapping[str, Any]) -> State:
        """Close the gates for good."""
        from espnet_kd.students.hard_concrete import closed

        sizes, gates = _gates(facts)
        if SAVED not in state:  # they are closed
            return state
        gates.theta.data.copy_(state[SAVED])
        return closed(state, gates.masks(), sizes)


class Schedule(Callback):
    """Lowers the budget, and closes the gates in the end.

    Args:
        gates: The gates.
    """

    def __init__(self, gates: Any) -> None:
        self.gates = gates

    def on_update(self, run: Run, update: int) -> None:
        """Set budget and form of the gates for an update."""
        done = update / run.updates if run.updates else 0.0
        whole, target = self.gates.model.params, self.gates.target
        self.gates.budget = whole - (whole - target) * min(1.0, max(done, 0.02) / RAMP)
        self.gates.hard = done >= HARD

    def on_epoch(self, run: Run, epoch: int) -> None:
        """Say what would stay."""
        sizes: Architecture = self.gates.sizes()
        logging.info(f"gates after epoch {epoch}: {sizes.params:,} parameters, {sizes.in_words()}")


def _gates(facts: Mapping[str, Any]) -> Any:
    """Return sizes and gates of the facts."""
    from espnet_kd.students.architecture import Architecture
    from espnet_kd.students.hard_concrete import Gates

    sizes = Architecture(**facts["sizes"])
    return sizes, Gates(sizes, facts["target"])


def _plain(size: Any) -> Any:
    return list(size) if isinstance(size, tuple) else size


ADDITION = GatesAddition()
