"""Compression methods, one file each, and what a method is. docs/methods.md adds one.

In reading order:

    protocol   what a method is
    callbacks  events of a training
    cut        a smaller student, cut out of its teacher
    retrain    the teacher trained on
    low_rank   the teacher's matrices as products of thin ones
"""

import importlib

from espnet_kd.methods.low_rank import LowRankOptions
from espnet_kd.methods.protocol import Method
from espnet_kd.spec.method import KeepsSizes, register_method

register_method("retrain", KeepsSizes)
register_method("low_rank", LowRankOptions)


def method_named(name: str) -> Method:
    """Return a registered method: `METHOD` of the module of its name."""
    return importlib.import_module(f"{__name__}.{name}").METHOD
