"""Distillation objectives, one a file. Imports torch only.

Every objective is a divergence at each lattice node, summed by `reduce_nodes`.
"""

from espnet_kd.losses.collapsed import collapsed_kl
from espnet_kd.losses.full import full_kl
from espnet_kd.losses.reduce import NORMALIZATIONS, reduce_nodes

__all__ = ["NORMALIZATIONS", "collapsed_kl", "full_kl", "reduce_nodes"]
