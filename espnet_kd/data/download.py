"""One large file over HTTP: it goes on where it stopped, and is checked.

`torch.hub.download_url_to_file`, which torchaudio's own LIBRISPEECH uses, starts again from
nothing after every cut; one of these archives is 30 GB.
"""

import fcntl
import hashlib
import http.client
import itertools
import logging
import os
import re
import shutil
import time
import urllib.request
from pathlib import Path
from typing import BinaryIO, Sequence

from espnet_kd.errors import UserError
from espnet_kd.progress import Progress

MB = 10**6
BLOCK = 2**20
TIMEOUT = 60  # seconds without a byte
WINDOW = 60.0  # seconds over which the rate is taken
LEAST_RATE = 10_000  # bytes a second; a server that sends fewer is left
ATTEMPTS = 8  # in a row, over all servers, that bring less than a megabyte
PAUSE = 1.0  # seconds before the second of them; doubled each time, at most a minute


def download(urls: Sequence[str], path: Path, size: int, checksum: str) -> None:
    """Fetch a file and check it; what lies at `path` is taken as its beginning.

    What has come stays until all has come and its checksum is wrong.

    Args:
        urls: Addresses of the file; after a failure the next is tried, from the byte that was
            reached.
        path: Path to write.
        size: Size in bytes.
        checksum: `<algorithm of hashlib>:<hex digest>`.

    Raises:
        UserError: no server gives the file, what came has another checksum, or another
            process fetches it.
        OSError: the disk is full, or the place cannot be written.
    """
    with open(path, "ab") as file:
        _lock(file)
        if file.tell() > size:  # no more than this can be of the file
            file.truncate(size)
            file.seek(size)
        _fetch(urls, file, path.name, size)
        try:
            check(path, checksum)
        except UserError:
            path.unlink()  # nothing tells which bytes are wrong, so none can be kept
            raise


def _lock(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{file.name}: another process is fetching it; wait until that has ended"
        ) from None
    except OSError:  # a file system without locks
        pass
    file.seek(0, os.SEEK_END)


def _fetch(urls: Sequence[str], file: BinaryIO, name: str, size: int) -> None:
    first = counted = have = file.tell()
    progress = Progress(f"download {name}", size // MB, unit="MB", done=have // MB)
    failures = 0
    for url in itertools.cycle(urls):
        if have == size:
            break
        why = _append(url, file, size, progress)
        have = file.tell()
        if have == size:
            break
        failures += 1
        if have >= counted + MB:
            failures, counted = 0, have
        if failures >= (ATTEMPTS if have > first else len(urls) + 1):
            raise UserError(
                f"{name} cannot be downloaded: {why}; run the same command to go on at "
                f"{have // MB} of {size // MB} MB, try another --mirror, or unpack the corpus "
                "yourself and give its folder with LIBRISPEECH=DIR"
            )
        logging.warning(f"{why}; going on at {have // MB} of {size // MB} MB")
        time.sleep(min(60.0, PAUSE * 2**failures))
    progress.close()


def check(path: Path, checksum: str) -> None:
    """Compare a file with its checksum, `<algorithm>:<hex digest>`.

    Raises:
        UserError: they differ.
    """
    algorithm, _, wanted = checksum.partition(":")
    digest = hashlib.new(algorithm)
    progress = Progress(f"check {path.name}", _size(path) // MB, unit="MB")
    with open(path, "rb") as f:
        while block := f.read(BLOCK):
            digest.update(block)
            progress.update(f.tell() // MB - progress.count)
    if digest.hexdigest() != wanted:
        raise UserError(
            f"{path}: {algorithm} checksum {digest.hexdigest()} found, {wanted} wanted; without "
            "this file the same command fetches it again; --mirror names another server"
        )
    logging.info(f"{path.name}: {algorithm} checksum is right")


def refuse_without_space(folder: Path, needed: int, what: str) -> None:
    """Stop before anything is fetched if a file system has less than `needed` bytes.

    Raises:
        UserError: it has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e9:.1f} GB are free, {what} needs {needed / 1e9:.1f} GB; make "
            "room, or name a folder on another disk with --download_dir DIR"
        )
    logging.info(f"{what} needs {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free")


def _append(url: str, file: BinaryIO, size: int, progress: Progress) -> str:
    """Fetch what is missing of a file; return why it ended."""
    have = file.tell()
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    # OverflowError: a port that is too large.
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as e:
        return f"{url}: {e}"
    with response:
        if not isinstance(response, http.client.HTTPResponse):
            return f"{url}: leads to {response.url}, which is not HTTP"
        skip = have  # a server that knows no ranges sends what is here, too
        if response.status == 206:
            skip = 0
            start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if start and int(start[1]) != have:
                return f"{url}: sends bytes from {start[1]} on, not from {have} on"
        rest = response.headers.get("Content-Length", "")
        wanted = size - have + skip
        if rest != str(wanted):
            return f"{url}: another file, of {rest or 'unknown'} bytes where {wanted} are left"
        try:
            return f"{url}: {_copy(response, file, skip, progress)}"
        finally:
            file.flush()


def _copy(
    response: http.client.HTTPResponse, file: BinaryIO, skip: int, progress: Progress
) -> str:
    """Append a response to a file, but for its first bytes; return why it ended."""
    since, came = time.monotonic(), 0
    while True:
        try:
            block = response.read1(BLOCK)
        except (OSError, http.client.HTTPException) as e:
            return str(e)
        if not block:
            return "the connection was closed"
        came += len(block)
        file.write(block[skip:])
        skip = max(0, skip - len(block))
        progress.update(file.tell() // MB - progress.count)
        now = time.monotonic()
        if now - since >= WINDOW:
            if came < LEAST_RATE * (now - since):
                return f"{came / (now - since) / 1000:.1f} kB/s is too slow"
            since, came = now, 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
