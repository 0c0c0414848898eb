"""Time and peak memory of joint network + loss, forward + backward, against torchaudio.

    python tools/bench_lattice.py --quick                # two utterances, one thread: a minute
    python tools/bench_lattice.py --csv lattice.csv      # the table of docs/benchmarks.md
    python tools/bench_lattice.py --vocabularies 500 --cells 200 --repeats 0   # memory only

Variants, all in one run on the same batch; ratios are to `plain`:

    plain                     torchaudio's rnnt_loss on materialised logits
    naive_full                + KL over the vocabulary, both lattices materialised
    naive_collapsed           + KL over {blank, next label, rest}, both materialised
    naive_collapsed_cached    the same, the teacher's three numbers a node given
    ours                      espnet_kd without distillation
    ours_collapsed_cached     espnet_kd, collapsed, the three numbers given
    operators_cached          the same without kernels for passes over logits; differs on a GPU,
                              and is measured where it is named
    ours_collapsed            espnet_kd, collapsed, teacher on-line
    ours_full                 espnet_kd, full vocabulary, teacher on-line
    ours_top_k                espnet_kd, the teacher's 8 likeliest tokens, teacher on-line
    floor, floor_full         the matrix products of the walks alone, without a teacher and with
                              one on-line whose logits are computed twice, as `ours_full` does
    fast_rnnt                 k2's pruned loss (s_range 5), its simple loss and projections
                              included; where `fast_rnnt` can be imported
    ours_band_cached          as ours_collapsed_cached, in the band of the teacher's paths
    ours_band                 as ours_collapsed, in the band of the teacher's paths

Joint networks are random, but that label and blank follow an alignment as those of a trained
model do: else there would be no paths to make a band around. Before anything is timed, the losses
of all variants that compute the same are compared. `fast_rnnt`
and the bands leave paths out, each its own.
"""

import argparse
import functools
import importlib.util
import math
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence
from unittest import mock

import benchcli
import benchlib
import naive_lattice as naive
import torch
import torch.nn.functional as F
from benchdata import Length, draw, lattice, read_lengths

from espnet_kd.errors import run_main
from espnet_kd.lattice import Joint, node_stats, stats
from espnet_kd.objective import Losses, Objective, Posteriors, distillation_losses
from espnet_kd.progress import Progress

SLOPE, SURE = 2.0, 7.0  # of the alignment: see `make_case`


class Case(NamedTuple):
    """A batch: the student, the teacher, what a cache has of it, labels and lengths.

    `simple` are the projections of k2's simple loss. (V, D) each
    """

    student: Joint
    teacher: Joint
    cache: Optional[torch.Tensor]
    lattice: naive.Lattice
    simple: Sequence[torch.Tensor]


def _plain(case: Case) -> Losses:
    return Losses(naive.plain(naive.logits_of(case.student), case.lattice), None)


def _ours(
    case: Case, teacher: Any = None, objective: str = "collapsed", lattice: str = "full"
) -> Losses:
    # Training asks one batch of 25 for its agreement.
    options = Objective(objective, lattice=lattice)
    labels, t_len, u_len = case.lattice
    return distillation_losses(
        case.student, teacher, labels, t_len, u_len, options, measure_agreement=False
    )


def _cached(case: Case, lattice: str = "full") -> Losses:
    if case.cache is None:
        raise RuntimeError("the batch has no cache")
    return _ours(case, Posteriors(case.cache), lattice=lattice)


def _by_operators(case: Case) -> Losses:
    """RNN-T and collapsed, cached, without the kernels that passes over logits are on a GPU."""
    with mock.patch.object(stats, "fused", lambda joint: None):
        return _cached(case)


def _fast_rnnt(case: Case) -> Losses:
    """k2's recipe: smoothed simple loss, ranges from its gradient, pruned loss."""
    import fast_rnnt

    enc, dec, weight, bias = case.student[:4]
    labels, t_len, u_len = case.lattice
    boundary = torch.zeros(len(t_len), 4, dtype=torch.int64, device=enc.device)
    boundary[:, 2], boundary[:, 3] = u_len, t_len
    lattice = {"symbols": labels, "termination_symbol": 0, "boundary": boundary}
    # Projections of its own to V, as large as the output layer.
    am, lm = F.linear(enc, case.simple[0]), F.linear(dec, case.simple[1])
    simple, grads = fast_rnnt.rnnt_loss_smoothed(
        lm=lm, am=am, lm_only_scale=0.25, reduction="none", return_grad=True, **lattice
    )
    ranges = fast_rnnt.get_rnnt_prune_ranges(*grads, boundary, 5)
    am, lm = fast_rnnt.do_rnnt_pruning(am=enc, lm=dec, ranges=ranges)
    logits = F.linear(torch.tanh(am + lm), weight, bias)  # (B, T, 5, V)
    pruned = fast_rnnt.rnnt_loss_pruned(logits=logits, ranges=ranges, reduction="none", **lattice)
    return Losses(pruned + 0.5 * simple, None)


