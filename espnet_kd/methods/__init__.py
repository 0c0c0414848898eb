"""Compression methods, one file each, and what a method is. docs/methods.md adds one.

In reading order:

    protocol   what a method is
    callbacks  events of a training
    additions  what `cut` and `retrain` may be given beside
    cut        a smaller student, cut out of its teacher
    cutter     what of the teacher it keeps
    retrain    the teacher trained on
    predictor_dropout  an addition: training without the predictor now and then
    freeze     an addition: parts that keep their weights
    tied       an addition: one matrix for label embedding and output layer
    computed_weights  weights that are functions of those that are trained
    gates      an addition: units that learn whether they stay
    cascade    an addition: blocks on top that hear more, and are a model of their own
    refit      an addition: an output layer fitted to the teacher's logits
    nested     an addition: smaller students that are trained inside
    member     such a student, taken out
    matrices   which matrices a method may be told of
    low_rank   the teacher's matrices as products of thin ones
    quantise   the teacher's weights in few bits
"""

import importlib
from typing import List

from espnet_kd.methods import cascade, freeze, gates, nested, predictor_dropout, refit, tied
from espnet_kd.methods.additions import Addition, options_with_additions
from espnet_kd.methods.low_rank import LowRankOptions
from espnet_kd.methods.member import MemberOptions
from espnet_kd.methods.protocol import Method
from espnet_kd.methods.quantise import QuantiseOptions
from espnet_kd.spec.method import DEFAULT, KeepsSizes, MethodOptions, register_method

# In the order in which they change a student; a cascade cuts it anew.
ADDITIONS: List[Addition] = [
    cascade.ADDITION,
    tied.ADDITION,
    predictor_dropout.ADDITION,
    freeze.ADDITION,
    gates.ADDITION,
    refit.ADDITION,  # before what members are parts of
    nested.ADDITION,
]

register_method(DEFAULT, options_with_additions(MethodOptions))
register_method("retrain", options_with_additions(KeepsSizes))
register_method("member", MemberOptions)
register_method("low_rank", LowRankOptions)
register_method("quantise", QuantiseOptions)


def method_named(name: str) -> Method:
    """Return a registered method: `METHOD` of the module of its name."""
    return importlib.import_module(f"{__name__}.{name}").METHOD
