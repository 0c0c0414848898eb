"""The largest batch of which joint network and loss fit into a GPU, ours and materialised.

    python tools/gpu/largest.py --device cuda --vocabulary 5000 --json largest.json

Utterances of the corpus's mean length are added by doubling, then halving, until the memory is
used up or `--most` is reached.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bench_lattice  # noqa: E402
from benchdata import Length, read_lengths  # noqa: E402

from espnet_kd.cli import new_parser  # noqa: E402
from espnet_kd.errors import UserError, run_main  # noqa: E402
from espnet_kd.peak_memory import in_child  # noqa: E402

# torchaudio's kernel counts a lattice in 32-bit numbers.
NO_ROOM = ("out of memory", "OutOfMemory", "too large", "CUDA error")
VARIANTS = ("plain", "naive_full", "ours", "ours_collapsed", "ours_full")


def fits(variant: str, lengths: Sequence[Length], args: argparse.Namespace) -> bool:
    """Tell whether forward and backward of a batch find room."""
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_lattice.Bench(args, lengths, args.vocabulary, folder)
        try:
            in_child(functools.partial(bench.memory, variant))
        except RuntimeError as e:
            if any(words in str(e) for words in NO_ROOM):
                return False
            raise
    return True


def largest(variant: str, length: Length, args: argparse.Namespace) -> int:
    """Return the most utterances of a length that fit; 0: not even one."""
    good, bad = 0, None
    size = 1
    while bad is None and good < args.most:
        if fits(variant, [length] * size, args):
            good, size = size, min(2 * size, args.most)
        else:
            bad = size
    while bad is not None and bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(variant, [length] * middle, args) else (good, middle)
    return good


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cuda", help="where to compute")
    add("--vocabulary", type=int, default=5000, help="V")
    add("--most", type=int, default=512, help="utterances to try at most")
    add("--shrink", type=int, default=1, help="divide the length by this")
    add("--corpus", type=Path, help="set whose mean length is taken")
    add("--json", type=Path, required=True, help="write the rows here")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device")
    args.dim = args.teacher_dim = 256
    args.threads, args.flush_denormals, args.seed, args.variants = 1, True, 0, list(VARIANTS)
    utterances = read_lengths(args.corpus, args.vocabulary).utterances
    mean = Length(*(round(statistics.fmean(x)) for x in zip(*utterances))).shorter(args.shrink)
    rows: List[Dict[str, Any]] = []
    for variant in VARIANTS:
        most = largest(variant, mean, args)
        words = {"V": args.vocabulary, "T": mean.frames, "U": mean.labels, "variant": variant}
        rows.append({**words, "utterances": most, "tried_at_most": args.most})
        size = f"T {mean.frames}, U {mean.labels}"
        print(f"largest: {variant}: {most} utterances of {size}", flush=True)
        args.json.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
