"""A folder belongs to one run at a time: a record in it says to which.

The record, `.run.json`, names machine, process, time and command of the run that holds the
folder, and its token, which every process of the run has in its environment. A record whose
process has ended, also by SIGKILL, holds nothing any more, unless processes with its token are
still alive: a trainer that goes on writing. A process is known by its number and its starting
time, so a number that has been given to another process does no harm.

What cannot be seen from here is not guessed: the record of a run on another machine, or in
another container, holds until somebody removes it.
"""

import contextlib
import fcntl
import getpass
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from espnet_kd.common.json_file import read_json
from espnet_kd.errors import UserError

FILE = ".run.json"
VARIABLE = "ESPNET_KD_RUN"  # of the environment of all processes of a run: its token
PROC = Path("/proc")
PATIENCE = 86400.0  # seconds in which another run makes what serves this one, too


class Run(NamedTuple):
    """A run that holds folders.

    Attributes:
        token: Name of the run; one that it starts itself has `<token>/<its own part>`.
        pid: Process that holds the folders.
        started: Starting time of that process as the kernel counts it; 0: unknown.
        host: Name of the machine.
        machine: Identity of the machine; empty: unknown.
        boot: Identity of the machine's last start; empty: unknown.
        namespace: Container that the process numbers belong to; empty: unknown.
        user: Login name.
        since: Local time at which the run began.
        command: Command line, for messages.
    """

    token: str
    pid: int
    started: int
    host: str
    machine: str
    boot: str
    namespace: str
    user: str
    since: str
    command: str

    @classmethod
    def of(cls, pid: int, token: str, command: str) -> "Run":
        """Describe the run of a process of this machine."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a number without a name, as in containers
            user = str(os.getuid())
        state = _state(pid)
        return cls(
            token,
            pid,
            state[1] if state else 0,
            socket.gethostname(),
            _content("/etc/machine-id"),
            _content(str(PROC / "sys/kernel/random/boot_id")),
            _namespace(),
            user,
            time.strftime("%Y-%m-%dT%H:%M:%S"),
            command,
        )

    def __str__(self) -> str:
        """Say who it is, for messages."""
        command = self.command if len(self.command) <= 300 else f"{self.command[:300]}..."
        return f"pid {self.pid} on {self.host}, {self.user}, since {self.since}: {command}"


_TYPES = tuple(Run.__annotations__.values())


def hold(
    folders: Sequence[Path],
    run: Run,
    wait: float = 0.0,
    say: Callable[[str], None] = print,
) -> List[Path]:
    """Take folders for a run; what it holds already, or a run around it, is passed over.

    Args:
        folders: They are made if they are not there.
        run: Run that takes them.
        wait: Seconds to wait for a run that ends soon.
        say: Function that is told that the run waits.

    Returns:
        The records that were written.

    Raises:
        UserError: another run has one of them; then none is taken.
    """
    deadline = time.monotonic() + wait
    taken: List[Path] = []
    try:
        for folder in dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders):
            shown = next(f for f in folders if Path(os.path.realpath(f)) == folder)
            waits = False
            while (reason := _take(folder, shown, run, taken)) is not None:
                if time.monotonic() >= deadline:
                    raise UserError(reason)
                if not waits:
                    say(f"waiting up to {wait:.0f} s: {reason}")
                    waits = True
                time.sleep(0.2)
    except BaseException:
        for record in taken:
            record.unlink(missing_ok=True)
        raise
    return taken


@contextlib.contextmanager
def held(folder: str, wait: float = 0.0, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold a folder meanwhile, for the run that this process is a part of, or for itself.

    Args:
        folder: The folder.
        wait: See `hold`.
        say: See `hold`.

    Raises:
        UserError: another run has it.
    """
    around = os.environ.get(VARIABLE)
    token = around or f"{os.getpid()}-{os.urandom(4).hex()}"
    records = hold([Path(folder)], Run.of(os.getpid(), token, " ".join(sys.argv)), wait, say)
    os.environ[VARIABLE] = token
    try:
        yield
    finally:
        for record in records:
            record.unlink(missing_ok=True)
        if not around:
            del os.environ[VARIABLE]


