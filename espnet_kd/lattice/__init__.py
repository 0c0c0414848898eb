"""The (t, u) lattice of a transducer. Imports torch only.

In reading order:

    joint       the joint network, already projected
    host_lengths    lengths of a batch, read by the host once
    chunks      the lattices of a batch in pieces of a bounded size
    packed      such pieces across utterances, for a GPU
    side_by_side    pieces in threads of their own, on a CPU
    change      how a loss changes with the logits of nodes
    by_triton   kernels where they run, torch's operators where they do not
    fused       the passes of a walk beside its products, by kernels
    fused_kernels   these kernels, for a GPU with Triton
    stats       the walk: a few numbers a node out, one gradient back
    recursion   the RNN-T forward-backward recursion on two of those numbers
    kernels     the same as one kernel a direction, for a GPU with Triton
    visits      which nodes its paths visit, by these two
    banded      a band of each lattice around such paths
    banded_recursion    the recursion inside it
    windows     which nodes the paths of a joint network visit, without a walk over all
    counted     whole lattices or bands, behind one interface
    nodes       which nodes belong to an utterance, and their next labels
"""

from espnet_kd.lattice.banded import Band, band_around
from espnet_kd.lattice.counted import Grid
from espnet_kd.lattice.host_lengths import Lengths
from espnet_kd.lattice.joint import Joint
from espnet_kd.lattice.nodes import node_mask
from espnet_kd.lattice.recursion import rnnt_loss
from espnet_kd.lattice.stats import node_stats

__all__ = [
    "Band",
    "Grid",
    "Joint",
    "Lengths",
    "band_around",
    "node_mask",
    "node_stats",
    "rnnt_loss",
]
