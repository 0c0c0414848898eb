"""An output layer fitted to the teacher's logits before training: `refit`.

A cut leaves of `joint_network.lin_out` the columns of the units that are kept. Here it is fitted
anew (`students.output_fit`), with its bias, at the nodes of the sample's lattices, each weighted
by how often the teacher's paths visit it. That makes up for what was cut before it, too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from espnet_kd.errors import UserError
from espnet_kd.methods.additions import Addition
from espnet_kd.methods.protocol import Attached, Job, Prepared
from espnet_kd.spec.option import option

if TYPE_CHECKING:
    import torch

    from espnet_kd.lattice import Joint

OUT = "joint_network.lin_out."
SELDOM = 1e-3  # visits of a node that is passed over
BESIDE = ("tied", "cascade", "gates")


class Refit(Addition):
    """See the module."""

    name = "refit"
    kind = bool
    inherits = True
    of_cut = True
    own_schedule = True
    option = option(
        False,
        "the output layer is fitted to the teacher's logits on utterances, before training",
        published=True,
    )

    def check_stage(self, stage: Any, value: bool, where: str) -> None:
        """Refuse what makes the output layer another one's, too, and stages that cut nothing.

        Raises:
            UserError: there is such an addition, or it is such a stage.
        """
        conf = stage.method_conf
        if conf.keeps_sizes:
            raise UserError(
                f"{where}: method '{stage.method}' cuts nothing that could be made up for; leave "
                "it out, or say 'method: cut'"
            )
        for name in BESIDE:
            if getattr(conf, name, None):
                raise UserError(f"{where}: does not go with '{name}'; leave one of them out")

    def prepare(self, job: Job, prepared: Prepared, value: bool) -> Prepared:
        """Fit the output layer.

        Raises:
            UserError: there are no utterances to fit it on.
        """
        from espnet_kd.students.model_config import config_of
        from espnet_kd.students.output_fit import OutputFit

        if job.sample is None:
            raise UserError(
                f"{job.stage.at('method_conf.refit')}: is measured on utterances: name a data "
                "directory with --data, or leave it out"
            )
        assert prepared.state is not None  # `inherits`
        config = job.teacher.config
        config = {**config, **config_of(prepared.sizes, config, prepared.kept)}
        net = job.build(config)
        net.load_state_dict(prepared.state)
        fit = OutputFit(prepared.state[f"{OUT}weight"], prepared.state[f"{OUT}bias"])
        _add_nodes(fit, job, net.eval())
        fitted = fit.solve()
        layer = {f"{OUT}weight": fitted.weight, f"{OUT}bias": fitted.bias}
        error = {"before": round(fitted.before, 6), "after": round(fitted.after, 6)}
        return dataclasses.replace(
            prepared,
            state={**prepared.state, **layer},
            report={**prepared.report, "refit_error": error},
        )

    def attach(self, model: torch.nn.Module, facts: Any) -> Attached:
        """Change nothing: the student is trained as any other."""
        return Attached()


def _add_nodes(fit: Any, job: Job, net: torch.nn.Module) -> None:
    """Show the nodes of the sample to a fit."""
    import torch

    from espnet_kd.lattice import node_stats
    from espnet_kd.lattice.visits import occupancy

    job.teacher.net.eval()
    assert job.sample is not None  # as `prepare` has seen
    with torch.no_grad():
        for (teacher, student), lattice in job.sample.lattices(job.teacher.net, net):
            log_probs = node_stats(teacher, *lattice)[..., :2]  # (B, T, U + 1, 2)
            visits = occupancy(log_probs, *lattice[1:])  # (B, T, U + 1)
            for b in range(len(visits)):
                t, u = (visits[b] > SELDOM).nonzero(as_tuple=True)  # (n,), (n,)
                logits = _hidden(teacher, b, t, u) @ teacher.weight.T + teacher.bias  # (n, V)
                fit.add(_hidden(student, b, t, u), logits, visits[b, t, u])


def _hidden(joint: Joint, b: int, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return the hidden units at nodes of an utterance. (n,), (n,) -> (n, D)"""
    return joint.activated(joint.enc[b, t] + joint.dec[b, u])


ADDITION = Refit()