def _floor(case: Case, forwards: int) -> Losses:
    """Multiply as often as the walks do: logits some times, and both gradients."""
    _, dec, weight, bias = (part.detach() for part in case.student[:4])
    nodes = int((case.lattice.t_len * (case.lattice.u_len + 1)).sum())
    z = dec.new_ones(1000, dec.size(-1))  # (n, D)
    total = torch.zeros_like(weight)  # (V, D)
    for _ in range(0, nodes, len(z)):
        for _ in range(forwards):
            logits = torch.addmm(bias, z, weight.t())  # (n, V)
        total.addmm_(logits.t(), z)
        logits @ weight
    return Losses(dec.new_full((len(dec),), math.nan), None)


FLOORS = {"floor": 2, "floor_full": 4}
VARIANTS: Dict[str, Callable[[Case], Losses]] = {
    "plain": _plain,
    "naive_full": lambda c: naive.full(c.student, c.teacher, c.lattice),
    "naive_collapsed": lambda c: naive.collapsed(c.student, c.teacher, None, c.lattice),
    "naive_collapsed_cached": lambda c: naive.collapsed(c.student, None, c.cache, c.lattice),
    "ours": _ours,
    "ours_collapsed_cached": _cached,
    "ours_collapsed": lambda c: _ours(c, c.teacher),
    "ours_full": lambda c: _ours(c, c.teacher, "full"),
    "ours_top_k": lambda c: _ours(c, c.teacher, "top_k"),
    "operators_cached": _by_operators,
    **{name: functools.partial(_floor, forwards=n) for name, n in FLOORS.items()},
    "ours_band_cached": lambda c: _cached(c, "band"),
    "ours_band": lambda c: _ours(c, c.teacher, lattice="band"),
}
if importlib.util.find_spec("fast_rnnt"):
    VARIANTS["fast_rnnt"] = _fast_rnnt
OTHERS = ("fast_rnnt", "ours_band_cached", "ours_band", *FLOORS)  # have other losses


def make_case(
    lengths: Sequence[Length], vocabulary: int, dims: Sequence[int], device: str, seed: int
) -> Case:
    """Draw joint networks for a batch, random but for an alignment; the cache is left out.

    Unit 0 compares the place of frame and row, and tells blank and labels apart; the others
    carry a code of the next label beside their noise. With these factors the band holds 3 to 5
    rows of a frame, as measured on trained models.

    Args:
        lengths: The batch.
        vocabulary: V
        dims: Width of the student's and of the teacher's joint space.
        device: Where to.
        seed: Of the weights and labels.
    """
    torch.manual_seed(seed)
    t_len, u_len = (torch.tensor(x, device=device) for x in zip(*lengths))
    B, T, U = len(lengths), int(t_len.max()), int(u_len.max())

    labels = torch.randint(1, vocabulary, (B, U), device=device)

    def joint(dim: int) -> Joint:
        weight = torch.randn(vocabulary, dim, device=device) / dim**0.5
        enc, dec = torch.randn(B, T, dim, device=device), torch.randn(B, U + 1, dim, device=device)
        dec[:, :-1] += 2.0 * dim**0.5 * weight[labels]
        t = torch.arange(T, device=device) / t_len[:, None]  # (B, T)
        enc[..., 0] = SLOPE * t * (u_len[:, None] + 1)
        dec[..., 0] = -SLOPE * (torch.arange(U + 1, device=device) + 1.0)
        weight[:, 0], weight[0, 0] = SURE, -SURE
        return Joint(enc, dec, weight, torch.randn(vocabulary, device=device))

    student, teacher = joint(dims[0]), joint(dims[1])
    for part in student[:4]:
        part.requires_grad_()
    simple = [torch.randn(vocabulary, dims[0], device=device) / dims[0] ** 0.5 for _ in range(2)]
    simple = [part.requires_grad_() for part in simple]
    return Case(student, teacher, None, naive.Lattice(labels, t_len, u_len), simple)


def step(variant: str, case: Case) -> Losses:
    """Forward and backward; the gradients are thrown away."""
    losses = VARIANTS[variant](case)
    if variant in FLOORS:
        return losses
    loss = losses.rnnt.mean() if losses.kd is None else (losses.rnnt + losses.kd).mean()
    more = case.simple if variant == "fast_rnnt" else ()
    torch.autograd.grad(loss, [*case.student[:4], *more])
    return Losses(losses.rnnt.detach(), None if losses.kd is None else losses.kd.detach())


