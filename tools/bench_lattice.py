"""Time and peak memory of joint network + loss, forward + backward, against torchaudio.

    python tools/bench_lattice.py --quick                # does it work? under a minute
    python tools/bench_lattice.py --csv lattice.csv      # the table of docs/benchmarks.md
    python tools/bench_lattice.py --vocabularies 500 --cells 200 --repeats 0   # memory only

Variants, all in one run on the same batch; ratios are to `plain`:

    plain                     torchaudio's rnnt_loss on materialised logits
    naive_full                + KL over the vocabulary, both lattices materialised
    naive_collapsed           + KL over {blank, next label, rest}, both materialised
    naive_collapsed_cached    the same, the teacher's three numbers a node given
    ours                      espnet_kd without distillation
    ours_collapsed_cached     espnet_kd, collapsed, the three numbers given
    ours_collapsed            espnet_kd, collapsed, teacher on-line
    ours_full                 espnet_kd, full vocabulary, teacher on-line

Joint networks are random. Before anything is timed, the losses of all variants are compared.
"""

import argparse
import functools
import math
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import benchcli
import benchlib
import naive_lattice as naive
import torch
from benchdata import Length, draw, lattice, read_lengths

from espnet_kd.errors import run_main
from espnet_kd.lattice import Joint, node_stats
from espnet_kd.objective import Losses, Objective, Posteriors, distillation_losses
from espnet_kd.progress import Progress


class Case(NamedTuple):
    """A batch: the student, the teacher, what a cache has of it, labels and lengths."""

    student: Joint
    teacher: Joint
    cache: Optional[torch.Tensor]
    lattice: naive.Lattice


def _plain(case: Case) -> Losses:
    return Losses(naive.plain(naive.logits_of(case.student), case.lattice), None)


def _ours(case: Case, teacher: object = None, objective: str = "collapsed") -> Losses:
    return distillation_losses(case.student, teacher, *case.lattice, Objective(objective))


VARIANTS: Dict[str, Callable[[Case], Losses]] = {
    "plain": _plain,
    "naive_full": lambda c: naive.full(c.student, c.teacher, c.lattice),
    "naive_collapsed": lambda c: naive.collapsed(c.student, c.teacher, None, c.lattice),
    "naive_collapsed_cached": lambda c: naive.collapsed(c.student, None, c.cache, c.lattice),
    "ours": _ours,
    "ours_collapsed_cached": lambda c: _ours(c, Posteriors(c.cache)),
    "ours_collapsed": lambda c: _ours(c, c.teacher),
    "ours_full": lambda c: _ours(c, c.teacher, "full"),
}


def make_case(
    lengths: Sequence[Length], vocabulary: int, dims: Sequence[int], device: str, seed: int
) -> Case:
    """Draw random joint networks for a batch; the cache is left out.

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

    def joint(dim: int) -> Joint:
        weight = torch.randn(vocabulary, dim, device=device) / dim**0.5
        parts = [torch.randn(B, T, dim, device=device), torch.randn(B, U + 1, dim, device=device)]
        return Joint(*parts, weight, torch.randn(vocabulary, device=device))

    student, teacher = joint(dims[0]), joint(dims[1])
    student = Joint(*(part.requires_grad_() for part in student[:4]))
    labels = torch.randint(1, vocabulary, (B, U), device=device)
    return Case(student, teacher, None, naive.Lattice(labels, t_len, u_len))


def step(variant: str, case: Case) -> Losses:
    """Forward and backward; the gradients are thrown away."""
    losses = VARIANTS[variant](case)
    loss = losses.rnnt.mean() if losses.kd is None else (losses.rnnt + losses.kd).mean()
    torch.autograd.grad(loss, case.student[:4])
    return Losses(*(None if x is None else x.detach() for x in losses))


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
        benchcli.check_losses(peaks)
        seconds = {name: [] for name in args.variants}
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
    parser.add_argument("--dim", type=int, default=256, help="width of the student's joint space")
    parser.add_argument("--teacher_dim", type=int, default=256, help="width of the teacher's")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = benchcli.parse(get_parser(), cmd)
    if args.quick:
        args.vocabularies, args.batch, args.shrink, args.repeats = [128, 500], 4, 8, 2
    benchcli.run("bench_lattice", args, functools.partial(measure, args), COLUMNS)


if __name__ == "__main__":
    main()
