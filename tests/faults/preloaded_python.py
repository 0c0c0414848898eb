"""A Python that has imported everything and forks for every command: seconds become millis.

    python preloaded_python.py SOCKET PROGRAM MODULE...   the server: imports, then serves
    python -S -E preloaded_client.py SOCKET -m ...        stands in for `python -m ...`

PROGRAM is a script that calls the client; it becomes `sys.executable` of the processes.

The server ends, with all that it has forked, when its standard input is closed. A forked
process gets the client's words, environment, folder, umask, limits, ignored signals and all
of its open files, and joins its process group: the client and its process are one to `kill`
of a group, the process alone decides what a signal does, and whoever of the two is killed
takes the other with it. Client and server must be of one session, or a process could not
join the group.

What differs from a process of its own: its parent is the server, and str hashes are the same
in all processes of one server.
"""

import array
import atexit
import ctypes
import fcntl
import gc
import importlib.machinery
import marshal
import multiprocessing
import os
import pkgutil
import resource
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import traceback
import types

HIGH = 600  # the server's files; those of a client are put below
MOST_FILES = 200
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main() -> dict:
    """Serve; return in a forked process only, with the request."""
    path, program, *modules = sys.argv[1:]
    for name in modules:
        preload(name)
    sys.executable = program
    multiprocessing.set_executable(program)
    _free_low_files()
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would not survive the fork"
    gc.collect()
    gc.freeze()
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    listener = _high(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    return Server(listener).serve()


def preload(name: str) -> None:
    """Import a module, with all that is below it but `bin`; it may not be there."""
    try:
        module = importlib.import_module(name)
    except ImportError as e:
        print(f"preloaded_python: {name}: {e}", flush=True)
        return
    if name.partition(".")[0] == "espnet_kd":
        for part in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if part.name not in ("bin", "__main__"):
                preload(f"{name}.{part.name}")


def _free_low_files() -> None:
    """Close what imports have left open, or it would be in a client's way."""
    for name in os.listdir("/proc/self/fd"):
        if 2 < int(name) < HIGH:
            try:
                os.close(int(name))
            except OSError:
                pass  # the listing's own


def _high(sock: socket.socket) -> socket.socket:
    with sock:
        return socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, HIGH))


class Server:
    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.selector = selectors.DefaultSelector()
        self.clients: dict = {}  # pid -> its client's connection
        self.pidfds: dict = {}
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self.selector.register(0, selectors.EVENT_READ, self._stop)

    def serve(self) -> dict:
        while True:
            for key, _ in self.selector.select():
                request = key.data(key.fileobj)
                if request is not None:
                    return request

    def _accept(self, listener):
        connection, _ = listener.accept()
        connection = _high(connection)
        connection.settimeout(20)
        try:
            request = receive(connection)
            pid = os.fork()
        except (OSError, ValueError, struct.error):  # the client was killed meanwhile
            connection.close()
            return None
        if pid == 0:
            return self._child(request)
        for fd in request["files"].values():
            os.close(fd)
        try:  # by both, so that it is done whoever runs first
            os.setpgid(pid, request["group"])
        except OSError:
            pass
        pidfd = fcntl.fcntl(os.pidfd_open(pid), fcntl.F_DUPFD_CLOEXEC, HIGH)
        self.clients[pid], self.pidfds[pid] = connection, pidfd
        self.selector.register(pidfd, selectors.EVENT_READ, lambda _: self._ended(pid))
        self.selector.register(connection, selectors.EVENT_READ, lambda _: self._gone(pid))
        try:
            connection.sendall(struct.pack("i", pid))
        except OSError:
            self._gone(pid)
        return None

    def _child(self, request: dict) -> dict:
        self.selector.close()
        self.listener.close()
        for connection in filter(None, self.clients.values()):  # None: a client that is gone
            connection.close()
        for pidfd in self.pidfds.values():
            os.close(pidfd)
        return request

    def _ended(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        connection, pidfd = self.clients.pop(pid), self.pidfds.pop(pid)
        self.selector.unregister(pidfd)
        os.close(pidfd)
        if connection is None:
            return
        self.selector.unregister(connection)
        try:
            connection.sendall(struct.pack("i", status))
        except OSError:
            pass
        connection.close()

    def _gone(self, pid: int) -> None:
        """The client says nothing after its request: what is to be read is its end."""
        connection = self.clients.get(pid)
        if connection is None:  # both have ended at once
            return
        self.selector.unregister(connection)
        connection.close()
        self.clients[pid] = None
        os.kill(pid, signal.SIGKILL)

    def _stop(self, _) -> None:
        for pid in self.clients:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def receive(connection: socket.socket) -> dict:
    """A request; its files under numbers from HIGH."""
    ints = array.array("i")
    space = socket.CMSG_SPACE(MOST_FILES * ints.itemsize)
    head, ancillary, _, _ = connection.recvmsg(4, space)
    for _, _, data in ancillary:
        ints.frombytes(data[: len(data) - len(data) % ints.itemsize])
    fds = []
    for fd in ints:
        fds.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH))
        os.close(fd)
    while len(head) < 4:
        head += _some(connection, 4 - len(head))
    size = struct.unpack("i", head)[0]
    body = b""
    while len(body) < size:
        body += _some(connection, size - len(body))
    request = marshal.loads(body)
    request["files"] = dict(zip(request["files"], fds))
    return request


def _some(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size)
    if not data:
        raise ValueError("the client is gone")
    return data


def become(request: dict) -> None:
    """Make a forked process what the client would have been."""
    try:
        os.setpgid(0, request["group"])
    except OSError:
        pass  # the group is gone: its last process was killed
    # Killed with the server, which may be killed itself.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    for fd, copy in request["files"].items():
        os.dup2(copy, fd, inheritable=True)
        os.close(copy)
    for fd in (0, 1, 2):
        if fd not in request["files"]:
            os.close(fd)
    os.umask(request["umask"])
    for number, limits in request["limits"]:
        resource.setrlimit(number, limits)
    for number in FORWARDED:
        ignored = number in request["ignored"]
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if ignored else default)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    for name in ("random", "numpy.random"):
        if name in sys.modules:
            sys.modules[name].seed()
    gc.unfreeze()


def run(words: list) -> None:
    """What Python does with its command line."""
    while words[0] in ("-B", "-E", "-I", "-S", "-s", "-u"):  # multiprocessing hands them on
        words = words[1:]
    path = [p for p in os.environ.get("PYTHONPATH", "").split(":") if p]
    sys.path[:] = path + [p for p in sys.path[1:] if p not in path]
    main_module = sys.modules["__main__"] = types.ModuleType("__main__")
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        exec(compile(words[1], "<string>", "exec"), main_module.__dict__)
    elif words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, os.path.dirname(os.path.realpath(words[0])))
        main_module.__file__ = words[0]
        # `runpy.run_path` would compile the script each time.
        code = importlib.machinery.SourceFileLoader("__main__", words[0]).get_code("__main__")
        exec(code, main_module.__dict__)


def exit_code(words: list) -> int:
    """Run, and do what Python does with what comes out."""
    try:
        run(words)
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return (e.code or 0) & 0xFF
        print(e.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end(code: int) -> None:
    """End as Python does, but for taking thousands of modules apart, which takes a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    asked = main()  # returns in forked processes only
    try:
        become(asked)
    except BaseException:
        traceback.print_exc()
        os._exit(70)
    end(exit_code(asked["words"]))
