"""Distillation objectives, one a file. Imports torch only.

Every objective is a divergence at each lattice node, summed by `reduce_nodes`. Temperature
is a matter of the joint network (`Joint.tempered`), not of the objective.
"""

from espnet_kd.losses.agreement import agreement
from espnet_kd.losses.collapsed import Seen, collapsed_kl
from espnet_kd.losses.encoder import ctc_kl, encoder_distance
from espnet_kd.losses.full import FullKL
from espnet_kd.losses.full_sum import full_sum
from espnet_kd.losses.kl import KINDS, divergence
from espnet_kd.losses.reduce import NORMALIZATIONS, reduce_nodes
from espnet_kd.losses.top_k import TopKKL

__all__ = [
    "KINDS",
    "NORMALIZATIONS",
    "FullKL",
    "Seen",
    "TopKKL",
    "agreement",
    "collapsed_kl",
    "ctc_kl",
    "divergence",
    "encoder_distance",
    "full_sum",
    "reduce_nodes",
]
