"""A teacher cache on disk.

    DIR/fingerprint.json            what it was made from
    DIR/SET/parts/<job>.<pid>.<n>.ark     finished utterances, as Kaldi's two-byte matrices
    DIR/SET/parts/<job>.<pid>.<n>.scp     where each of them lies; says that the part is whole
    DIR/SET/sizes                   bytes of each part
    DIR/SET/teacher.scp             all utterances of the set; says that it is whole

A part is written in one go and renamed, the scp last: whatever ends a run, what has an scp
is whole, and the next run goes on with the rest. Several processes may write parts at a
time: their names hold the number of the process.

ESPnet up to 202511 reads archives with kaldiio, later ones with omniio, which knows no NumPy
payload: Kaldi's own two-byte matrices are what both read.
"""

import io
import os
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Iterable

import kaldiio
import numpy as np

from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open, atomic_path, read_table, write_table

PART_BYTES = 64 * 2**20
PART_SECONDS = 60.0  # what a kill can cost
TWO_BYTE_INTEGER = 4  # Kaldi's kTwoByteSignedInteger: -32768..32767, exact once rounded


class Archive:
    """The entries of one set.

    Args:
        folder: DIR/SET.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scp = folder / "teacher.scp"
        self._waiting: Dict[str, np.ndarray] = {}
        self._bytes = 0
        self._since = time.monotonic()

    def finished(self) -> Dict[str, str]:
        """Return the utterances of all finished parts and where they lie."""
        places: Dict[str, str] = {}
        for scp in sorted((self.folder / "parts").glob("*.scp")):
            places.update(read_table(scp))
        return places

    def add(self, job: str, utt: str, record: np.ndarray) -> None:
        """Add an utterance; it is on disk once its part is written.

        Args:
            job: Name of this process among those that write at a time.
            utt: Name of the utterance.
            record: Record of `record.pack`, int16. (L,)
        """
        self._waiting[utt] = record
        self._bytes += record.nbytes
        if self._bytes >= PART_BYTES or time.monotonic() - self._since >= PART_SECONDS:
            self.flush(job)

    def flush(self, job: str) -> None:
        """Write what waits as a part."""
        if self._waiting:
            folder, n = self.folder / "parts", 0
            while (ark := folder / f"{job}.{os.getpid()}.{n}.ark").exists():
                n += 1
            with atomic_path(ark) as tmp:
                lines = io.StringIO()
                columns = {
                    utt: record.astype(np.float32)[:, None]  # (L, 1)
                    for utt, record in self._waiting.items()
                }
                with open(str(tmp), "wb") as f:  # kaldiio joins its name to text
                    kaldiio.save_ark(f, columns, scp=lines, compression_method=TWO_BYTE_INTEGER)
            with atomic_open(ark.with_suffix(".scp")) as f:
                f.write(lines.getvalue().replace(f" {tmp}:", f" {ark}:"))
        self._waiting, self._bytes, self._since = {}, 0, time.monotonic()

    def close(self, keys: Iterable[str]) -> int:
        """Write the table of all utterances.

        Args:
            keys: The utterances that the cache is to hold.

        Returns:
            Bytes of the archives.

        Raises:
            UserError: one of them is missing.
        """
        finished = self.finished()
        missing = [utt for utt in keys if utt not in finished]
        if missing:
            raise UserError(
                f"{self.folder}: {len(missing)} utterances are missing ('{missing[0]}' is the "
                "first); run the same command again"
            )
        arks = {line.rpartition(":")[0] for line in finished.values()}
        sizes = {ark: os.path.getsize(ark) for ark in arks}
        write_table(self.folder / "sizes", sizes)
        write_table(self.scp, finished)
        for left in (self.folder / "parts").glob(".*.tmp"):  # of runs that were killed
            left.unlink()
        return sum(sizes.values())


def check_space(folder: Path, needed: int, hint: str = "") -> int:
    """Return the free bytes of the disk that holds `folder`.

    Raises:
        UserError: fewer than `needed` and a twentieth of it.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < 1.05 * needed:
        raise UserError(
            f"{folder}: the cache needs about {size(needed)}, the disk has {size(free)} left; "
            f"free some space or choose another --out{hint}"
        )
    return free


def check_sizes(scp: Path) -> None:
    """Check that the parts of a set are as long as they were written.

    Args:
        scp: Path of its `teacher.scp`.

    Raises:
        UserError: a part is missing, or was cut short.
    """
    for ark, written in read_table(scp.with_name("sizes")).items():
        now = os.path.getsize(ark) if os.path.isfile(ark) else None
        if str(now) != written:
            what = "is missing" if now is None else f"has {now:,} bytes"
            raise UserError(f"{ark}: {what}, {written} were written; {_remedy(ark, scp)}")


def locate(cache: Path, utt: str) -> str:
    """Say where a damaged entry lies and what to do about it.

    Args:
        cache: DIR.
        utt: Name of the utterance.
    """
    for scp in sorted(cache.glob("*/teacher.scp")):
        place = read_table(scp).get(utt)
        if place:
            return f"{place}; {_remedy(place.rpartition(':')[0], scp)}"
    return str(cache)


def _remedy(ark: str, scp: Path) -> str:
    return f"remove {ark.removesuffix('.ark')}.* and {scp}, and make the cache again"


def check_keys(scp: Path, keys: Iterable[str], source: Any) -> None:
    """Check that a cache holds all utterances.

    Args:
        scp: Path of its `teacher.scp`.
        keys: The utterances needed.
        source: Place that lists them, for the message.

    Raises:
        UserError: the cache is not finished, or lacks some; the first one is named.
    """
    if not scp.exists():
        raise UserError(
            f"{scp}: no such file; the cache is not finished: run espnet_kd.bin.cache_teacher "
            "again, it goes on where it stopped"
        )
    held = read_table(scp)
    missing = [utt for utt in keys if utt not in held]
    if missing:
        raise UserError(
            f"{scp}: lacks {len(missing)} utterances of {source} ('{missing[0]}' is the "
            "first); run espnet_kd.bin.cache_teacher on that data too"
        )


def size(n: float) -> str:
    """Format bytes: `25.7 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
