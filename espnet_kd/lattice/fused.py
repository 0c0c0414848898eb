"""The passes of a walk beside its products, each as one kernel where Triton runs.

Between its products a walk only reads and writes chunks of logits and of the hidden layer. By
torch's operators that is about 25 passes over memory, which on a GPU take longer than the
products; by these kernels it is one a step. On a CPU chunks stay in the cache, and it goes by
operators.
"""

from typing import Any, List, Optional, Set, Tuple

import torch

from espnet_kd.lattice import by_triton
from espnet_kd.lattice.change import Change
from espnet_kd.lattice.chunks import Nodes
from espnet_kd.lattice.joint import Joint

KERNELS = by_triton.Kernels(
    "espnet_kd.lattice.fused_kernels", "passes over logits go operator by operator"
)
# Joint networks that they were tried on, by all that a kernel is compiled for.
_tried: Set[Tuple[Any, ...]] = set()


class Fused:
    """The passes of one walk, by kernels.

    Args:
        kernels: The module `fused_kernels`.
        joint: The joint network that is walked over.
    """

    def __init__(self, kernels: Any, joint: Joint) -> None:
        self.kernels = kernels
        self.tanh = joint.activation is None

    def hidden(self, joint: Joint, nodes: Nodes) -> torch.Tensor:
        """Do `Joint.hidden`. (n, D)"""
        if not self.tanh:
            return joint.hidden(nodes)
        place: Any = nodes  # across utterances, all have them
        return self.kernels.hidden(joint.enc, joint.dec, place.frame, place.row)

    def hidden_grad(
        self, joint: Joint, nodes: Nodes, z: torch.Tensor, d_z: torch.Tensor, dtype: torch.dtype
    ) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """Do `Joint.hidden_grad`, of a gradient of any type. (n, D), and of parameters."""
        if not self.tanh:
            return joint.hidden_grad(nodes, z, d_z.to(dtype))
        return self.kernels.hidden_grad(z, d_z, dtype), []

    def three_log_probs(
        self, logits: torch.Tensor, label: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Compute log p of {blank, next label, rest}, (n, 3), and the normaliser, (n,)."""
        return self.kernels.three_log_probs(logits, label)

    def grad_logits(
        self,
        logits: torch.Tensor,
        log_z: torch.Tensor,
        change: Change,
        label: torch.Tensor,
        keep: bool,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Turn gradients of three numbers into that of the logits (n, V), and its sum (V,)."""
        return self.kernels.grad_logits(logits, log_z, change, label, keep)


def fused(joint: Joint) -> Optional[Fused]:
    """Return the passes over a joint network by kernels; None: they go by operators.

    All are tried on one node first: what fails to compile does so before anything is computed.
    """
    if not by_triton.suits(joint.enc.device):
        return None
    kernels = KERNELS.get()
    V, D = joint.weight.shape
    key = joint.enc.device, joint.enc.dtype, V, D
    if kernels is not None and key not in _tried:
        try:
            _try(Fused(kernels, joint._replace(activation=None)), joint)
            _tried.add(key)
        except Exception as e:  # no compiler, no driver, a GPU that it does not know
            KERNELS.without(e)
    kernels = KERNELS.get()
    return None if kernels is None else Fused(kernels, joint)


@torch.no_grad()
def _try(passes: Fused, joint: Joint) -> None:
    """Go through all passes with one node of zeros."""
    V, D = joint.weight.shape
    wide = torch.promote_types(joint.enc.dtype, torch.float32)
    node = torch.zeros(1, dtype=torch.long, device=joint.enc.device)
    x = joint.enc.new_zeros(1, 1, D)  # (B, T, D), (B, U + 1, D)
    for number in (node, node.int()):  # of a band, of packed chunks
        z = passes.kernels.hidden(x, x, number, number)  # (n, D)
    logits = joint.enc.new_zeros(1, V)
    _, log_z = passes.three_log_probs(logits, node)
    zero = torch.zeros_like(log_z)  # (n,)
    change = Change(zero, zero, zero, zero, zero, zero, None)
    passes.grad_logits(logits, log_z, change, node, False)
    passes.kernels.hidden_grad(z, torch.zeros_like(z), wide)
