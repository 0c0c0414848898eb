"""Is what a GPU computes right? Each piece against the CPU in float64, a few seconds each.

    python tools/gpu/checks.py --device cuda --results results.jsonl

Pieces that a results file holds already are left out. A piece that ends the process, or hangs
until it is ended, leaves only the note that it was begun; after three of them it counts as wrong
and is begun no more. Exit code 1 if one is wrong; all are tried; 75 if the time was over before.
"""

import argparse
import copy
import functools
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # bench_step
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from espnet_kd.cli import new_parser  # noqa: E402
from espnet_kd.errors import UserError, run_main  # noqa: E402
from espnet_kd.lattice import Band, Grid, Joint, node_stats  # noqa: E402
from espnet_kd.lattice.fused import fused  # noqa: E402
from espnet_kd.lattice.windows import follow  # noqa: E402
from espnet_kd.objective import Losses, Objective, Posteriors, distillation_losses  # noqa: E402
from espnet_kd.spec.distillation import DIVERGENCES, NODES, OBJECTIVES  # noqa: E402
from tools.gpu.result_rows import Results  # noqa: E402
from tools.torchaudio_recursion import KERNELS  # noqa: E402

Tensors = Sequence[torch.Tensor]
B, T, U, V, D = 3, 47, 31, 123, 24
# A fork makes this one's cache. It must come before anything is computed: threads and CUDA do not
# survive a fork.
FORKS = "training step, student, cached"
MOST_TRIES = 3  # two may have been cut from outside, as a rehearsal does


class Check(NamedTuple):
    """One piece.

    Attributes:
        compute: Device and number format -> tensors that must agree.
        tolerance: Largest relative difference, of the norms.
    """

    compute: Callable[[str, torch.dtype], Tensors]
    tolerance: float = 1e-4


def joint(seed: int, device: str, dtype: torch.dtype) -> Joint:
    """Draw a joint network: enc (B, T, D), dec (B, U + 1, D), weight (V, D), bias (V,)."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((B, T, D), (B, U + 1, D), (V, D), (V,))
    parts = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    enc, dec, weight, bias = (part.to(device, dtype).requires_grad_() for part in parts)
    return Joint(enc, dec, weight, bias)


def lattice(device: str) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw labels (B, U) and ragged lengths (B,), (B,)."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(1, V, (B, U), generator=generator)
    t_len, u_len = torch.tensor([T, 40, 12]), torch.tensor([U, 9, 0])
    return labels.to(device), t_len.to(device), u_len.to(device)


def distillation_of(losses: Losses) -> torch.Tensor:
    """Return the distillation loss, which there is with a teacher. (B,)"""
    if losses.kd is None:
        raise RuntimeError("there is no distillation loss")
    return losses.kd


def objective(options: Dict[str, Any], device: str, dtype: torch.dtype) -> Tensors:
    """Losses (B,), (B,) and the gradients of the student's joint network."""
    student, teacher = joint(0, device, dtype), joint(1, device, dtype).detach()
    losses = distillation_losses(student, teacher, *lattice(device), Objective(**options))
    kd = distillation_of(losses)
    return [losses.rnnt, kd, *torch.autograd.grad((losses.rnnt + kd).mean(), student[:4])]


def walk(device: str, dtype: torch.dtype) -> Tensors:
    """Probabilities of {blank, next label, rest} at each utterance's own nodes. (N, 3)"""
    labels, t_len, u_len = lattice(device)
    three = node_stats(joint(0, device, dtype).detach(), labels, t_len, u_len)  # (B, T, U + 1, 3)
    pairs = enumerate(zip(t_len.tolist(), u_len.tolist()))
    return [torch.cat([three[b, :t, : u + 1].flatten(0, 1).exp() for b, (t, u) in pairs])]


def recursion(kernel: str, device: str, dtype: torch.dtype) -> Tensors:
    """Losses (B,) and the gradient (B, T, U + 1, 2)."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(B, T, U + 1, 5, generator=generator, dtype=torch.float64)
    log_probs = logits.log_softmax(-1)[..., :2].to(device, dtype)
    _, t_len, u_len = lattice(device)
    if kernel == "torchaudio":  # its CUDA kernel takes the loss of no labels for 0
        log_probs, t_len, u_len = log_probs[: B - 1], t_len[: B - 1], u_len[: B - 1]
    log_probs.requires_grad_()
    losses = KERNELS[kernel](log_probs, t_len, u_len)
    return [losses, *torch.autograd.grad(losses.sum(), log_probs)]


def cache(device: str, dtype: torch.dtype) -> Tensors:
    """Distillation from what a cache holds: the teacher's three numbers a node."""
    student = joint(0, device, dtype)
    labels, t_len, u_len = lattice(device)
    with torch.no_grad():
        three = node_stats(joint(1, device, dtype), labels, t_len, u_len)  # (B, T, U + 1, 3)
    kd = distillation_of(distillation_losses(student, Posteriors(three), labels, t_len, u_len))
    return [kd, *torch.autograd.grad(kd.mean(), student[:4])]


