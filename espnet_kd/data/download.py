"""One large file over HTTP: it goes on where it stopped, and is checked.

`torch.hub.download_url_to_file`, which torchaudio's own LIBRISPEECH uses, starts again from
nothing after every cut; one of these archives is 30 GB.
"""

import hashlib
import http.client
import itertools
import logging
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Sequence

from espnet_kd.errors import UserError
from espnet_kd.progress import Progress

MB = 10**6
BLOCK = 2**20
TIMEOUT = 60  # seconds without a byte
ATTEMPTS = 8  # in a row that bring nothing, once a server has sent something
PAUSE = 1.0  # seconds before the second of them; doubled each time, at most a minute


def download(urls: Sequence[str], path: Path, size: int, checksum: str) -> None:
    """Fetch a file and check it; what lies at `path` is taken as its beginning.

    Args:
        urls: Where it is; after a failure the next is tried, from the byte that was reached.
        path: Where it goes.
        size: Its bytes.
        checksum: `<algorithm of hashlib>:<hex digest>`.

    Raises:
        UserError: no server gives the file, or what came has another checksum.
        OSError: the disk is full, or the place cannot be written.
    """
    if _size(path) > size:
        path.unlink()
    have = first = _size(path)
    progress = Progress(f"download {path.name}", size // MB, unit="MB", done=have // MB)
    failures = 0
    for url in itertools.cycle(urls):
        if have == size:
            break
        why = _append(url, path, size, progress)
        before, have = have, _size(path)
        if have == size:
            break
        failures = 0 if have > before else failures + 1
        if failures == (ATTEMPTS if have > first else len(urls) + 1):
            raise UserError(
                f"{path.name} cannot be downloaded: {why}; run the same command to go on at "
                f"{have // MB} of {size // MB} MB, try another --mirror, or unpack the corpus "
                "yourself and give its folder with LIBRISPEECH=DIR"
            )
        logging.warning(f"{why}; going on at {have // MB} of {size // MB} MB")
        time.sleep(min(60.0, PAUSE * 2**failures))
    progress.close()
    try:
        check(path, checksum)
    except UserError:
        path.unlink()  # nothing tells which bytes are wrong, so none can be kept
        raise


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


def _append(url: str, path: Path, size: int, progress: Progress) -> str:
    """Fetch what is missing of `path`; return why it ended."""
    have = _size(path)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except (OSError, http.client.HTTPException, ValueError) as e:
        return f"{url}: {e}"
    with response:
        goes_on = response.status == 206  # else the server knows no ranges and sends it all
        rest = response.headers.get("Content-Length", "")
        if not rest.isdecimal() or int(rest) + have * goes_on != size:
            return f"{url}: another file, of {rest or 'unknown'} bytes where {size} are left"
        with open(path, "ab" if goes_on else "wb") as f:
            while True:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as e:
                    return f"{url}: {e}"
                if not block:
                    return f"{url}: the connection was closed"
                f.write(block)
                progress.update(f.tell() // MB - progress.count)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
