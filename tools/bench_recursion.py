"""Time of the RNN-T recursion alone, forward + backward: both of ours, and torchaudio's kernel.

    python tools/bench_recursion.py                     # on the CPU, one thread
    python tools/bench_recursion.py --device cuda

What `lattice/recursion.py` prefers on a device is chosen by this: the lattice is given as two
log-probabilities a node, of the lengths of real speech; errors are to ours in float64.
"""

import argparse
import functools
import json
import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import benchlib
import torch
from benchdata import Length, draw, read_lengths
from torchaudio_recursion import KERNELS, triton_runs

from espnet_kd.cli import new_parser
from espnet_kd.errors import run_main


def step(log_probs: torch.Tensor, lengths: Sequence[torch.Tensor], kernel: str) -> torch.Tensor:
    """Return the gradient of the summed loss. (B, T, U + 1, 2) -> (B, T, U + 1, 2)"""
    log_probs = log_probs.detach().requires_grad_()
    loss = KERNELS[kernel](log_probs, *lengths).sum()
    return torch.autograd.grad(loss, log_probs)[0]


def measure(batch: Sequence[Length], device: str, repeats: int) -> Dict[str, str]:
    """Time all kernels on a batch; milliseconds and the gradient's relative error."""
    t_len, u_len = (torch.tensor(x, device=device) for x in zip(*batch))
    size = (len(batch), int(t_len.max()), int(u_len.max()) + 1, 500)
    torch.manual_seed(0)
    log_probs = torch.randn(size).log_softmax(-1)[..., :2].to(device)
    exact = step(log_probs.double(), (t_len, u_len), "diagonal")
    kernels = [k for k in KERNELS if k != "triton" or triton_runs(device)]
    runs = {k: functools.partial(step, log_probs, (t_len, u_len), k) for k in kernels}
    found = {"B": str(size[0]), "T": str(size[1]), "U": str(size[2] - 1)}
    errors = {k: float((run() - exact).norm() / exact.norm()) for k, run in runs.items()}
    for kernel, seconds in benchlib.interleaved(runs, repeats, device).items():
        found[f"{kernel}, ms"] = f"{1000 * statistics.median(seconds):.1f}"
        found[f"{kernel}, error"] = f"{errors[kernel]:.0e}"
    return found


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--repeats", type=int, default=7, help="timed rounds")
    add("--batches", type=int, nargs="+", default=[1, 4, 16], help="utterances of each batch")
    add("--json", type=Path, help="write the rows here, too")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    benchlib.prepare(args.device, args.threads, True)
    utterances = read_lengths(None, 500).utterances
    rows: List[Dict[str, str]] = []
    for i, size in enumerate(args.batches):
        row = measure(draw("sorted", utterances, size, 1e12, 500, 0), args.device, args.repeats)
        lines = [] if i else [list(row), ["--:"] * len(row)]
        for line in [*lines, row.values()]:
            print("| " + " | ".join(line) + " |", flush=True)
        rows.append(row)
        if args.json:  # after each: a stop leaves what is done
            args.json.write_text(json.dumps(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
