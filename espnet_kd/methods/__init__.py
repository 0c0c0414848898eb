"""Compression methods, one file each, and what a method is. docs/methods.md adds one.

In reading order:

    protocol   what a method is
    callbacks  events of a training
    cut        a smaller student, cut out of its teacher
    cutter     what of the teacher it keeps
    retrain    the teacher trained on
    matrices   which matrices a method may be told of
    low_rank   the teacher's matrices as products of thin ones
    quantise   the teacher's weights in few bits
"""

import importlib

from espnet_kd.methods.low_rank import LowRankOptions
from espnet_kd.methods.protocol import Method
from espnet_kd.methods.quantise import QuantiseOptions
from espnet_kd.spec.method import KeepsSizes, register_method

register_method("retrain", KeepsSizes)
register_method("low_rank", LowRankOptions)
register_method("quantise", QuantiseOptions)


def method_named(name: str) -> Method:
    """Return a registered method: `METHOD` of the module of its name."""
    return importlib.import_module(f"{__name__}.{name}").METHOD
