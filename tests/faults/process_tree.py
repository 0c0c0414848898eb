"""The processes of a run, found in /proc; ways to end them."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Dict, Iterable, NamedTuple, Set


class Process(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int
    state: str
    name: str


def all_processes() -> Dict[int, Process]:
    processes = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # has ended by now
            head, _, tail = stat.read_text().rpartition(")")
            fields = tail.split()
            pid = int(stat.parent.name)
            name = head.partition("(")[2]
            processes[pid] = Process(pid, *map(int, fields[1:4]), fields[0], name)
    return processes


class Members:
    """What belongs to a run: the descendants of its first process, and their groups.

    A process that a killed one leaves behind is known by its group. Numbers are given again on
    a machine that starts many processes: nothing of another session is ever taken for ours.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.groups: Set[int] = {first}

    def look(self) -> Dict[int, Process]:
        """The living ones."""
        session, ourselves = os.getsid(0), (os.getpid(), os.getppid())
        everything = {
            pid: process
            for pid, process in all_processes().items()
            if process.session == session and pid not in ourselves
        }
        members: Dict[int, Process] = {}
        grown = True
        while grown:
            grown = False
            for process in everything.values():
                if process.pid in members:
                    continue
                known = process.parent in members or process.group in self.groups
                if known or process.pid == self.first:
                    members[process.pid] = process
                    self.groups.add(process.group)
                    grown = True
        return {pid: p for pid, p in members.items() if p.state not in "ZX"}

    def kill_all(self) -> None:
        """As when the machine loses power: stopped first, so that none starts another."""
        stopped: Set[int] = set()
        while True:
            new = set(self.look()) - stopped
            if not new:
                break
            send(new, signal.SIGSTOP)
            stopped |= new
        send(stopped, signal.SIGKILL)
        self.wait_until_gone(10)

    def kill_a_child(self, rng: random.Random) -> str:
        """SIGKILL to one of them, as the kernel does when memory runs out; return its name."""
        members = [p for p in self.look().values() if p.name not in ("sleep", "date")]
        if not members:
            return "none"
        victim = rng.choice(sorted(members))
        send([victim.pid], signal.SIGKILL)
        return victim.name

    def wait_until_gone(self, seconds: float) -> Dict[int, Process]:
        """Wait for all to end; return those that have not."""
        deadline = time.monotonic() + seconds
        while True:
            left = self.look()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
