"""The RNN-T recursion as one kernel launch a direction: Triton, optional.

A program an utterance goes from diagonal to diagonal, all rows of one side by side; in float64,
like `recursion`, whose equations these are. Both log-probabilities are read where they lie, and
occupancies are written as they become known: of a whole lattice only alpha is kept.

Imported by `recursion` alone, and only where it is wanted: Triton comes with torch's CUDA build.
`TRITON_INTERPRET=1` in the environment runs it on a CPU, for tests.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl


@triton.jit
def _log_add(x, y):
    """log(exp(x) + exp(y)), -inf of nothing."""
    top = tl.maximum(x, y)
    top = tl.where(top == float("-inf"), 0.0, top)
    return top + tl.log(tl.exp(x - top) + tl.exp(y - top))


# Of these Triton would compile a kernel for each pattern of what 16 divides: about 20 in an epoch.
OF_A_BATCH = ("T", "rows", "diagonals", "stride_b", "stride_t")


@triton.jit(do_not_specialize=OF_A_BATCH)
def _forwards(
    arcs, alpha, log_p, t_len, u_len, T, rows, diagonals, stride_b, stride_t, stride_u, stride_c,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Fill alpha (B, diagonals, rows), node (t, u) at [t + u, u], and log_p (B,)."""
    b = tl.program_id(0).to(tl.int64)
    frames = tl.load(t_len + b)
    labels = tl.load(u_len + b)
    u = tl.arange(0, BLOCK)  # (BLOCK,)
    arcs += b * stride_b
    alpha += b * diagonals * rows
    at_u = tl.where(u == 0, 0.0, float("-inf")).to(tl.float64)  # (BLOCK,)
    tl.store(alpha + u, at_u, mask=u < rows)
    last = frames + labels - 1
    n = last * 0 + 1
    while n <= last:
        tl.debug_barrier()  # the row below was written by a neighbour
        t = n - u  # (BLOCK,)
        inside = (u <= labels) & (t >= 0) & (t < frames)
        at = arcs + t * stride_t + u * stride_u
        blank = tl.load(at - stride_t, mask=inside & (t > 0), other=float("-inf"))
        label = tl.load(at - stride_u + stride_c, mask=inside & (u > 0), other=float("-inf"))
        below = tl.load(alpha + (n - 1) * rows + u - 1, mask=inside & (u > 0), other=float("-inf"))
        at_u = _log_add(at_u + blank.to(tl.float64), below + label.to(tl.float64))
        at_u = tl.where(inside, at_u, float("-inf"))
        tl.store(alpha + n * rows + u, at_u, mask=u < rows)
        n += 1
    end = tl.load(arcs + (frames - 1) * stride_t + labels * stride_u).to(tl.float64)
    tl.store(log_p + b, tl.sum(tl.where(u == labels, at_u, 0.0), 0) + end)


