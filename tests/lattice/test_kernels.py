"""The recursion by Triton's kernels against torch's operators: interpreted, on a CPU."""

import logging
import os
import subprocess
import sys
import types

import pytest
import torch

from espnet_kd.lattice import recursion, rnnt_loss

# What is compared, in a process of its own: Triton reads its environment when it is imported.
COMPARED = """
import torch
from espnet_kd.lattice import Band, recursion, rnnt_loss
from espnet_kd.lattice.banded_recursion import banded_rnnt_loss
from espnet_kd.lattice.visits import occupancy

def results(log_probs, t_len, u_len):
    arcs = log_probs.detach().clone().requires_grad_()
    # The two of three that a walk gives: no neighbour lies where it would alone.
    loss = rnnt_loss(torch.cat([arcs, arcs[..., :1]], -1)[..., :2], t_len, u_len, 0.01)
    there = torch.where(torch.isfinite(loss), loss, 0.0)
    weight = torch.arange(1.0, len(loss) + 1)
    visits = occupancy(log_probs, t_len, u_len)
    steep = torch.arange(arcs.size(1))[:, None] * u_len[:, None, None] / t_len[:, None, None]
    rows = torch.arange(arcs.size(2))
    mask = (rows - steep).abs() <= 1.5
    mask[range(len(mask)), t_len - 1, u_len] = True
    band = Band.of(mask, t_len, u_len)
    inside = band.take(log_probs).nan_to_num(0.0).clone().requires_grad_()
    banded = banded_rnnt_loss(inside, band)
    finite = torch.where(torch.isfinite(banded), banded, 0.0)
    grads = torch.autograd.grad((weight * there).sum(), arcs) + torch.autograd.grad(
        finite.sum(), inside
    )
    return loss.detach(), banded.detach(), visits, *grads

def compare(B, T, U, t_len, u_len, dtype=torch.float64, change=None):
    g = torch.Generator().manual_seed(B * T + U)
    logits = 2 * torch.randn(B, T, U + 1, 5, generator=g, dtype=torch.float64)
    log_probs = logits.log_softmax(-1)[..., :2].to(dtype)
    if change:
        change(log_probs)
    lengths = torch.tensor([t_len, u_len]).t().contiguous().unbind(1)  # no neighbour beside
    recursion.by_kernels = lambda device: False
    want = results(log_probs, *lengths)
    recursion.by_kernels = lambda device: True
    got = results(log_probs, *lengths)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for a, b in zip(got, want):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    assert recursion.kernel_ways() is not None, "they were not used"

def no_first_label(x):
    x[0, :, :, 1] = float("-inf")

def padding_of_nan(x):
    x[1, 5:], x[1, :, 4:], x[1, :, 3, 1] = (float("nan"),) * 3

compare(3, 6, 4, [6, 4, 1], [4, 0, 3])
compare(1, 1, 0, [1], [0])
compare(2, 1, 6, [1, 1], [6, 2])
compare(2, 4, 0, [4, 3], [0, 0])
compare(2, 3, 3, [3, 2], [3, 3])  # rows are a power of two
compare(2, 2, 4, [2, 1], [4, 3], torch.float32)  # and one more
compare(2, 3, 2, [3, 3], [2, 1], change=no_first_label)  # no path: infinite, no gradient
compare(2, 6, 4, [6, 5], [4, 3], change=padding_of_nan)
print("alike")
"""


def test_the_kernels_give_the_numbers_of_the_operators(repo):
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA build")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(repo)}
    done = subprocess.run(
        [sys.executable, "-c", COMPARED], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "alike\n", done.stderr[-2000:]


def test_a_machine_without_triton_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(recursion, "by_kernels", lambda device: True)
    monkeypatch.setattr(recursion.KERNELS, "_module", None)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "espnet_kd.lattice.kernels", raising=False)
    arcs = torch.zeros(1, 2, 2, 2).log_softmax(-1)
    with caplog.at_level(logging.WARNING):
        losses = [rnnt_loss(arcs, torch.tensor([2]), torch.tensor([1])) for _ in range(2)]
    assert torch.isfinite(losses[0]) and torch.equal(*losses)
    assert len(caplog.records) == 1 and "no Triton kernel" in caplog.text


def test_a_gpu_without_memory_is_not_taken_for_one_without_triton(monkeypatch):
    class Full:
        @classmethod
        def of(cls, *arguments):
            raise torch.cuda.OutOfMemoryError("no memory is left")

    kernels = types.SimpleNamespace(KernelWays=Full)
    monkeypatch.setattr(recursion, "by_kernels", lambda device: True)
    monkeypatch.setattr(recursion.KERNELS, "_module", kernels)
    arcs = torch.zeros(1, 2, 2, 2).log_softmax(-1)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="no memory"):
        rnnt_loss(arcs, torch.tensor([2]), torch.tensor([1]))
    assert recursion.kernel_ways() is Full


def test_the_kernels_compile_for_a_gpu(repo):
    """To what an H100 runs, as far as a machine without one can tell."""
    triton = pytest.importorskip("triton", reason="Triton comes with torch's CUDA build")
    if os.environ.get("TRITON_INTERPRET"):
        pytest.skip("TRITON_INTERPRET is set: nothing is compiled")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from espnet_kd.lattice import kernels

    pointers = {"arcs": "*fp32", "t_len": "*i64", "u_len": "*i64", "out": "*fp32"}
    for kernel in (kernels._forwards, kernels._backwards):
        names = kernel.arg_names
        sizes = ("T", "rows", "diagonals", "stride_b", "stride_t", "stride_u", "stride_c")
        kinds = {name: "i32" if name in sizes else "*fp64" for name in names}
        kinds.update({name: kind for name, kind in pointers.items() if name in names})
        kinds["BLOCK"] = "constexpr"
        source = ASTSource(kernel, kinds, constexprs={(names.index("BLOCK"),): 16})
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        assert "bar.sync" in built.asm["ptx"] and built.asm["cubin"]


def test_a_batch_of_other_lengths_needs_no_other_kernel():
    """Each would be compiled when it is met first, and a training meets hundreds."""
    jit = pytest.importorskip("triton.runtime.jit", reason="Triton comes with torch's CUDA build")
    if os.environ.get("TRITON_INTERPRET"):
        pytest.skip("TRITON_INTERPRET is set: nothing is compiled")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend

    from espnet_kd.lattice import kernels

    def kind(kernel, T, rows):
        bind = jit.create_function_from_signature(
            kernel.signature, kernel.params, make_backend(GPUTarget("cuda", 90, 32))
        )
        sizes = {"T": T, "rows": rows, "diagonals": T + rows - 1, "stride_b": 3 * T * rows}
        sizes.update(stride_t=3 * rows, stride_u=3, stride_c=1, BLOCK=64)
        pointer = torch.zeros(1)
        return bind(**{name: sizes.get(name, pointer) for name in kernel.arg_names})[1]

    for kernel in (kernels._forwards, kernels._backwards):
        assert kind(kernel, 320, 64) == kind(kernel, 321, 63) == kind(kernel, 1, 1)