def passes(vocabulary: int, half: bool, device: str, dtype: torch.dtype) -> Tensors:
    """The walk's numbers and gradients; on a GPU by kernels of passes, or it is not right."""
    generator = torch.Generator().manual_seed(5)
    sizes = ((B, T, D), (B, U + 1, D), (vocabulary, D), (vocabulary,))
    parts = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    parts = [part.bfloat16() if half else part for part in parts]  # what both compute with
    dtype = torch.bfloat16 if half and dtype == torch.float32 else dtype
    enc, dec, weights, bias = (part.to(device, dtype).requires_grad_() for part in parts)
    student = Joint(enc, dec, weights, bias)
    if device == "cuda" and fused(student) is None:
        raise RuntimeError("Triton's kernels were not used; the log says why")
    labels, t_len, u_len = lattice(device)
    labels = labels.clamp_max(vocabulary - 1)
    three = node_stats(student, labels, t_len, u_len)  # (B, T, U + 1, 3)
    there = torch.where(torch.isfinite(three), three, 0.0)
    weight = torch.linspace(1.0, 2.0, there.numel(), dtype=torch.float64).to(there)
    loss = (weight.view(there.shape) * there).sum()
    return [there.exp(), *torch.autograd.grad(loss, student[:4])]


def aligned(seed: int, device: str, dtype: torch.dtype) -> Joint:
    """Draw a joint network whose paths follow an alignment, as those of a trained one do."""
    drawn = [part.detach() for part in joint(seed, "cpu", torch.float64)[:4]]
    enc, dec, weight, bias = drawn
    labels, t_len, u_len = lattice("cpu")
    dec[:, :-1] += 2.0 * weight[labels]
    frame = torch.arange(T) / t_len[:, None]  # (B, T)
    enc[..., 0] = 2.0 * frame * (u_len[:, None] + 1)
    dec[..., 0] = -2.0 * (torch.arange(U + 1) + 1.0)
    weight[:, 0], weight[0, 0] = 7.0, -7.0
    parts = (enc, dec, weight / D**0.5, bias)
    enc, dec, weight, bias = (part.to(device, dtype).requires_grad_() for part in parts)
    return Joint(enc, dec, weight, bias)


def given_band(device: str, dtype: torch.dtype) -> Tensors:
    """Walk, recursion and gradients in a band of a few rows around the diagonal."""
    student, (labels, t_len, u_len) = aligned(0, device, dtype), lattice(device)
    t, u = torch.arange(T)[:, None], torch.arange(U + 1)
    centre = t / (t_len.cpu()[:, None, None] - 1) * u_len.cpu()[:, None, None]  # (B, T, 1)
    band = Band.of(((u - centre).abs() <= 3).to(device), t_len, u_len)
    grid = Grid(labels, t_len, u_len, band=band)
    loss = grid.loss(grid.stats(student))  # (B,)
    return [loss, *torch.autograd.grad(loss.mean(), student[:4])]


def followed(device: str, dtype: torch.dtype) -> Tensors:
    """Visits of the nodes at which a teacher on-line is looked at. (B, T, U + 1)"""
    return [follow(aligned(1, device, dtype).detach(), *lattice(device)).visits]


def banded(cached: bool, device: str, dtype: torch.dtype) -> Tensors:
    """Losses (B,), (B,) in a teacher's band and the gradients of the student's joint network."""
    student, teacher = aligned(0, device, dtype), aligned(1, device, dtype).detach()
    known: Any = teacher
    if cached:
        known = Posteriors(node_stats(teacher, *lattice(device)))
    losses = distillation_losses(student, known, *lattice(device), Objective(lattice="band"))
    if losses.band is None or float(losses.band.nodes) > 0.9:
        raise RuntimeError(f"the band is the whole lattice: {losses.band}")
    kd = distillation_of(losses)
    return [losses.rnnt, kd, *torch.autograd.grad((losses.rnnt + kd).mean(), student[:4])]


def mixed_precision(device: str, dtype: torch.dtype) -> Tensors:
    """Losses under bfloat16 autocast; the reference has none."""
    student, teacher = joint(0, device, dtype), joint(1, device, dtype).detach()
    with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.float32):
        losses = distillation_losses(student, teacher, *lattice(device))
    if losses.rnnt.dtype not in (torch.float32, torch.float64):
        raise RuntimeError(f"the losses are {losses.rnnt.dtype}, not float32 or better")
    return [losses.rnnt, distillation_of(losses)]


@functools.lru_cache(maxsize=None)
def _step(variant: str) -> Any:
    """Build a small model with its teacher, and a batch of noise, on the CPU."""
    import bench_step
    from benchdata import Length

    words = ["--student_blocks", "2", "--student_size", "32", "--joint", "32", "--device", "cpu"]
    words += ["--teacher_blocks", "2", "--teacher_size", "48", "--variants", variant]
    args = bench_step.get_parser().parse_args(words)
    lengths = [Length(60, 9), Length(33, 4)]
    return bench_step.Bench(args, 60, lengths).step(variant)


