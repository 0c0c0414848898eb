"""The benchmarks, case by case, each a process of its own with a time limit.

    python tools/gpu/timing_cases.py --device cuda --results results.jsonl --seconds 180

Cases that the results hold already are left out; none is started that the time left is too short
for. Which they are, in the order of their value, stands in `CASES`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from espnet_kd.cli import new_parser  # noqa: E402
from espnet_kd.errors import run_main  # noqa: E402
from tools.gpu.result_rows import Results  # noqa: E402

TOOLS = Path(__file__).resolve().parents[1]


class Case(NamedTuple):
    """A benchmark.

    Attributes:
        name: In the results.
        program: Below tools/.
        words: Its options on a GPU.
        small: Its options in a rehearsal on a CPU.
        seconds: Least time that it is started with, on a GPU.
    """

    name: str
    program: str
    words: str
    small: str
    seconds: float = 15


LOSS = "ours ours_collapsed_cached ours_collapsed ours_full"
BANDS = "ours_band_cached ours_band"
STEPS = "plain ours ours_cached ours_collapsed ours_full teacher_forward"
TINY = "--student_blocks 2 --student_size 32 --teacher_blocks 2 --teacher_size 48"
CASES = [
    Case(
        "passes by kernels, V 500",
        "bench_lattice.py",
        "--vocabularies 500 --batches sorted --batch 64 --cells 1500 "
        "--variants plain ours_collapsed_cached operators_cached",
        "--vocabularies 500 --batches sorted --batch 2 --cells 20 --shrink 4 --repeats 1 "
        "--variants plain ours_collapsed_cached operators_cached",
    ),
    Case(
        "joint and loss, V 500",
        "bench_lattice.py",
        f"--vocabularies 500 --batches sorted --batch 64 --cells 1500 --variants plain {LOSS}",
        "--vocabularies 500 --batches sorted --batch 2 --cells 20 --shrink 4 --repeats 1",
    ),
    Case(
        "joint and loss, V 5000",
        "bench_lattice.py",
        f"--vocabularies 5000 --batches sorted --batch 64 --cells 1500 --variants plain {LOSS}",
        "--vocabularies 5000 --batches sorted --batch 1 --cells 20 --shrink 8 --repeats 1",
    ),
    Case(
        "recursion",
        "bench_recursion.py",
        "--batches 1 4 16 64",
        "--batches 1 2 --repeats 1",
    ),
    Case(
        "profile of a step",
        "gpu/step_profile.py",
        "--vocabularies 500 --batches unsorted --batch 32 --cells 1500",
        f"--vocabularies 100 --batches unsorted --batch 2 --shrink 8 --repeats 1 {TINY}",
        25,
    ),
    Case(
        "whole step, V 500",
        "bench_step.py",
        f"--vocabularies 500 --batches unsorted --batch 32 --cells 1500 --variants {STEPS}",
        f"--quick --variants {STEPS}",
        25,
    ),
    # Cases of their own: what a band breaks must not take the others along.
    Case(
        "joint and loss in the band, V 500",
        "bench_lattice.py",
        "--vocabularies 500 --batches sorted --batch 64 --cells 1500 --repeats 2 "
        f"--variants plain ours_collapsed_cached {BANDS}",
        "--vocabularies 500 --batches sorted --batch 2 --cells 20 --shrink 4 --repeats 1 "
        f"--variants plain {BANDS}",
    ),
    Case(
        "profile of a step in the band",
        "gpu/step_profile.py",
        f"--vocabularies 500 --batches unsorted --batch 32 --cells 1500 "
        f"--ways packed --variants ours_cached ours_collapsed {BANDS}",
        "--vocabularies 100 --batches unsorted --batch 2 --shrink 8 --repeats 1 "
        f"--ways packed --variants {BANDS} {TINY}",
    ),
    Case(
        "whole step in the band, V 500",
        "bench_step.py",
        "--vocabularies 500 --batches unsorted --batch 32 --cells 1500 --repeats 2 "
        f"--variants plain ours_cached {BANDS}",
        f"--quick --variants plain {BANDS}",
        20,
    ),
    Case(
        "whole step, V 5000",
        "bench_step.py",
        f"--vocabularies 5000 --batches unsorted --batch 32 --cells 1500 --variants {STEPS}",
        f"--quick --vocabularies 200 --variants {STEPS}",
        25,
    ),
    Case(
        "largest batch, V 5000",
        "gpu/largest.py",
        "--vocabulary 5000 --most 512",
        "--vocabulary 500 --most 2 --shrink 8",
        30,
    ),
    Case(
        "largest batch, V 500",
        "gpu/largest.py",
        "--vocabulary 500 --most 512",
        "--vocabulary 100 --most 2 --shrink 8",
        30,
    ),
    Case(
        "joint and loss, all variants, V 500",
        "bench_lattice.py",
        "--vocabularies 500 --batches unsorted equal --batch 32 --cells 600 --variants plain "
        f"naive_full naive_collapsed naive_collapsed_cached {LOSS}",
        "--vocabularies 50 --batches unsorted --batch 2 --shrink 8 --repeats 1",
    ),
]


def run(case: Case, args: argparse.Namespace, limit: float) -> List[Dict[str, Any]]:
    """Run a benchmark; its rows, or one that says what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        words = case.words if args.device == "cuda" else case.small
        command = [sys.executable, str(TOOLS / case.program), "--device", args.device]
        command += [*words.split(), "--json", str(rows)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        start = time.monotonic()
        # A group of its own: what it has forked ends with it.
        done = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = done.communicate(timeout=limit)
            problem = "" if done.returncode == 0 else f"exit code {done.returncode}: "
            problem += " ".join(printed.split())[-300:] if problem else ""
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            problem = f"ended after {limit:.0f} s"
        finally:
            if done.poll() is None:
                os.killpg(done.pid, signal.SIGKILL)
                done.wait()
        found = json.loads(rows.read_text()) if rows.exists() else []
        took = {"case_seconds": round(time.monotonic() - start, 1)}
        return [{**row, **took} for row in found] or [{"problem": problem or "no rows", **took}]


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cuda", help="what to measure")
    add("--results", type=Path, required=True, help="file that rows go to")
    add("--seconds", type=float, default=180, help="for all cases of this call")
    add("--only", default="", help="cases with this in their names, such as band")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    results, end = Results(args.results, args.device), time.monotonic() + args.seconds
    for case in (case for case in CASES if args.only in case.name):
        left = end - time.monotonic()
        if results.has("tables", case.name):
            continue
        if left < case.seconds:
            print(f"tables: the time is over before '{case.name}'; the same command goes on")
            return 75
        rows = run(case, args, left)
        problem = rows[0].get("problem", "")
        if problem.startswith("ended after") and left < args.seconds * 0.9:
            print(f"tables: {case.name}: {problem}; it is tried again in the next call")
            return 75
        results.add("tables", case.name, rows)
        print(f"tables: {case.name}: {problem or f'{len(rows)} rows'}", flush=True)
    return 0


if __name__ == "__main__":
    main()