@triton.jit(do_not_specialize=OF_A_BATCH)
def _backwards(
    arcs, alpha, log_p, t_len, u_len, of_blank, of_label, beta, out,
    T, rows, diagonals, stride_b, stride_t, stride_u, stride_c,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write of_blank and of_label (B,) times the occupancies of the arcs to out (B, T, rows, 2).

    beta (B, 2, rows) holds two diagonals, each in its turn.
    """
    b = tl.program_id(0).to(tl.int64)
    frames = tl.load(t_len + b)
    labels = tl.load(u_len + b)
    total = tl.load(log_p + b)
    # Without any path all occupancies are nothing.
    total = tl.where(tl.abs(total) < float("inf"), total, float("inf"))
    scale_blank = tl.load(of_blank + b)
    scale_label = tl.load(of_label + b)
    u = tl.arange(0, BLOCK)  # (BLOCK,)
    arcs += b * stride_b
    alpha += b * diagonals * rows
    beta += b * 2 * rows
    out += b * T * rows * 2
    # The end of all paths lies one frame after the last node.
    n = frames + labels - 1
    after = tl.where(u == labels, 0.0, float("-inf")).to(tl.float64)  # (BLOCK,)
    tl.store(beta + ((n + 1) % 2) * rows + u, after, mask=u < rows)
    while n >= 0:
        tl.debug_barrier()  # the row above was written by a neighbour
        t = n - u  # (BLOCK,)
        inside = (u <= labels) & (t >= 0) & (t < frames)
        at = arcs + t * stride_t + u * stride_u
        blank = tl.load(at, mask=inside, other=float("-inf")).to(tl.float64)
        label = tl.load(at + stride_c, mask=inside & (u < labels), other=float("-inf"))
        above = tl.load(
            beta + ((n + 1) % 2) * rows + u + 1, mask=inside & (u < labels), other=float("-inf")
        )
        first = tl.load(alpha + n * rows + u, mask=inside, other=float("-inf")) - total
        by_blank = blank + after
        by_label = label.to(tl.float64) + above
        place = out + (t * rows + u) * 2
        tl.store(place, scale_blank * tl.exp(first + by_blank), mask=inside)
        tl.store(place + 1, scale_label * tl.exp(first + by_label), mask=inside)
        after = tl.where(inside, _log_add(by_blank, by_label), float("-inf"))
        tl.store(beta + (n % 2) * rows + u, after, mask=u < rows)
        n -= 1


class KernelWays(NamedTuple):
    """The forward variables of a batch: what `recursion.Ways` is, by kernels.

    Attributes:
        alpha: log of the sum over all ways to a node, at [b, t + u, u]. (B, T + U, U + 1)
        arcs: log p(blank) and log p(next label) of each node. (B, T, U + 1, 2)
        log_p: log P(y | x). (B,)
        t_len: (B,)
        u_len: (B,)
    """

    alpha: torch.Tensor
    arcs: torch.Tensor
    log_p: torch.Tensor
    t_len: torch.Tensor
    u_len: torch.Tensor

    @classmethod
    def of(cls, arcs: torch.Tensor, t_len: torch.Tensor, u_len: torch.Tensor) -> "KernelWays":
        """Run the recursion forwards; see `recursion.rnnt_loss`."""
        B, T, U1, _ = arcs.shape
        # What lies outside an utterance is not read again.
        alpha = arcs.new_empty(B, T + U1 - 1, U1, dtype=torch.float64)  # (B, T + U, U + 1)
        log_p = arcs.new_empty(B, dtype=torch.float64)  # (B,)
        size = T, U1, T + U1 - 1, *arcs.stride()
        block = triton.next_power_of_2(U1)
        with torch.cuda.device_of(arcs):  # Triton's is the current one, whatever it is given
            _forwards[(B,)](arcs, alpha, log_p, t_len, u_len, *size, BLOCK=block, num_warps=4)
        return cls(alpha, arcs, log_p, t_len, u_len)

    def occupancies(
        self, T: int, dtype: torch.dtype, of_blank: torch.Tensor, of_label: torch.Tensor
    ) -> torch.Tensor:
        """Compute how likely a path takes each arc: see `recursion.Ways.occupancies`."""
        B, _, U1, _ = self.arcs.shape
        out = self.arcs.new_zeros(B, T, U1, 2, dtype=dtype)
        beta = self.alpha.new_empty(B, 2, U1)
        size = T, U1, T + U1 - 1, *self.arcs.stride()
        # Expanded factors lie where a kernel does not expect them.
        factors = of_blank.flatten().contiguous(), of_label.flatten().contiguous()  # (B,) each
        kept = self.arcs, self.alpha, self.log_p, self.t_len, self.u_len
        block = triton.next_power_of_2(U1)
        with torch.cuda.device_of(out):
            _backwards[(B,)](*kept, *factors, beta, out, *size, BLOCK=block, num_warps=4)
        return out
