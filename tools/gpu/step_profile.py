"""What one training step waits for: kernels launched, host waits, the share of the loss.

    python tools/gpu/step_profile.py --device cuda --json profile.json

Each variant goes two ways, in the same run: `packed`, chunks across utterances and, on a GPU, the
recursion by Triton's kernels; `step by step`, one utterance after the other and the recursion by
torch's operators, as it was before. The share of joint network and loss is what a step is shorter
by where they are replaced by the sum of their inputs, in the same run, interleaved. On a CPU
operators are counted, not kernels. `items_read` are mostly the optimizer's counters of updates,
one a parameter, which lie on the host.
"""

import argparse
import contextlib
import functools
import json
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bench_step  # noqa: E402
import benchlib  # noqa: E402
from benchdata import draw, read_lengths  # noqa: E402
from torchaudio_recursion import triton_runs  # noqa: E402

from espnet_kd.errors import run_main  # noqa: E402
from espnet_kd.lattice import recursion, stats  # noqa: E402
from espnet_kd.objective import Losses  # noqa: E402

VARIANTS = ("ours", "ours_cached", "ours_collapsed", "ours_full")  # and bands, by --variants
WAYS = ("packed", "step by step")
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
# The host stops until the device has done all that was asked for.
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def stand_in(student: Any, teacher: Any, *lattice: Any, **options: Any) -> Losses:
    """Take the place of joint network and loss, with gradients for the same tensors."""
    parts = [student.enc.sum((1, 2)), student.dec.sum((1, 2))]  # (B,), (B,)
    loss = 1e-3 * sum(parts) + 0 * (student.weight.sum() + student.bias.sum())
    if teacher is None:
        return Losses(loss, None)
    return Losses(loss, loss, torch.zeros_like(loss))


@contextlib.contextmanager
def without_loss() -> Iterator[None]:
    """Replace joint network and loss of our model."""
    with mock.patch("espnet_kd.espnet.terms.distillation_losses", stand_in):
        yield


@contextlib.contextmanager
def going(way: str, device: str) -> Iterator[None]:
    """Make the walk and the recursion go one of the two ways."""
    packed = way == "packed"
    kernels = packed and triton_runs(device)
    with mock.patch.object(stats, "packs", lambda device: packed):
        with mock.patch.object(recursion, "by_kernels", lambda device: kernels):
            yield


def count(step: Any, device: str) -> Dict[str, int]:
    """Profile one step: launches, waits, copies to the host, operators."""
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device == "cuda" else []
    with profile(activities=activities) as profiled:
        step()
        benchlib.synchronize(device)  # one wait of ours
    counts = {event.key: event.count for event in profiled.key_averages()}
    waits = sum(counts.get(name, 0) for name in WAITS)
    return {
        "kernels": sum(counts.get(name, 0) for name in LAUNCHES),
        "host_waits": max(0, waits - 1) if device == "cuda" else 0,
        "items_read": counts.get("aten::_local_scalar_dense", 0),
        "operators": sum(n for name, n in counts.items() if name.startswith("aten::")),
    }


def measure(
    bench: bench_step.Bench, variant: str, args: argparse.Namespace
) -> List[Dict[str, Any]]:
    """Profile and time one variant, both ways (in a child)."""
    benchlib.prepare(args.device, args.threads, args.flush_denormals)
    bench.step(variant, bench_step.WARM_UP)()
    step = bench.step(variant)
    step()

    def whole(way: str) -> None:
        step.in_the_middle()
        with going(way, args.device):
            step()

    def bare() -> None:
        step.in_the_middle()
        with without_loss():
            step()

    runs = {way: functools.partial(whole, way) for way in args.ways}
    counts = {}
    for way, run in runs.items():
        run()  # kernels are compiled
        counts[way] = count(run, args.device)
    bare()
    seconds = benchlib.interleaved({**runs, "bare": bare}, max(1, args.repeats), args.device)
    ms = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    used = recursion.kernel_ways() is not None and triton_runs(args.device)
    return [
        {
            "way": way,
            "recursion": "Triton" if used and way == "packed" else "operators",
            **counts[way],
            "share_of_loss": round(1 - ms["bare"] / ms[way], 3),
            "ms": round(ms[way], 2),
            "time / step by step": round(ms[way] / ms[WAYS[1]], 3) if WAYS[1] in ms else None,
        }
        for way in args.ways
    ]


@run_main
def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    parser = bench_step.get_parser()
    parser.description = __doc__
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="see above")
    parser.set_defaults(vocabularies=[500], batches=["unsorted"], variants=list(VARIANTS))
    args = bench_step.benchcli.parse(parser, argv)
    rows: List[Dict[str, Any]] = []
    for vocabulary in args.vocabularies:
        utterances = read_lengths(args.corpus, vocabulary).utterances
        utterances = [x.shorter(args.shrink) for x in utterances]
        lengths = draw(args.batches[0], utterances, args.batch, args.cells * 1e6, vocabulary, 0)
        bench = bench_step.Bench(args, vocabulary, lengths)
        frames, labels = max(x.frames for x in lengths), max(x.labels for x in lengths)
        for variant in args.variants:
            measured = benchlib.in_child(functools.partial(measure, bench, variant, args))
            words = {"V": vocabulary, "B": len(lengths), "T": frames, "U": labels}
            rows += [{**words, "variant": variant, **row} for row in measured]
            print(f"profile: {variant}: {measured}", flush=True)
            Path(args.json or "profile.json").write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
