"""Faults, injected into real runs of the recipe, seeded; each outcome becomes a line of JSON.

    python -m tests.faults.run --seed 1 --minutes 35

Cases that the file of results has already are not run again: the same command goes on after an
interruption. `--list` names the cases, `--case EXPRESSION` chooses some of them. For a
table of what came out: python -m tests.faults.fault_table RESULTS.
"""

import argparse
import concurrent.futures
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

from tests.faults import damage
from tests.faults.forking import REPO, PreloadedPython
from tests.faults.kills import killed_case, mixed_ways
from tests.faults.snapshots import Context
from tests.faults.surroundings import clock_case, full_disk_case, orphan_case, twice_case

ROOMS = ("undisturbed", "kills", "damage", "disk", "clock", "twice", "fuzz")
FUZZ_CASES = 10_000
GOOD = {"same end", "redone", "refused", "no effect", "the second is refused", "clean", "missed"}


class Planned(NamedTuple):
    room: str
    name: str
    run: Callable[[Context, str], dict]


def plan(seed: int, fuzz_cases: int = FUZZ_CASES) -> List[Planned]:
    """All cases, in an order in which an early end leaves some of each."""
    rooms: Dict[str, List[Planned]] = {room: [] for room in ROOMS}

    def add(room: str, name: str, run: Callable[[Context, str], dict]) -> None:
        rooms[room].append(Planned(room, name, run))

    add("undisturbed", "once more", lambda c, d: killed_case(c.copy("fresh", d), c, 0, []))
    for n in range(12):
        ways = mixed_ways(random.Random(f"{seed} kills {n}"), 6)

        def kill(context, folder, n=n, ways=ways):
            number = random.Random(f"{seed} moments {n}").randrange(2**32)
            return killed_case(context.copy("fresh", folder), context, number, ways)

        add("kills", f"run {n + 1}, {len(ways)} kills", kill)
    for case in damage.cases():

        def harm(context, folder, case=case):
            return damage.damaged_case(context.copy(case.moment, folder), context, case, seed)

        add("damage", case.name, harm)
    random.Random(seed).shuffle(rooms["damage"])
    for n in range(4):
        add("disk", f"disk {n + 1}", lambda c, d, n=n: full_disk_case(c, d, seed * 1000 + n))
    for moment in ("done", "stage 17", "student", "teacher"):
        for way in ("back", "forward", "mixed", "same"):

            def jump(context, folder, moment=moment, way=way):
                return clock_case(context, moment, folder, seed, way)

            # What goes on from the middle takes longer: one way of each.
            if moment in ("done", "stage 17") or way == "mixed":
                add("clock", f"{way} ({moment})", jump)
    for n, moment in enumerate(("fresh", "stage 10", "stage 13", "stage 16/1")):
        add("twice", f"from {moment}", lambda c, d, m=moment, n=n: twice_case(c, m, d, seed + n))
    add("twice", "a killed script's child still trains", lambda c, d: orphan_case(c, d, seed))
    for path in sorted(Path(__file__).parent.glob("fuzz_*.py")):
        add("fuzz", path.stem, lambda c, d, p=path: fuzz_case(p.stem, fuzz_cases, seed))
    ordered = [(n / len(cases), i, n) for i, cases in enumerate(rooms.values())
               for n in range(len(cases))]  # fmt: skip
    return [list(rooms.values())[i][n] for _, i, n in sorted(ordered)]


def fuzz_case(module: str, cases: int, seed: int) -> dict:
    """Another module's `run(cases, seed)`, in a process of its own."""
    script = (
        f"import json; from tests.faults.{module} import run; counts = run({cases}, {seed});"
        "print('fuzz result', json.dumps({**vars(counts), 'clean': counts.clean}, default=str))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=1800
    )
    if done.returncode:
        return {"verdict": "failed", "tries": cases, "error": done.stderr[-2000:]}
    line = next(x for x in done.stdout.splitlines() if x.startswith("fuzz result "))
    counts = json.loads(line[len("fuzz result ") :])
    return {"verdict": "clean" if counts["clean"] else "not clean", "tries": cases, **counts}


class Results:
    """The file of results: one line a case, after one that says what was run."""

    def __init__(self, path: Path, head: dict) -> None:
        self.path = path
        self.done: Dict[str, dict] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            old = lines[0] if lines else {}
            if any(old.get(key) != head[key] for key in ("seed", "commit")):
                sys.exit(
                    f"run: error: {path} holds results of commit {old.get('commit')} with seed "
                    f"{old.get('seed')}, now it is {head['commit']} with {head['seed']}: name "
                    "another file with --results"
                )
            self.done = {f"{r['room']}/{r['name']}": r for r in lines[1:]}
        else:
            self._append(head)

    def add(self, record: dict) -> None:
        with self._lock:
            self._append(record)

    def _append(self, record: dict) -> None:
        with open(self.path, "a") as f:
            f.write(json.dumps(record) + "\n")


