"""Kills at seeded moments over all stages; then the same command goes on."""

import random
import signal
from typing import Dict, List, Optional, Tuple

from tests.faults.family import Family
from tests.faults.outcome import differences, outcome
from tests.faults.process_tree import send
from tests.faults.running import LONGEST, Run, complaint

WAYS = ("all", "child", "INT", "TERM")


def disturbed(
    family: Family, stages: List[Tuple[str, float]], ways: List[str], rng: random.Random
) -> Tuple[List[dict], Optional[Run]]:
    """Run with one kill for each of `ways`; return what each of them met, and the last run.

    Args:
        stages: Marks of the output and how many seconds follow each, of an undisturbed run.
    """
    moments = []
    for way in ways:
        place = rng.randrange(len(stages))
        moments.append((place, rng.random() * stages[place][1], way))
    met = []
    before: Optional[Run] = None
    for place, delay, way in sorted(moments):
        mark = stages[place][0]
        run = start_after(family, before)
        goes_on = run.wait_for(mark) and run.wait(delay)
        record = {"way": way, "at": mark, "delay": round(delay, 2), "met": goes_on}
        if goes_on:
            record.update(_kill(run, way, rng))
        met.append(record)
        if not goes_on:
            ended = run.end()
            record["code"] = ended.code
            if complaint(ended) != "ok":
                record["error"] = ended.last
        before = run
    return met, before


def _kill(run: Run, way: str, rng: random.Random) -> dict:
    record: dict = {}
    if way == "all":
        run.members.kill_all()
    elif way == "child":
        record["victim"] = run.members.kill_a_child(rng)
    elif way == "INT":  # as a terminal does: to the group in the foreground
        send([-run.process.pid], signal.SIGINT)
    else:
        send([run.process.pid], signal.SIGTERM)
    record["code"] = run.end().code  # a child that nobody missed may not have ended it
    if way in ("INT", "TERM"):
        left = run.members.wait_until_gone(LONGEST)
        record["left running"] = sorted(p.name for p in left.values())
        run.members.kill_all()
    return record


def start_after(family: Family, before: Optional[Run]) -> Run:
    """Start at once; once more, if that is refused while the killed run's children work."""
    run = Run(family)
    if before is not None and before.members.look():
        run.wait(10, until=lambda: bool(run.marks()))
        if run.process.poll():
            before.members.wait_until_gone(LONGEST)
            return Run(family)
    return run


def killed_case(family: Family, context, seed: int, ways: List[str]) -> dict:
    """One case: disturbed, finished, compared."""
    rng = random.Random(seed)
    met, last = disturbed(family, context.stages, ways, rng)
    ended = start_after(family, last).end()
    how = complaint(ended)
    differ = differences(context.reference, outcome(family.dir)) if how == "ok" else []
    left = [name for record in met for name in record.get("left running", [])]
    if how != "ok":
        verdict = f"does not go on: {how}"
    elif differ:
        verdict = "DIFFERENT"
    elif left:
        verdict = "left running"
    else:
        verdict = "same end"
    tried = sum(record["met"] for record in met)
    record = {"verdict": verdict, "tries": tried, "kills": met}
    return {**record, "differ": differ, "error": ended.last}


def mixed_ways(rng: random.Random, number: int) -> List[str]:
    ways = list(WAYS) * (number // len(WAYS) + 1)
    rng.shuffle(ways)
    return ways[:number]


def count_by_way(records: List[dict]) -> Dict[str, int]:
    counts = dict.fromkeys(WAYS, 0)
    for record in records:
        for kill in record.get("kills", ()):
            counts[kill["way"]] += kill["met"]
    return counts
