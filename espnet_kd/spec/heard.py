"""Options of distillation that nothing listens to, since another one is there or is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

from espnet_kd.errors import UserError, shown
from espnet_kd.spec.option import known_options

if TYPE_CHECKING:
    from espnet_kd.spec.distillation import Distillation


def check_heard(conf: Distillation, where: str) -> None:
    """Refuse options that would be passed over in silence.

    Args:
        conf: The options of a training.
        where: Name of the place, for messages.

    Raises:
        UserError: blocks without their weight, a weight without blocks, or an option that
            another one leaves nothing to do.
    """
    for key, weight in (("layers", "layer_weight"), ("relations", "relation_weight")):
        pairs, factor = getattr(conf, key), getattr(conf, weight)
        if (pairs is None) != (factor == 0):
            raise UserError(f"{where}: {key} {pairs} with {weight} {factor}: give both or neither")
    for key in ("auxiliary_weights", "auxiliary_future"):
        changed = getattr(conf, key) != known_options(type(conf))[key][0].default
        if changed and "auxiliary" not in conf.written:  # a null overrules what stands below
            raise UserError(
                f"{where}.{key}: found {shown(conf.written.get(key))} without 'auxiliary', "
                "which names the blocks; leave it out"
            )
    if conf.auxiliary is not None and conf.teacher_context != "full":
        raise UserError(
            f"{where}.auxiliary: a layer of full context needs a teacher that hears the whole "
            "utterance; say 'teacher_context: full'"
        )
    idle = _without_effect(conf) if conf.distils else None
    if idle is not None:
        key, why = idle
        raise UserError(f"{where}.{key}: found {shown(getattr(conf, key))}; {why}")


def _without_effect(conf: Distillation) -> Optional[Tuple[str, str]]:
    """Return an option that another one leaves nothing to do, and why; None: there is none.

    λ = 0 alone may be asked for: how far the student is from its teacher is measured then.
    """
    factors = [factor for _, factor in conf.weight_schedule or []]
    weights = conf.ctc_weight, conf.encoder_weight, conf.layer_weight, conf.relation_weight
    teaches_otherwise = any(weights) or conf.auxiliary is not None
    if conf.auxiliary is not None and not any(conf.auxiliary_weights):
        return "auxiliary_weights", "no loss of 'auxiliary' counts; leave both out"
    if factors and conf.weight == 0:
        return "weight_schedule", "λ is 0 throughout with 'weight: 0'; leave one of them out"
    if factors and not any(factors):
        return "weight_schedule", "λ is 0 throughout; say 'weight: 0'"
    if conf.first_weight and conf.weight == 0:
        why = "it is a share of a divergence that 'weight: 0' leaves out; leave one of them out"
        return "first_weight", why
    for key, nothing in (("first_weight", 1), ("weight", 0)):
        if conf.curriculum and getattr(conf, key) == nothing and not teaches_otherwise:
            why = f"with '{key}: {nothing}' nothing is learnt of the teacher whose epochs these "
            return "curriculum", f"{why}are; leave one of them out"
    if conf.band_rows and "band_kept" in conf.written:
        why = f"'band_rows: {conf.band_rows}' stands in its place; leave one of them out"
        return "band_kept", why
    return None
