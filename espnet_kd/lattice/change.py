"""How a loss changes with the logits of nodes: from a few numbers a node to all of its logits."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Protocol, Tuple

import torch

from espnet_kd.lattice.chunks import Nodes
from espnet_kd.lattice.host_lengths import asks

NEG_INF = float("-inf")


class Divergence(Protocol):
    """A divergence from a teacher that needs more of a node than its three classes."""

    def values(self, nodes: Nodes, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Compute log q of {blank, next label, rest} and the divergence at some nodes.

        Args:
            nodes: The nodes.
            logits: The student's; overwritten. (n, V)
            label: Next label; blank where there is none. (n,)

        Returns:
            (n, 4)
        """

    def grad(
        self, nodes: Nodes, logits: torch.Tensor, change: "Change", label: torch.Tensor
    ) -> torch.Tensor:
        """Turn the gradients of these four numbers into that of the logits: see `grad_logits`."""


class Change(NamedTuple):
    """The loss's change with the logits of nodes, but for the divergence.

    With d_c the gradient of log q(c), c in {blank, label, rest}, and s their sum:
    blank and label v: d_v - s q_v; any other v: (d_rest - s q_rest) q_v / q_rest. Where a class
    has nearly all, d_c - s q_c would cancel: it is d_c (1 - q_c) less what the other two have
    of s.

    All are (T, U + 1) of one utterance, or (N,) of many.

    Attributes:
        log_blank: log q(blank).
        log_label: log q(label), -inf where there is none.
        log_rest: log q(rest), the least number rather than -inf.
        at_blank: Gradient of the blank's logit.
        at_label: Gradient of the label's.
        at_rest: Sum of the gradients of all others.
        d_divergence: Gradient of the divergence; None: there is none.
        mute: Whether blank has log q = -inf somewhere; None: a GPU is not asked.
    """

    log_blank: torch.Tensor
    log_label: torch.Tensor
    log_rest: torch.Tensor
    at_blank: torch.Tensor
    at_label: torch.Tensor
    at_rest: torch.Tensor
    d_divergence: Optional[torch.Tensor]
    mute: Optional[bool] = None

    @classmethod
    def of(cls, stats: torch.Tensor, d: torch.Tensor, dust: Optional[float] = None) -> "Change":
        """Derive it from what the first walk kept and its gradient.

        Args:
            stats: (..., 3 or 4)
            d: (..., 3 or 4)
            dust: Share of the largest gradient below which one is nothing; None: what is lost
                in any sum.
        """
        log_blank, log_label, log_rest = stats[..., :3].unbind(-1)
        # The row u = U has no label: its gradient is not used.
        d_blank, d_rest = d[..., 0], d[..., 2]
        d_label = torch.where(log_label > NEG_INF, d[..., 1], 0.0)
        # Far from all likely paths an occupancy is nothing beside the largest in any sum, down
        # to denormal numbers, which processors are slow at. Such nodes are left out.
        dust = torch.finfo(d.dtype).eps ** 2 if dust is None else dust
        if dust:
            size = torch.stack([d_blank, d_label, d_rest]).abs().amax(0)  # (...)
            small = size < size.amax() * dust
            d_blank, d_label, d_rest = (
                x.masked_fill(small, 0.0) for x in (d_blank, d_label, d_rest)
            )
        q_blank, q_label, q_rest = (x.exp() for x in (log_blank, log_label, log_rest))
        return cls(
            log_blank,
            log_label,
            log_rest.clamp_min(torch.finfo(log_rest.dtype).min),
            d_blank * (q_label + q_rest) - (d_label + d_rest) * q_blank,
            d_label * (q_blank + q_rest) - (d_blank + d_rest) * q_label,
            d_rest * (q_blank + q_label) - (d_blank + d_label) * q_rest,
            d[..., 3] if d.size(-1) == 4 else None,
            bool((log_blank == NEG_INF).any()) if asks(stats.device) else None,
        )

    def at(self, take: Callable[[torch.Tensor], torch.Tensor]) -> "Change":
        """Take some nodes, by what takes them of all. -> (n,)"""
        parts: Dict[str, Any] = {
            name: None if x is None else take(x).reshape(-1)
            for name, x in self._asdict().items()
            if name != "mute"
        }
        return self._replace(**parts)

    def live_rows(self) -> List[Tuple[int, int]]:
        """First row and row after the last of each frame at which the loss changes at all."""
        T, U1 = self.at_rest.shape
        if self.d_divergence is not None:
            return [(0, U1)] * T
        live = torch.stack([self.at_blank, self.at_label, self.at_rest]).any(0)  # (T, U + 1)
        row = torch.arange(U1, device=live.device)
        first = torch.where(live, row, U1).amin(-1)  # (T,)
        last = torch.where(live, row + 1, 0).amax(-1)
        return list(zip(first.tolist(), last.tolist()))

    def with_student(self, share: float) -> "Change":
        """Add `share` times the gradient of the divergence times q. (n,) only"""
        if not share:
            return self
        assert self.d_divergence is not None
        weight = share * self.d_divergence  # (n,)
        return self._replace(
            at_blank=self.at_blank + weight * self.log_blank.exp(),
            at_label=self.at_label + weight * self.log_label.exp(),
            at_rest=self.at_rest + weight * self.log_rest.exp(),
        )

    def log_z(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Compute each node's normaliser, which follows from its blank if that can be said.

        logits: (n, V), label: (n,) -> (n,)
        """
        by_blank = logits[:, 0] - self.log_blank  # (n,)
        if self.mute is False:
            return by_blank
        if self.mute or self.d_divergence is not None:
            return torch.where(self.log_blank > NEG_INF, by_blank, logits.logsumexp(-1))
        # Without asking: by the label, and infinite where that is not there either, since then
        # the rest has everything and its gradient is nothing.
        by_label = logits.gather(-1, label[:, None])[:, 0] - self.log_label  # (n,)
        by_label = torch.where(self.log_label > NEG_INF, by_label, float("inf"))
        return torch.where(self.log_blank > NEG_INF, by_blank, by_label)


def grad_logits(
    logits: torch.Tensor, log_z: torch.Tensor, change: Change, label: torch.Tensor
) -> torch.Tensor:
    """Turn gradients of a node's few numbers into that of its logits.

    Args:
        logits: Overwritten. (n, V)
        log_z: Their normaliser. (n,)
        change: Gradients of these nodes; that of the divergence is left out.
        label: Next label; blank where there is none. (n,)

    Returns:
        (n, V)
    """
    # q(v) / q(rest), which does not overflow where the rest has next to nothing. At blank and
    # label it means nothing and is written over.
    logits.sub_((log_z + change.log_rest)[:, None]).exp_().mul_(change.at_rest[:, None])
    return with_classes(logits, change, label)


def grad_of_shares(rest: torch.Tensor, change: Change, label: torch.Tensor) -> torch.Tensor:
    """Do as `grad_logits`, of what the first walk has kept: no logits are computed again.

    Args:
        rest: q(v) of the rest, up to a factor a node; nothing at blank and label. (n, V)
        change: Gradients of these nodes.
        label: Next label; blank where there is none. (n,)

    Returns:
        (n, V)
    """
    total = rest.sum(-1).clamp_min_(torch.finfo(rest.dtype).tiny)  # (n,)
    return with_classes(rest * (change.at_rest / total)[:, None], change, label)


def with_classes(grad: torch.Tensor, change: Change, label: torch.Tensor) -> torch.Tensor:
    """Write the gradients of blank and label to their places. (n, V)"""
    grad.scatter_(-1, label[:, None], change.at_label[:, None])
    grad[:, 0] = change.at_blank
    return grad