class Bench:
    """The measurements of one batch.

    Args:
        args: The command line.
        lengths: The batch.
        vocabulary: V
        folder: For the teacher's cache.
    """

    def __init__(
        self, args: argparse.Namespace, lengths: Sequence[Length], vocabulary: int, folder: str
    ) -> None:
        self.args, self.lengths, self.vocabulary = args, lengths, vocabulary
        self.cache = Path(folder) / "cache.pt"

    def write_cache(self) -> None:
        """Compute the teacher's three numbers a node (in a child)."""
        case = self._case()
        with torch.no_grad():
            torch.save(node_stats(case.teacher, *case.lattice).cpu(), self.cache)

    def memory(self, variant: str) -> Dict[str, float]:
        """Peak memory and losses of a variant (in a child)."""
        benchlib.return_freed_memory()
        self._warm_up([variant])
        case = self._case()
        with benchlib.PeakMemory(self.args.device) as peak:
            # What a cache holds is counted: it lies beside the lattice.
            losses = step(variant, self._with_cache(variant, case))
        kd = math.nan if losses.kd is None else float(losses.kd.sum())
        return {"bytes": peak.used, "rnnt": float(losses.rnnt.sum()), "kd": kd}

    def seconds(self) -> Dict[str, List[float]]:
        """Times of all variants, taken in turn (in a child)."""
        self._warm_up(self.args.variants)
        case = self._case()
        cases = {name: self._with_cache(name, case) for name in self.args.variants}
        runs = {name: functools.partial(step, name, cases[name]) for name in cases}
        return benchlib.interleaved(runs, self.args.repeats, self.args.device)

    def _case(self, lengths: Optional[Sequence[Length]] = None) -> Case:
        args = self.args
        benchlib.prepare(args.device, args.threads, args.flush_denormals)
        lengths, dims = lengths or self.lengths, (args.dim, args.teacher_dim)
        return make_case(lengths, self.vocabulary, dims, args.device, args.seed)

    def _with_cache(self, variant: str, case: Case) -> Case:
        if not variant.endswith("cached"):
            return case
        return case._replace(cache=torch.load(self.cache, map_location=self.args.device))

    def _warm_up(self, variants: Sequence[str]) -> None:
        # A small lattice: libraries make their threads and buffers.
        case = self._case([Length(8, 4), Length(5, 2)])
        with torch.no_grad():
            case = case._replace(cache=node_stats(case.teacher, *case.lattice))
        for variant in variants:
            step(variant, case)


def measure(
    args: argparse.Namespace, kind: str, vocabulary: int, progress: Progress
) -> List[benchcli.Row]:
    """Measure all variants on one batch; one row a variant."""
    found = read_lengths(args.corpus, vocabulary)
    utterances = [x.shorter(args.shrink) for x in found.utterances]
    batch = draw(kind, utterances, args.batch, args.cells * 1e6, vocabulary, args.seed)
    own = sum(x.frames * (x.labels + 1) for x in batch)  # nodes without padding
    nodes = lattice(batch)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, batch, vocabulary, folder)
        benchlib.in_child(bench.write_cache)
        peaks = {}
        for name in args.variants:
            peaks[name] = benchlib.in_child(functools.partial(bench.memory, name))
            progress.update()
        benchcli.check_losses({name: peaks[name] for name in peaks if name not in OTHERS})
        seconds: Dict[str, List[float]] = {name: [] for name in args.variants}
        if args.repeats:
            seconds = benchlib.in_child(bench.seconds)
            progress.update(args.repeats * len(args.variants))
    rows = []
    for name in args.variants:
        rows.append(
            {
                "batch": kind,
                "V": vocabulary,
                "D": args.dim,
                "D_teacher": args.teacher_dim,
                "B": len(batch),
                "T": max(x.frames for x in batch),
                "U": max(x.labels for x in batch),
                "padding": round(nodes / own, 3),
                "lattice_mb": round(4 * nodes * vocabulary / benchlib.MB, 1),
                "variant": name,
                "peak_mb": round(peaks[name]["bytes"] / benchlib.MB, 1),
                "peak_lattices": round(peaks[name]["bytes"] / (4 * nodes * vocabulary), 3),
                **benchcli.times(seconds[name]),
                "repeats": args.repeats,
                **benchcli.loss_columns(peaks[name]),
                "flush_denormals": args.flush_denormals,
                "lengths": found.source,
                **benchcli.machine(args.device, args.threads),
            }
        )
    return rows


COLUMNS = {
    "batch": "batch",
    "V": "V",
    "B": "B",
    "padding": "padding",
    "variant": "variant",
    "peak_mb": "peak MB",
    "peak_lattices": "in lattices",
    "peak_ratio": "peak / plain",
    "time_ms": "ms",
    "time_ratio": "time / plain",
}


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = benchcli.get_parser(__doc__, list(VARIANTS), [128, 500, 1000, 5000])
    # On a CPU it is ours_collapsed_cached once more.
    parser.set_defaults(variants=[name for name in VARIANTS if name != "operators_cached"])
    parser.add_argument("--dim", type=int, default=256, help="width of the student's joint space")
    parser.add_argument("--teacher_dim", type=int, default=256, help="width of the teacher's")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = benchcli.parse(get_parser(), cmd)
    if args.quick:
        # Lattices of real size: at a few nodes the figures would be of calls, not of work.
        args.vocabularies, args.batches, args.batch, args.repeats = [500], ["sorted"], 2, 1
        args.variants = [name for name in args.variants if not name.startswith("naive")]
        args.threads = args.threads or 1
    benchcli.run("bench_lattice", args, functools.partial(measure, args), COLUMNS)


if __name__ == "__main__":
    main()
