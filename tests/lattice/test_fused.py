"""A walk's passes by Triton's kernels against torch's operators: interpreted, on a CPU."""

import logging
import os
import subprocess
import sys
import types

import pytest
import torch

from espnet_kd.lattice import fused, stats
from tests.lattice.materialised import random_joint, random_labels

# What is compared, in a process of its own: Triton reads its environment when it is imported.
PASSES = """
import torch
from espnet_kd.lattice import fused_kernels, stats
from espnet_kd.lattice.change import Change, grad_logits

NEG_INF = float("-inf")

def compare(n, V, dtype=torch.float64, spoil=None):
    g = torch.Generator().manual_seed(n * V)
    wide = torch.promote_types(dtype, torch.float32)
    label = torch.randint(0, V, (n,), generator=g)
    label[: n // 4] = 0  # the row u = U
    logits = (4 * torch.randn(n, V, generator=g, dtype=torch.float64)).to(dtype)
    if spoil:
        spoil(logits, label)
    exact = logits.double().clone()
    want, log_z = stats.three_log_probs(exact.clone(), label)
    before = logits.clone()
    three, z = fused_kernels.three_log_probs(logits, label)
    assert three.dtype == z.dtype == wide and torch.equal(logits, before), "they were written to"
    tolerance = 1e-12 if wide == torch.float64 else 2e-6
    torch.testing.assert_close(three.double(), want, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(z.double(), log_z[:, 0], rtol=tolerance, atol=tolerance)
    d = torch.randn(n, 3, generator=g, dtype=torch.float64)
    change, narrow = Change.of(want, d), Change.of(want.to(wide), d.to(wide))
    want = grad_logits(exact, log_z[:, 0], change, label)
    for keep in (True, False):
        grad, total = fused_kernels.grad_logits(logits, z, narrow, label, keep)
        assert torch.equal(logits, before) if keep else grad is logits
        assert grad.dtype == dtype and total.dtype == wide
        bound = 1e-2 if dtype == torch.bfloat16 else 4 * tolerance
        torch.testing.assert_close(grad.double(), want, rtol=bound, atol=bound)
        bound = 30 * tolerance
        torch.testing.assert_close(total.double(), want.sum(0), rtol=bound, atol=bound)

def mute_blank(x, label):
    x[::2, 0] = NEG_INF

def mute_label(x, label):
    x[1::2].scatter_(-1, label[1::2, None], NEG_INF)

def blank_alone(x, label):
    x[:, 1:] = NEG_INF

def label_alone(x, label):
    there = x.gather(-1, label[:, None])
    x[:] = NEG_INF
    x.scatter_(-1, label[:, None], there)

def far_apart(x, label):
    x *= 100.0
    x[::3, 0] = 500.0  # nearly all
    x[1::3, 1] = 900.0

for V in (2, 5, 37, 129, 512, 1000):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        compare(21, V, dtype)
    for spoil in (mute_blank, mute_label, blank_alone, label_alone, far_apart):
        if V > 2 or spoil in (mute_blank, blank_alone):
            compare(9, V, torch.float64, spoil)
compare(1, 500)
compare(70, 30)  # more than one tile, and turns left over
compare(517, 3)
compare(3, 9000, torch.float32)  # longer than what is held at once

g = torch.Generator().manual_seed(1)
frame, row = torch.arange(15)[4:] % 6, torch.arange(15).int()[4:] % 10
for D in (3, 64, 700):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        wide = torch.promote_types(dtype, torch.float32)
        enc = torch.randn(2, 3, D, generator=g, dtype=torch.float64).mul_(3).to(dtype)
        dec = torch.randn(5, 2, D, generator=g, dtype=torch.float64).to(dtype).transpose(0, 1)
        x = enc.flatten(0, 1)[frame].double() + dec.reshape(-1, D)[row].double()
        z = fused_kernels.hidden(enc, dec, frame, row)
        bound = {torch.float64: 1e-14, torch.float32: 3e-7, torch.bfloat16: 1e-2}[dtype]
        assert z.dtype == dtype
        torch.testing.assert_close(z.double(), x.tanh(), rtol=bound, atol=bound)
        grad = torch.randn(z.shape, generator=g, dtype=torch.float64).to(dtype)
        want = grad.double() * (1 - z.double() ** 2)
        d_x = fused_kernels.hidden_grad(z, grad, wide)
        bound = 1e-14 if dtype == torch.float64 else 3e-7
        assert d_x.dtype == wide
        torch.testing.assert_close(d_x.double(), want, rtol=bound, atol=bound)
print("alike")
"""