def _take(folder: Path, shown: Path, run: Run, taken: List[Path]) -> Optional[str]:
    """Take a folder, or return who has it."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / FILE
    with _alone(folder):
        while True:
            holder = _read(record, shown / FILE)
            if holder is not None:
                if f"{run.token}/".startswith(f"{holder.token}/"):
                    return None
                reason = _alive(holder, shown)
                if reason is not None:
                    return reason
                record.unlink(missing_ok=True)
            if _create(record, run):
                taken.append(record)
                return None


def _alive(holder: Run, shown: Path) -> Optional[str]:
    """Say who still works in a folder with this record; None: nobody."""
    us = Run.of(os.getpid(), "", "")
    if (holder.boot, holder.namespace) != (us.boot, us.namespace):
        same = holder.machine and (holder.machine, holder.host) == (
            us.machine,
            us.host,
        )
        if same and holder.boot != us.boot:
            return None  # the machine was started again since
        return (
            f"{shown} is held by a run on another machine or in another container ({holder}); "
            f"if that run has ended, remove {shown / FILE}"
        )
    state = _state(holder.pid)
    if state is not None and (state[1] == holder.started or 0 in (state[1], holder.started)):
        return f"{shown} is in use by another run ({holder}); wait for it, or name other folders"
    left = _processes_of(holder.token)
    if not left:
        return None
    pid, command = left[0]
    more = f", with {len(left) - 1} more," if len(left) > 1 else ""
    return (
        f"{shown} is still in use: a run was killed ({holder}), but its process {pid} "
        f"({command[:200]}){more} goes on; wait, or end what is left of it: "
        f"kill {' '.join(str(pid) for pid, _ in left)}"
    )


def _state(pid: int) -> Optional[Tuple[str, int]]:
    """Return a process's state and starting time (0: hidden); None if it has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # somebody else's
    except OverflowError:
        return None
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ("", 0)
    return None if fields[0] in "ZX" else (fields[0], int(fields[19]))


def _processes_of(token: str) -> List[Tuple[int, str]]:
    """List the living processes of a run, (pid, command), those of command lines first."""
    marks = [f"\0{VARIABLE}={token}{end}".encode() for end in ("\0", "/")]
    processes = []
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # somebody else's, or ended by now
            environment = b"\0" + (folder / "environ").read_bytes()
            if any(mark in environment for mark in marks) and _state(int(folder.name)):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                python = os.path.basename(words[0]).startswith("python") and "-m" in words
                command = " ".join(words[words.index("-m") + 1 :] if python else words)
                processes.append((not python, int(folder.name), command.strip()))
    return [process[1:] for process in sorted(processes)]


def _content(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from looking at a record while one of them replaces it.

    A file system that locks no folders (some shared ones) does without: two runs that find
    the record of a dead one within the same millisecond are then not kept apart.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _create(record: Path, run: Run) -> bool:
    """Write a record unless there is one; nobody sees half of it."""
    text = json.dumps(run._asdict(), indent=1, ensure_ascii=False) + "\n"
    draft = record.with_name(f"{record.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        try:
            os.link(draft, record)
        except FileExistsError:
            return False
        except OSError:  # no hard links
            with contextlib.suppress(FileExistsError), open(record, "x", encoding="utf-8") as f:
                f.write(text)
                return True
            return False
        return True
    finally:
        draft.unlink(missing_ok=True)


def _read(record: Path, shown: Path) -> Optional[Run]:
    try:
        run = Run(**read_json(record))
    except FileNotFoundError:
        return None
    except (UserError, TypeError):
        run = None
    if run is None or any(type(v) is not kind for v, kind in zip(run, _TYPES)):
        raise UserError(
            f"{shown}: not the record of a run; remove it if no run uses {shown.parent}"
        )
    return run
