"""What a walk does with chunks of logits beside products, in one pass each: Triton, optional.

The equations are those of `stats.three_log_probs`, `change.grad_logits` and `joint.Joint.hidden`.
Sums are taken in float32 or better, in an order that is always the same. Imported by `fused`
alone, and only where it is wanted. `TRITON_INTERPRET=1` runs it on a CPU, for tests.
"""

from typing import Dict, Tuple

import torch
import triton
import triton.language as tl

from espnet_kd.lattice.change import Change

# A row of the vocabulary is held by one program up to here; longer ones are gone through.
LONGEST = 8192
# Numbers that a warp works on at once, 16 a thread: loads enough, no register spilled.
TILE = 512
# Tiles one after the other in a program of `_grad`: d_bias is left in 1 / TURNS of the bytes.
TURNS = 16

# V and D are constants of a kernel: whether rows lie where 16 bytes can be read at once follows
# from them. How many nodes there are, and where slices of them begin, makes no other kernel.
BY_NODE = ["label", "frame", "row", "log_z", "log_rest", "at_blank", "at_label", "at_rest"]


@triton.jit(do_not_specialize=["n"], do_not_specialize_on_alignment=BY_NODE)
def _three(
    logits, label, three, log_z, n,
    V: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """Write three (n, 3) and log_z (n,) of logits (n, V)."""
    kind: tl.constexpr = three.dtype.element_ty
    node = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # (ROWS,)
    inside = node < n
    token = tl.load(label + node, mask=inside, other=0)
    at = logits + node * V
    blank = tl.load(at, mask=inside, other=0.0).to(kind)
    there = tl.load(at + token, mask=inside & (token != 0), other=float("-inf")).to(kind)
    largest = tl.full((ROWS,), LEAST, kind)  # where there is nothing, too
    total = tl.zeros((ROWS,), kind)
    for start in range(0, V, BLOCK):
        v = start + tl.arange(0, BLOCK)  # (BLOCK,)
        # What lies side by side is read at once where no mask hangs on the label.
        mask = inside[:, None] & (v[None, :] < V)
        x = tl.load(at[:, None] + v[None, :], mask=mask, other=float("-inf"))  # (ROWS, BLOCK)
        rest = (v[None, :] != 0) & (v[None, :] != token[:, None])
        x = tl.where(rest, x.to(kind), float("-inf"))
        top = tl.maximum(largest, tl.max(x, 1))
        total = total * tl.exp(largest - top) + tl.sum(tl.exp(x - top[:, None]), 1)
        largest = top
    others = tl.log(total) + largest
    top = tl.maximum(tl.maximum(blank, there), others)
    top = tl.where(tl.abs(top) == float("inf"), 0.0, top)
    z = top + tl.log(tl.exp(blank - top) + tl.exp(there - top) + tl.exp(others - top))
    tl.store(three + node * 3, blank - z, mask=inside)
    tl.store(three + node * 3 + 1, there - z, mask=inside)
    tl.store(three + node * 3 + 2, others - z, mask=inside)
    tl.store(log_z + node, z, mask=inside)


@triton.jit(do_not_specialize=["n"], do_not_specialize_on_alignment=BY_NODE)
def _grad(
    logits, label, log_z, log_rest, at_blank, at_label, at_rest, grad, d_bias, n,
    V: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    """Write the gradient of logits (n, V), which may be in their place, and sums of its rows.

    d_bias is (programs, V): each has those of its TURNS * ROWS nodes.
    """
    kind: tl.constexpr = d_bias.dtype.element_ty
    part = tl.program_id(0).to(tl.int64)
    v = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    total = tl.zeros((BLOCK,), kind)
    for turn in range(0, TURNS):
        node = (part * TURNS + turn) * ROWS + tl.arange(0, ROWS)  # (ROWS,)
        inside = node < n
        token = tl.load(label + node, mask=inside, other=0)
        all_rest = tl.load(log_z + node, mask=inside, other=0.0)
        all_rest += tl.load(log_rest + node, mask=inside, other=0.0)
        of_blank = tl.load(at_blank + node, mask=inside, other=0.0)
        of_label = tl.load(at_label + node, mask=inside, other=0.0)
        of_rest = tl.load(at_rest + node, mask=inside, other=0.0)
        place = node[:, None] * V + v[None, :]  # (ROWS, BLOCK)
        mask = inside[:, None] & (v[None, :] < V)
        x = tl.load(logits + place, mask=mask, other=float("-inf")).to(kind)
        x = tl.exp(x - all_rest[:, None]) * of_rest[:, None]
        x = tl.where(v[None, :] == token[:, None], of_label[:, None], x)
        x = tl.where(v[None, :] == 0, of_blank[:, None], x)
        tl.store(grad + place, x.to(grad.dtype.element_ty), mask=mask)
        total += tl.sum(tl.where(mask, x, 0.0), 0)
    tl.store(d_bias + part * V + v, total, mask=v < V)


@triton.jit(do_not_specialize=["n"], do_not_specialize_on_alignment=BY_NODE)
def _hidden(
    enc, dec, frame, row, hidden, n,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write tanh of the sums of rows of enc (B * T, D) and dec (B * (U + 1), D): (n, D)."""
    node = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # (ROWS,)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    inside = node < n
    mask = inside[:, None] & (d[None, :] < D)
    of_enc = tl.load(frame + node, mask=inside, other=0).to(tl.int64)
    of_dec = tl.load(row + node, mask=inside, other=0).to(tl.int64)
    x = tl.load(enc + of_enc[:, None] * D + d[None, :], mask=mask, other=0.0).to(WIDE)
    x += tl.load(dec + of_dec[:, None] * D + d[None, :], mask=mask, other=0.0).to(WIDE)
    less = tl.exp(-2.0 * tl.abs(x))
    x = tl.where(x < 0.0, -1.0, 1.0) * (1.0 - less) / (1.0 + less)  # NaN stays one
    place = node[:, None] * D + d[None, :]
    tl.store(hidden + place, x.to(hidden.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["n"])
def _hidden_grad(grad, hidden, out, n, D: tl.constexpr, BLOCK: tl.constexpr):
    """Write grad * (1 - hidden ** 2), all (n, D); `out` may be `grad`."""
    kind: tl.constexpr = out.dtype.element_ty
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    mask = place < n.to(tl.int64) * D
    z = tl.load(hidden + place, mask=mask, other=0.0).to(kind)
    g = tl.load(grad + place, mask=mask, other=0.0).to(kind)
    tl.store(out + place, g - g * (z * z), mask=mask)


def three_log_probs(
    logits: torch.Tensor, label: torch.Tensor
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Do `stats.three_log_probs`, but leave the logits as they are.

    Args:
        logits: Any type; contiguous. (n, V)
        label: Next label; blank where there is none. (n,)

    Returns:
        (n, 3) and the normaliser (n,), float32 or better.
    """
    n, V = logits.shape
    dtype = torch.promote_types(logits.dtype, torch.float32)
    three, log_z = logits.new_empty(n, 3, dtype=dtype), logits.new_empty(n, dtype=dtype)
    block = min(triton.next_power_of_2(V), LONGEST)
    words = _shape(block, TILE)
    grid = (triton.cdiv(n, words["ROWS"]),)
    with torch.cuda.device_of(logits):  # Triton's is the current one, whatever it is given
        _three[grid](logits, label, three, log_z, n, V=V, LEAST=torch.finfo(dtype).min, **words)
    return three, log_z


def grad_logits(
    logits: torch.Tensor,
    log_z: torch.Tensor,
    change: Change,
    label: torch.Tensor,
    keep: bool = False,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Do `change.grad_logits`, and add it up over the nodes.

    Args:
        logits: Any type; contiguous; overwritten unless they are kept. (n, V)
        log_z: Their normaliser. (n,)
        change: Gradients of these nodes; that of the divergence is left out.
        label: Next label; blank where there is none. (n,)
        keep: Whether to keep the logits.

    Returns:
        The gradient in the type of the logits (n, V), and its sum in that of `change` (V,).
    """
    n, V = logits.shape
    grad = torch.empty_like(logits) if keep else logits
    words = _shape(min(triton.next_power_of_2(V), TILE), TILE)
    programs = triton.cdiv(n, words["ROWS"] * TURNS)
    d_bias = change.at_rest.new_empty(programs, V)
    by_class = change.log_rest, change.at_blank, change.at_label, change.at_rest  # (n,) each
    by_node = (x.contiguous() for x in (label, log_z, *by_class))
    # A second warp for a tile: what it adds up takes as many registers again.
    words["num_warps"] *= 2
    with torch.cuda.device_of(logits):
        _grad[(programs, triton.cdiv(V, words["BLOCK"]))](
            logits, *by_node, grad, d_bias, n, V=V, TURNS=TURNS, **words
        )
    return grad, d_bias.sum(0)


def hidden(
    enc: torch.Tensor, dec: torch.Tensor, frame: torch.Tensor, row: torch.Tensor
) -> torch.Tensor:
    """Compute tanh(enc + dec) at some nodes.

    Args:
        enc: (B, T, D)
        dec: (B, U + 1, D)
        frame: b * T + t of each node. (n,)
        row: b * (U + 1) + u of each node. (n,)

    Returns:
        (n, D)
    """
    n, D = len(frame), enc.size(-1)
    out = enc.new_empty(n, D)
    wide = tl.float64 if enc.dtype == torch.float64 else tl.float32
    words = _shape(min(triton.next_power_of_2(D), TILE), TILE)
    grid = triton.cdiv(n, words["ROWS"]), triton.cdiv(D, words["BLOCK"])
    with torch.cuda.device_of(enc):
        _hidden[grid](
            enc.contiguous(), dec.contiguous(), frame, row, out, n, D=D, WIDE=wide, **words
        )
    return out


def hidden_grad(hidden: torch.Tensor, grad: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Turn the gradient of tanh(x) into that of x.

    Args:
        hidden: tanh(x); contiguous. (n, D)
        grad: Its gradient; contiguous; overwritten if it has the type of the result. (n, D)
        dtype: Type of the result.

    Returns:
        (n, D)
    """
    n, D = hidden.shape
    out = grad if grad.dtype == dtype else torch.empty_like(grad, dtype=dtype)
    block = 2 * TILE
    with torch.cuda.device_of(grad):
        _hidden_grad[(triton.cdiv(n * D, block),)](
            grad, hidden, out, n, D=D, BLOCK=block, num_warps=4
        )
    return out


def _shape(block: int, tile: int) -> Dict[str, int]:
    """Choose the nodes of a program, and its warps, for rows of `block` numbers."""
    return {
        "BLOCK": block,
        "ROWS": max(1, tile // block),
        "num_warps": max(1, min(8, block // tile)),
    }