WALKS = """
import itertools
import torch
from espnet_kd.lattice import Joint, fused, recursion, stats
from espnet_kd.objective import Objective
from tests.lattice.test_packed import *

calls = []

def results(student, objective, budget, by_kernels):
    fused.by_triton.suits = lambda device: by_kernels
    recursion.by_kernels = lambda device: False
    student = Joint(*(x.detach().clone().requires_grad_() for x in student[:4]), *student[4:])
    return gradients(objective, budget, student)

def compare(student, objective=OBJECTIVES[0], budget=10**9, tolerance=1e-11):
    want, got = (results(student, objective, budget, way) for way in (False, True))
    for a, b in zip(got, want):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)

stats.packs = lambda device: True
exact, kept = random_joint(B, T, U, V), stats.KEPT["cpu"]
first = fused.Fused.three_log_probs
fused.Fused.three_log_probs = lambda *words: calls.append(1) or first(*words)
for objective in OBJECTIVES:
    compare(exact, objective)
stats.KEPT["cpu"] = 0  # the hidden layer and the logits are computed again
compare(exact, budget=60_000)
halves = Joint(*(x.detach().bfloat16() for x in exact[:4]))
compare(halves, tolerance=1e-1)
stats.KEPT["cpu"] = kept
compare(halves, tolerance=1e-1)
compare(Joint(*exact[:4], torch.nn.functional.silu))
bias = exact.bias.detach().clone()
bias[0] = bias[int(LABELS[0, 0])] = float("-inf")

def walked(by_kernels):
    fused.by_triton.suits = lambda device: by_kernels
    student = Joint(*(x.detach().clone().requires_grad_() for x in (*exact[:3], bias)))
    three = stats.node_stats(student, LABELS, T_LEN, U_LEN)
    there = torch.where(torch.isfinite(three), three, 0.0)
    weight = torch.linspace(1.0, 2.0, there.numel(), dtype=there.dtype).view(there.shape)
    loss = (weight * there).mean()
    grads = torch.autograd.grad(loss, student[:4], retain_graph=True)
    again = torch.autograd.grad(loss, student[:4])
    assert all(map(torch.equal, grads, again)), "what is kept was written to"
    return three.detach(), *grads

for a, b in zip(walked(True), walked(False)):
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
assert len(calls) > 20 and fused.KERNELS.get() is not None, "they were not used"
print("alike")
"""


@pytest.mark.parametrize("compared", [PASSES, WALKS], ids=["passes", "walks"])
def test_the_kernels_give_the_numbers_of_the_operators(compared, repo):
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA build")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(repo)}
    done = subprocess.run(
        [sys.executable, "-c", compared], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "alike\n", done.stderr[-2000:]


def test_a_machine_without_triton_is_told_once(monkeypatch, caplog):
    """And what cannot be compiled is known before anything is computed."""

    def fails(*words):
        raise RuntimeError("no compiler")

    broken = types.SimpleNamespace(hidden=fails)
    joint, labels = random_joint(2, 3, 2, 5), random_labels(2, 2, 5)
    lengths = torch.tensor([3, 2]), torch.tensor([2, 1])
    monkeypatch.setattr(stats, "packs", lambda device: True)
    want = stats.node_stats(joint, labels, *lengths)
    monkeypatch.setattr("espnet_kd.lattice.by_triton.suits", lambda device: True)
    monkeypatch.setattr(fused, "_tried", set())
    for module in (None, broken):
        monkeypatch.setattr(fused.KERNELS, "_module", module)
        monkeypatch.setitem(sys.modules, "triton", None)
        monkeypatch.delitem(sys.modules, "espnet_kd.lattice.fused_kernels", raising=False)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            three = [stats.node_stats(joint, labels, *lengths) for _ in range(2)]
        assert torch.equal(three[0], want) and torch.equal(three[1], want)
        assert len(caplog.records) == 1 and "operator by operator" in caplog.text


def _assembled(kernel, kinds, constants, folder):
    """What the assembler says of a kernel for an H100; no machine with one is needed."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    words = {name: kinds.get(name, "*fp32") for name in names}
    words.update(dict.fromkeys(constants, "constexpr"))
    places = {(names.index(name),): value for name, value in constants.items()}
    # Memory that torch hands out begins where 16 bytes can be read at once.
    wide = [name for name in ("logits", "grad", "hidden", "enc", "dec", "out") if name in words]
    attrs = {(names.index(name),): [["tt.divisibility", 16]] for name in wide}
    source = ASTSource(kernel, words, constexprs=places, attrs=attrs)
    warps = {"num_warps": kinds["num_warps"]}
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=warps)
    (folder / "kernel.ptx").write_text(built.asm["ptx"])
    command = [triton.knobs.nvidia.ptxas.path, "-v", "--gpu-name=sm_90a", "kernel.ptx"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stderr


@pytest.mark.parametrize("V", [30, 500, 5000])
@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_the_kernels_compile_for_a_gpu(V, kind, tmp_path):
    """And spill no register."""
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA build")
    if os.environ.get("TRITON_INTERPRET"):
        pytest.skip("TRITON_INTERPRET is set: nothing is compiled")
    import triton.language as tl

    from espnet_kd.lattice import fused_kernels as kernels

    def shape(size, most):
        words = kernels._shape(min(1 << (size - 1).bit_length(), most), kernels.TILE)
        return words.pop("num_warps"), words

    pointers = dict.fromkeys(("label", "frame"), "*i64") | {"row": "*i32", "n": "i32"}
    pointers.update(dict.fromkeys(("logits", "grad", "hidden", "enc", "dec"), f"*{kind}"))
    warps, words = shape(V, kernels.LONGEST)
    three = kernels._three, warps, {"V": V, "LEAST": -3.4e38, **words}
    warps, words = shape(V, kernels.TILE)
    grad = kernels._grad, 2 * warps, {"V": V, "TURNS": kernels.TURNS, **words}
    warps, words = shape(256, kernels.TILE)
    hidden = kernels._hidden, warps, {"D": 256, "WIDE": tl.float32, **words}
    hidden_grad = kernels._hidden_grad, 4, {"D": 256, "BLOCK": 2 * kernels.TILE}
    for kernel, warps, constants in (three, grad, hidden, hidden_grad):
        log = _assembled(kernel, {**pointers, "num_warps": warps}, constants, tmp_path)
        assert "0 bytes spill stores, 0 bytes spill loads" in log, log
