"""Seeded fuzzing: mutations of a valid file, read as the tools read it, and what came of each.

A case is refused in words (a `UserError` of one line that names the file), accepted, a
traceback, a hang, or the worst: it has run a payload that was planted in it.
"""

import contextlib
import copy
import dataclasses
import os
import pickle
import random
import re
import signal
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

from espnet_kd.errors import UserError

PAYLOAD = "payload_has_run"  # a file, made by whatever runs a payload
SECONDS = 10.0  # of a CPU: a case that needs more hangs
LONGEST = 1500  # characters of a message


@dataclasses.dataclass
class Counts:
    """What came of all cases; `tracebacks` and `hangs` say which cases they were."""

    cases: int = 0
    refused: int = 0
    accepted: int = 0
    payloads: int = 0
    tracebacks: List[str] = dataclasses.field(default_factory=list)
    hangs: List[str] = dataclasses.field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.payloads or self.tracebacks or self.hangs)

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.cases:,} cases: {self.refused:,} refused in words, {self.accepted:,} taken, "
            f"{len(self.tracebacks)} tracebacks, {len(self.hangs)} hangs, {self.payloads} payloads"
        )


class Hang(BaseException):
    """A case that takes too long; no `except Exception` on the way may catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Hang` if the block needs more of a CPU, or waits long; in the main thread only."""

    def stop(*_: Any) -> None:
        raise Hang

    limits = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, 15 * seconds),  # the machine may be busy
    }
    before = {number: signal.signal(number, stop) for number in limits}
    for timer, limit in limits.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in limits.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


Case = Tuple[str, bytes, Callable[[Path], Any]]  # file name, its content, what reads its folder


def run(make: Callable[[random.Random], Case], cases: int, seed: int, folder: Path) -> Counts:
    """Make cases, read each, count what came of it.

    Args:
        make: Makes a case of random numbers.
        cases: How many.
        seed: The first case's; a case is made again by `make(random.Random(its seed))`.
        folder: An empty folder; it becomes the current one meanwhile.
    """
    counts, here = Counts(), Path.cwd()
    os.chdir(folder)
    try:
        for number in range(seed, seed + cases):
            name, content, read = make(random.Random(number))
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)
            counts.cases += 1
            _count(counts, f"seed {number} ({name})", read, Path(name))
            Path(name).unlink(missing_ok=True)
            if Path(PAYLOAD).exists():
                counts.payloads += 1
                Path(PAYLOAD).unlink()
    finally:
        os.chdir(here)
    return counts


def _count(counts: Counts, case: str, read: Callable[[Path], Any], path: Path) -> None:
    try:
        with time_limit(SECONDS):
            read(path)
        counts.accepted += 1
    except UserError as e:
        text = " ".join(str(e).splitlines())  # as `run_main` shows it
        if len(text) > LONGEST or not (path.parts[0] in text or "/" in text):
            counts.tracebacks.append(f"{case}: not a line that names the file: {text[:300]!r}")
        else:
            counts.refused += 1
    except Hang:
        counts.hangs.append(case)
    except Exception as e:
        counts.tracebacks.append(f"{case}: {type(e).__name__}: {str(e)[:200]}")


class _Payload:
    def __reduce__(self) -> Any:
        return os.system, (f"touch {PAYLOAD}",)


PICKLE = pickle.dumps(_Payload())
APPLY = f"!!python/object/apply:os.system ['touch {PAYLOAD}']"
NEW = f"!!python/object/new:os.system [touch {PAYLOAD}]"
PIECES = [
    b"\t", b"\r", b"\n", b" ", b"  ", b"- ", b": ", b"{", b"}", b"[", b"]", b",", b"&a ", b"*a",
    b"<<: *a\n", b"#", b"'", b'"', b"|", b">", b"? ", b"!", b"!!int ", b"%YAML 1.1\n", b"---\n",
    b"...\n", b"\x00", b"\xff", b"\xf6", b"\xc3", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xed\xa0",
    b"NaN", b"Infinity", b"-Infinity", b".nan", b".inf", b"1e400", b"1.0e+400", b"0x", b"0b_",
    b"9" * 400, b"9" * 5000, b"-", b"null", b"true", b"1:30", b"2026-11-26", b"=", b"\\u0000",
    b"\\ud800", b"\xf0\x9f\x98\x80", APPLY.encode(), NEW.encode(), PICKLE,
]  # fmt: skip