def training_step(variant: str, device: str, dtype: torch.dtype) -> Tensors:
    """The loss of a whole training step and all gradients; ESPnet's front end is float32."""
    ready = _step(variant)
    model = copy.deepcopy(ready.student).to(device).train()
    batch = {name: x.to(device) for name, x in ready.batch.items()}
    loss, stats, _ = model(**batch)
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [loss, torch.cat([grad.flatten() for grad in grads])]


def checks() -> Dict[str, Check]:
    """Return all pieces by name."""
    pieces = {"walk": Check(walk), "cache": Check(cache)}
    for kernel in KERNELS:
        # torchaudio's kernel is float32 throughout.
        pieces[f"recursion, {kernel}"] = Check(functools.partial(recursion, kernel), 2e-3)
    for vocabulary in (37, 500, 5000, 9001):
        pieces[f"passes by kernels, V {vocabulary}"] = Check(
            functools.partial(passes, vocabulary, False)
        )
    pieces["passes by kernels, V 500, bfloat16"] = Check(
        functools.partial(passes, 500, True), 6e-2
    )
    for name in OBJECTIVES:
        for divergence in DIVERGENCES if name != "full_sum" else DIVERGENCES[:1]:
            plain = name != "collapsed" or divergence != DIVERGENCES[0]
            for nodes in NODES[:1] if plain else NODES:
                options = {"objective": name, "divergence": divergence, "nodes": nodes}
                label = f"objective {name}, {divergence}, nodes {nodes}"
                pieces[label] = Check(functools.partial(objective, options))
    pieces["a band that is given"] = Check(given_band)
    # A row at the border may lie inside or not; it has next to no visits.
    pieces["paths of a teacher on-line"] = Check(followed, 1e-3)
    pieces["teacher's band, cached"] = Check(functools.partial(banded, True), 1e-3)
    pieces["teacher's band, on-line"] = Check(functools.partial(banded, False), 1e-3)
    pieces["bfloat16 autocast"] = Check(mixed_precision, 2e-2)
    for variant in ("ours", "ours_cached", "ours_collapsed", "ours_full"):
        label = "training step, " + {"ours": "teacher"}.get(variant, f"student, {variant[5:]}")
        pieces[label] = Check(functools.partial(training_step, variant), 2e-3)
    return pieces


def difference(values: Tensors, exact: Tensors) -> float:
    """Largest relative difference of the tensors; infinite where one is not finite."""
    worst = 0.0
    for value, reference in zip(values, exact):
        value, reference = value.detach().double().cpu(), reference.detach().double().cpu()
        if not bool(torch.isfinite(value).all()):
            return float("inf")
        scale = float(reference.norm()) or 1.0
        worst = max(worst, float((value - reference).norm()) / scale)
    return worst


def run_check(name: str, check: Check, device: str) -> Dict[str, Any]:
    """Compute one piece on the device in float32 and on the CPU in float64."""
    start = time.perf_counter()
    try:
        exact = check.compute("cpu", torch.float64)
        error = difference(check.compute(device, torch.float32), exact)
        problem = "" if error <= check.tolerance else f"differs by {error:.1e}"
    except Exception as e:  # the next piece may be right
        error, problem = None, " ".join(f"{type(e).__name__}: {e}".split())[:300]
    return row_of(check, error, problem, round(time.perf_counter() - start, 2))


def row_of(
    check: Check, error: Optional[float], problem: str, seconds: Optional[float]
) -> Dict[str, Any]:
    """Return what a results file holds of a piece."""
    tolerance = check.tolerance
    return {"error": error, "tolerance": tolerance, "problem": problem, "seconds": seconds}


def tried(name: str, check: Check, results: Results) -> Dict[str, Any]:
    """Compute a piece, or give it up where it was begun often enough and has never ended."""
    tries = len(results.of("tries", name))
    if tries >= MOST_TRIES:
        problem = f"begun {tries} times and never ended: a crash, or no time; not begun again"
        return row_of(check, None, problem, None)
    results.add("tries", name, [{}])
    return run_check(name, check, results.device)


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="what to check")
    parser.add_argument("--results", type=Path, required=True, help="file that rows go to")
    parser.add_argument("--seconds", type=float, default=60, help="start no piece after these")
    parser.add_argument("--only", default="", help="pieces with this in their names, such as band")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device")
    results, start = Results(args.results, args.device), time.monotonic()
    wanted = {name: check for name, check in checks().items() if args.only in name}
    todo = {name: wanted[name] for name in wanted if not results.has("checks", name)}
    unfinished = False
    for name in sorted(todo, key=lambda name: name != FORKS):
        if time.monotonic() - start > args.seconds:
            print(f"checks: the time is over before '{name}'; the same command goes on")
            unfinished = True
            break
        row = tried(name, todo[name], results)
        results.add("checks", name, [row])
        took = "" if row["seconds"] is None else f" ({row['seconds']} s)"
        print(f"checks: {name}: {row['problem'] or 'right'}{took}", flush=True)
    # Those of earlier calls, too, or the next one would say that all is done.
    wrong = any(row["name"] in wanted and row["problem"] for row in results.of("checks"))
    return 1 if wrong else 75 if unfinished else 0


if __name__ == "__main__":
    main()