def commit_of(checkout: Path) -> str:
    words = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}"


def run_case(context: Context, planned: Planned, keep: bool) -> dict:
    folder = "".join(c if c.isalnum() else "-" for c in f"{planned.room}-{planned.name}")
    start = time.monotonic()
    try:
        record = planned.run(context, folder)
    except FileNotFoundError as e:
        record = {"verdict": "no such file", "tries": 0, "error": str(e)}
    except Exception:  # of the harness: the other cases go on
        record = {"verdict": "harness failed", "tries": 0, "error": traceback.format_exc()}
    record = {"room": planned.room, "name": planned.name, "tries": 1, **record}
    record["seconds"] = round(time.monotonic() - start, 1)
    if not keep and record["verdict"] in GOOD:
        shutil.rmtree(context.work / "cases" / folder, ignore_errors=True)
    return record


def run_all(context: Context, todo: List[Planned], results: Results, args) -> None:
    """Run until all is done or time is over; say how it goes."""
    begin, end = time.monotonic(), time.monotonic() + 60 * args.minutes
    finished = 0

    def work(planned: Planned) -> Optional[dict]:
        if time.monotonic() > end:
            return None
        record = run_case(context, planned, args.keep)
        results.add(record)
        return record

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for future in concurrent.futures.as_completed([pool.submit(work, p) for p in todo]):
            record = future.result()
            if record is None:
                continue
            finished += 1
            passed = time.monotonic() - begin
            left = min(passed / finished * (len(todo) - finished), end - time.monotonic())
            print(
                f"[faults] {finished}/{len(todo)} {record['room']}: {record['name']}: "
                f"{record['verdict']} ({record['seconds']} s); {max(left, 0) / 60:.0f} min left",
                flush=True,
            )
    if finished < len(todo):
        print(f"[faults] time is over, {len(todo) - finished} cases are left", flush=True)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="of moments and damage (default: 1)")
    parser.add_argument("--minutes", type=float, default=35, help="start no case after (35)")
    parser.add_argument("--jobs", type=int, default=2, help="cases side by side (default: 2)")
    parser.add_argument(
        "--only", nargs="+", choices=ROOMS, default=list(ROOMS), help="kinds of faults"
    )
    parser.add_argument("--case", default="", help="only cases whose names match this")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--checkout", type=Path, default=REPO, help="whose recipe and package")
    parser.add_argument("--results", type=Path, default=Path("build/faults/results.jsonl"))
    parser.add_argument("--work", type=Path, help="where to run (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all cases")
    parser.add_argument("--fuzz_cases", type=int, default=FUZZ_CASES, help="of each fuzz_*.py")
    return parser


def main() -> int:
    args = get_parser().parse_args()
    args.checkout = args.checkout.resolve()
    todo = [p for p in plan(args.seed, args.fuzz_cases) if p.room in args.only]
    todo = [p for p in todo if re.search(args.case, f"{p.room}: {p.name}")]
    if args.list:
        print("\n".join(f"{p.room}: {p.name}" for p in todo))
        return 0
    head = {"seed": args.seed, "commit": commit_of(args.checkout), "machine": machine()}
    head["command"] = "python -m tests.faults.run " + " ".join(sys.argv[1:])
    results = Results(args.results, head)
    todo = [p for p in todo if f"{p.room}/{p.name}" not in results.done]
    if args.checkout != REPO:  # the fuzzing is of our own readers
        todo = [p for p in todo if p.room != "fuzz"]
    print(f"[faults] {len(todo)} cases of commit {head['commit']}, seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        work = args.work or Path(temporary)
        with PreloadedPython(args.checkout) as python:
            context = Context(work, str(python.program), args.checkout)
            if not context.reuse():
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True)
                context.make_reference()
            print(f"[faults] undisturbed: {sum(s for _, s in context.stages):.0f} s", flush=True)
            if any(p.room not in ("kills", "undisturbed", "fuzz", "disk") for p in todo):
                if "teacher" not in context.snapshots:
                    context.make_snapshots()
            context.save()
            run_all(context, todo, results, args)
    verdicts = [r["verdict"] for r in Results(args.results, head).done.values()]
    bad = [v for v in verdicts if v not in GOOD]
    print(f"[faults] {len(verdicts)} cases, {len(bad)} not survived: {args.results}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
