"""A full disk, clocks that jump, two runs at once."""

import contextlib
import os
import random
import re
import resource
import subprocess
import time
from pathlib import Path
from typing import Iterator

from tests.faults.family import Family
from tests.faults.outcome import differences, outcome
from tests.faults.running import LONGEST, Run, complaint

YEAR = 365 * 24 * 3600
FULL = re.compile(r"disk is full|No space left|File too large")


def _compared(family: Family, context) -> dict:
    ended = Run(family).end()
    how = complaint(ended)
    if how != "ok":
        return {"verdict": f"does not go on: {how}", "error": ended.last}
    differ = differences(context.reference, outcome(family.dir))
    return {"verdict": "DIFFERENT" if differ else "same end", "differ": differ[:8]}


# ------------------------------------------------------------------ a full disk
@contextlib.contextmanager
def small_disk(folder: Path, bytes_: int) -> Iterator[bool]:
    """A file system in memory at `folder`; False where mounting is not permitted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={bytes_}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def size_of(folder: Path) -> int:
    """What a folder takes in pages, as in a file system in memory."""
    sizes = (p.lstat().st_size for p in folder.rglob("*"))
    return sum(-(-size // 4096) * 4096 + 4096 for size in sizes)


def full_disk_case(context, name: str, seed: int) -> dict:
    """Run on a disk too small, grow it, go on; by a limit of file sizes where that is all."""
    rng = random.Random(seed)
    begin = size_of(context.snapshots["fresh"].root)
    end = size_of(context.snapshots["done"].root)
    root = context.work / "cases" / name
    tries, errors = 0, []
    with small_disk(root, int(begin + (end - begin) * rng.uniform(0.02, 0.3))) as mounted:
        if not mounted:
            return _file_size_case(context, name, rng)
        for part in context.snapshots["fresh"].root.iterdir():
            subprocess.run(["cp", "-a", str(part), str(root)], check=True)
        family = Family(root, context.python, context.checkout)
        for least, most in ((0.3, 0.5), (0.5, 0.75), (0.75, 0.98), (1.5, 1.6)):
            ended = Run(family).end()
            how = complaint(ended)
            if how == "ok":
                break
            tries += 1
            errors.append(f"{how}: {ended.last}")
            if how in ("hang", "silent failure"):
                return {"verdict": how, "tries": tries, "errors": errors, "means": "tmpfs"}
            size = int(begin + (end - begin) * rng.uniform(least, most))
            command = ["mount", "-o", f"remount,size={size}", str(root)]
            subprocess.run(command, check=True)
        record = _compared(family, context)
        if record["verdict"] != "same end":  # to be looked at when the small disk is gone
            subprocess.run(["cp", "-a", str(root), f"{root}-kept"], check=True)
    unclear = [e for e in errors if not FULL.search(e) or e.startswith("traceback")]
    if unclear and record["verdict"] == "same end":
        record["verdict"] = "same end, unclear message"
    return {**record, "tries": tries, "errors": errors, "unclear": unclear, "means": "tmpfs"}


def _file_size_case(context, name: str, rng: random.Random) -> dict:
    """Nothing larger than a limit can be written: what can be tried without being root."""
    root = context.work / "cases" / f"{name}-limit"
    family = context.snapshots["fresh"].copy(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(p.lstat().st_size for p in context.snapshots["done"].dir.rglob("exp/**/*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest * rng.uniform(0.05, 0.9)), hard))
    try:
        run = Run(family)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ended = run.end()
    record = _compared(family, context)
    error = f"{complaint(ended)}: {ended.last}"
    return {**record, "tries": 1, "errors": [error], "means": "RLIMIT_FSIZE"}


# ------------------------------------------------------------------ clocks that jump
def clock_case(context, snapshot: str, name: str, seed: int, way: str) -> dict:
    """Move the times of files, as a wrong clock, a copy or an unpacked archive leaves them.

    Args:
        way: `back`, `forward`: all by years; `mixed`: each by its own; `same`: all alike.
    """
    rng = random.Random(seed)
    family = context.copy(snapshot, name)
    shift = {"back": -5 * YEAR, "forward": 5 * YEAR}.get(way, 0)
    for path in sorted(family.dir.rglob("*")):
        if path.is_symlink():
            continue
        moved = path.stat().st_mtime + shift
        if way == "mixed":
            moved += rng.uniform(-5, 5) * YEAR
        elif way == "same":
            moved = 1.0e9
        os.utime(path, (moved, moved))
    return {**_compared(family, context), "tries": 1}


# ------------------------------------------------------------------ two runs at once
def twice_case(context, snapshot: str, name: str, seed: int) -> dict:
    """Start a second run at a seeded moment of a first one."""
    rng = random.Random(seed)
    family = context.copy(snapshot, name)
    first = Run(family)
    first.wait(rng.uniform(0, 0.8) * sum(seconds for _, seconds in context.stages))
    if first.process.poll() is not None:
        return {"verdict": "missed", "tries": 0}
    second = _beside(family)
    refused = second.end()
    ended = first.end()
    record: dict = {"tries": 1, "second": complaint(refused), "error": refused.last}
    if complaint(ended) != "ok":
        return {**record, "verdict": f"the first fails: {ended.last}"}
    differ = differences(context.reference, outcome(family.dir))
    if differ:
        return {**record, "verdict": "DIFFERENT", "differ": differ[:8]}
    holder = str(first.process.pid) in refused.err
    one_line = len(refused.errors) == 1
    alright = complaint(refused) == "refused" and holder and one_line
    return {**record, "verdict": "the second is refused" if alright else "both run"}


def _beside(family: Family) -> Run:
    """A second run in the same folder that prints elsewhere."""
    other = Family(family.root / "second", family.python, family.checkout)
    other.root.mkdir()
    other.dir = family.dir
    return Run(other)


def orphan_case(context, name: str, seed: int) -> dict:
    """Kill the script alone while it trains; run again at once, while its child works."""
    family = context.copy("stage 10", name)
    run = Run(family)
    teacher = family.dir / "exp"
    run.wait(until=lambda: any(teacher.glob("*/2epoch.pth")))
    os.kill(run.process.pid, 9)
    run.process.wait()
    again = Run(family).end(5) if run.members.look() else None
    record = {"tries": 1, "second": "none" if again is None else complaint(again)}
    record["error"] = "" if again is None else again.last
    deadline = time.monotonic() + LONGEST
    while run.members.look() and time.monotonic() < deadline:
        time.sleep(0.2)
    return {**record, **_compared(family, context)}