def mangled(rng: random.Random, content: bytes) -> bytes:
    """Return a valid file with a few bytes, pieces or lines changed."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind == 1:
            del data[at : min(end, at + 30)]
        elif kind == 2:
            data[at:at] = rng.choice(PIECES)
        elif kind == 3:
            data[at:at] = data[at : min(end, at + 200)] * rng.choice((1, 1, 3, 50))
        elif kind == 4:
            del data[at:]
        else:
            lines = data.splitlines(keepends=True)
            i, j = rng.randrange(len(lines) + 1), rng.randrange(len(lines) + 1)
            if kind == 5:
                lines[i:i] = lines[j : j + 2]
            elif kind == 6:
                start = rng.choice((b"", b" ", b"- ", b"  "))
                lines[i : i + 1] = [start + line.lstrip() for line in lines[i : i + 1]]
            else:
                lines[i:i], lines[j : j + 1] = lines[j : j + 1], []
            data = bytearray(b"".join(lines))
    return bytes(data[: 2**20])


def places(data: Any) -> List[Tuple[Any, Any]]:
    """Return every (container, key) of nested dicts and lists."""
    found = []
    todo = [data]
    while todo:
        part = todo.pop()
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in items:
            found.append((part, key))
            if isinstance(value, (dict, list)):
                todo.append(value)
    return found


def nonsense(rng: random.Random, depth: int = 0) -> Any:
    """Return a value of any kind."""
    kinds = [
        lambda: rng.choice((None, True, False, "", "x", "null", "true", "1", "..", "--x", "a/b")),
        lambda: rng.choice((0, 1, -1, 2, 7, 10**6, -(10**6), 2**63, 10**18, 10**30)),
        lambda: rng.choice((0.0, -0.0, 0.5, 1.0, 1.5, -2.5, 1e-320, 1e300, 1e-9, 3.0)),
        lambda: rng.choice((float("nan"), float("inf"), float("-inf"))),
        lambda: rng.choice(("x" * 300, "ä\u2028b", "a\nb", "é" * 50, "1.8 MB", "9" * 40 + " GB")),
        lambda: "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(0xD000)))) for _ in
                        range(rng.randrange(12))),
    ]  # fmt: skip
    if depth < 3:
        kinds += [
            lambda: [nonsense(rng, depth + 1) for _ in range(rng.randrange(4))],
            lambda: {
                rng.choice(("a", "b", "name", "x" * 40, "")): nonsense(rng, depth + 1)
                for _ in range(rng.randrange(4))
            },
        ]
    return rng.choice(kinds)()


def restructured(rng: random.Random, data: Any, known: List[Any]) -> Any:
    """Change some places of nested data: other values, moved or renamed or lost keys.

    Args:
        rng: Random numbers.
        data: A copy that may be changed.
        known: Values that are right somewhere.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        every = places(data)
        if not every:
            return nonsense(rng)
        part, key = rng.choice(every)
        kind = rng.randrange(7)
        if kind <= 1:
            part[key] = nonsense(rng)
        elif kind == 2:
            part[key] = copy.deepcopy(rng.choice(known))
        elif kind == 3:
            del part[key]
        elif kind == 4 and isinstance(part, dict):
            name = re.sub(".", lambda m: rng.choice((m[0], m[0], m[0], "x")), str(key))
            part[name] = part.pop(key)
        elif kind == 5 and isinstance(part, dict):
            part[rng.choice(("extra", str(rng.choice(every)[1])))] = nonsense(rng)
        else:
            other, its = rng.choice(every)
            try:
                part[key] = copy.deepcopy(other[its])
            except (KeyError, IndexError):
                part[key] = None
    return data
