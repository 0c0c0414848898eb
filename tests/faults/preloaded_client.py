"""Stands in for `python`: has a command run by the server of `preloaded_python.py`.

    python -S -E preloaded_client.py SOCKET -m espnet_kd.bin.train ...

Imports only what makes it start in a hundredth of a second: `json`, `signal` and `struct` import
modules written in Python.
"""

import _signal as signal
import _socket
import array
import marshal
import os
import resource
import sys
from _struct import pack, unpack

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main() -> None:
    ignored = [n for n in FORWARDED if signal.getsignal(n) == signal.SIG_IGN]
    # Whether one of them ends us is for the process to decide that we stand for.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue  # the listing itself
        # Python's own are closed on exec, as they would be in its place.
        if os.get_inheritable(int(name)):
            files[name] = int(name)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    limits = [n for n in range(16) if n != resource.RLIMIT_NOFILE]
    umask = os.umask(0o77)
    os.umask(umask)
    request = {
        "words": sys.argv[2:],
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "group": os.getpgrp(),
        "umask": umask,
        "ignored": ignored,
        "limits": [[n, resource.getrlimit(n)] for n in limits],
        "files": list(files.values()),
    }
    body = marshal.dumps(request)
    connection.connect(sys.argv[1])
    numbers = array.array("i", files.values())
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)]
    connection.sendmsg([pack("i", len(body))], ancillary)
    connection.sendall(body)
    pid = _receive(connection)
    # What came before the process was there to get it.
    for number in signal.sigpending() & set(FORWARDED):
        if number not in ignored:
            os.kill(pid, number)
    status = _receive(connection)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def _receive(connection) -> int:
    data = b""
    while len(data) < 4:
        part = connection.recv(4 - len(data))
        if not part:
            print("preloaded_client: the server is gone", file=sys.stderr)
            os._exit(70)
        data += part
    return unpack("i", data)[0]


main()
