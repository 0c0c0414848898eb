"""The (t, u) lattice of a transducer. Imports torch only."""

from espnet_kd.lattice.nodes import node_log_probs, node_mask
from espnet_kd.lattice.recursion import rnnt_loss

__all__ = ["node_log_probs", "node_mask", "rnnt_loss"]
