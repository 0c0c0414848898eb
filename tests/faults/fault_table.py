"""Tables of what the harness found, for docs/reliability.md.

    python -m tests.faults.fault_table now.jsonl --before before.jsonl --write docs/reliability.md

Without --write the tables are printed. The file is changed between its two marks only.
"""

import argparse
import collections
import json
import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from tests.faults.kills import WAYS
from tests.faults.run import GOOD, ROOMS

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
TITLES = {
    "undisturbed": "no fault, the same run once more",
    "kills": "kills at random moments of all stages",
    "disk": "the disk is full",
    "clock": "times of all files moved by years",
    "twice": "two runs at once",
    "fuzz": "random input",
}
WAY_NAMES = {
    "all": "SIGKILL of all processes",
    "child": "SIGKILL of one process, any of them",
    "INT": "SIGINT (Ctrl-C)",
    "TERM": "SIGTERM of the script",
}
OUTCOMES = {  # in the words of the tables; what is not there stays as it is
    "SILENT": "**accepted in silence**",
    "not noticed": "**not noticed**: still the result of the old file",
    "DIFFERENT": "**another result**",
    "ANOTHER RESULT, announced": "**another result**, announced",
    "no effect": "not read any more, same result",
    "redone": "noticed, made anew",
    "refused": "refused in one line",
    "traceback": "**traceback**",
    "hang": "**hangs**",
}


def read(path: Path) -> Tuple[dict, List[dict]]:
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return lines[0], lines[1:]


def words(records: List[dict]) -> str:
    """What came of them, with numbers: `3 refused in one line, 1 not read any more`."""
    counts = collections.Counter(r["verdict"] for r in records)
    names = sorted(counts, key=lambda v: (v in GOOD, -counts[v]))
    if len(names) == 1 and counts[names[0]] == 1:
        return OUTCOMES.get(names[0], names[0])
    return ", ".join(f"{counts[v]} {OUTCOMES.get(v, v)}" for v in names)


def main_table(records: List[dict]) -> List[str]:
    """Faults, how often they were tried, and what came of it."""
    rows = ["| fault | times | outcome |", "| :-- | --: | :-- |"]
    by_room: Dict[str, List[dict]] = collections.defaultdict(list)
    for record in records:
        by_room[record["room"]].append(record)
    for way in WAYS:
        runs = [r for r in by_room["kills"] if any(k["way"] == way for k in r.get("kills", ()))]
        tried = sum(k["way"] == way and k["met"] for r in runs for k in r["kills"])
        if tried:
            rows.append(f"| {WAY_NAMES[way]} | {tried} | {words(runs)} of {len(runs)} runs |")
    for room in ROOMS:
        if room in ("kills", "damage") or not by_room[room]:
            continue
        tries = sum(r["tries"] for r in by_room[room])
        rows.append(f"| {TITLES[room]} | {tries} | {words(by_room[room])} |")
    if by_room["damage"]:
        harmed = by_room["damage"]
        rows.append(f"| damaged files, see below | {len(harmed)} | {words(harmed)} |")
    return rows


def damage_table(records: List[dict], before: Optional[List[dict]]) -> List[str]:
    """Each kind of file and way of damage, at all moments together."""
    head = ["damaged file", "how", "times"] + (["f4c2ff0"] if before else []) + ["now"]
    rows = ["| " + " | ".join(head) + " |", "| :-- | :-- | --: |" + " :-- |" * (len(head) - 3)]
    grouped: Dict[Tuple[str, str], List[dict]] = collections.defaultdict(list)
    old: Dict[Tuple[str, str], List[dict]] = collections.defaultdict(list)
    for records_, groups in ((records, grouped), (before or [], old)):
        for record in records_:
            if record["room"] == "damage":
                kind, _, way = record["name"].rpartition(": ")
                groups[kind, way.partition(" (")[0]].append(record)
    for kind, way in sorted(grouped):
        cells = [kind, way.replace("_", " "), str(len(grouped[kind, way]))]
        if before:
            cells.append(words(old[kind, way]) or "–")
        rows.append("| " + " | ".join([*cells, words(grouped[kind, way])]) + " |")
    return rows


def not_survived(records: List[dict]) -> List[str]:
    """One line for each case that did not end well."""
    lines = []
    for r in records:
        if r["verdict"] in GOOD and r.get("after repair", "same end") == "same end":
            continue
        what = r["verdict"] if r["verdict"] not in GOOD else f"after repair: {r['after repair']}"
        detail = r.get("file") or r.get("error") or ""
        lines.append(f"- {r['room']}: {r['name']}: {what} ({detail[:200]})")
    return lines or ["- nothing of what was tried"]


def tables(now: Path, before: Optional[Path]) -> str:
    head, records = read(now)
    old = read(before)[1] if before else None
    said = (
        f"Commit {head['commit']}, seed {head['seed']}, {head['machine']}: "
        f"`{head['command'].strip()}`, {len(records)} cases."
    )
    parts = [said, "\n".join(main_table(records))]
    parts += ["### Damaged files", "\n".join(damage_table(records, old))]
    parts += ["### Cases that did not end well", "\n".join(not_survived(records))]
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.fault_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="written by tests.faults.run")
    parser.add_argument("--before", type=Path, help="results of an older commit")
    parser.add_argument("--write", type=Path, help="Markdown file with the two marks")
    args = parser.parse_args()
    text = tables(args.results, args.before)
    if not args.write:
        print(text)
        return 0
    page = args.write.read_text()
    if BEGIN not in page or END not in page:
        sys.exit(f"summary: error: {args.write}: no line '{BEGIN}' and '{END}'")
    head, _, rest = page.partition(BEGIN)
    args.write.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
