"""Which audio a data directory refers to: the checksum of every sound file, kept in `utt2audio`.

A line of `utt2audio` is `<utt> <sha256> <size> <mtime ns> <ctime ns> <path>`; for a command in
`wav.scp` the checksum is that of its words and of the files among them. A file is read
again only if its path, size or times differ from its line, so that asking once more costs one
`stat` a file. The ctime is compared because `cp -p` and `rsync -t` restore the mtime of what
they put in a file's place, and nothing restores a ctime.

Not noticed: content that changes while size and both times stay, as on a failing disk.
"""

import hashlib
import logging
import os
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional

from espnet_kd.data import audio_source
from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, read_table, write_table
from espnet_kd.progress import track

NAME = "utt2audio"
MISSING = "missing"  # in the place of a checksum
# Files that stage 3 makes: they are damaged if they change, while a corpus may be exchanged.
MADE = re.compile(r"\bdata/format\.[0-9a-f]{2}/[^/]*-[0-9a-f]{16}\.(flac|wav)$")
THREADS = 8  # that wait together for a network disk
CHUNK = 256
# A file written again within one tick of the file system's clock keeps its times. One that
# was this young when it was read is read once more.
TICK_NS = 10**8


def audio_state(data_dir: PathLike, may_miss: bool = False) -> str:
    """Return a checksum of all audio of a data directory, by utterance.

    It depends on the utterances of `wav.scp`, on the content of their files and on
    `utt2speed`; not on the names of the files, nor on when they were written. `utt2audio` is
    brought up to date, where the directory can be written.

    Args:
        data_dir: Directory with `wav.scp`, such as `data/train` or `dump/raw/train`.
        may_miss: Whether a file that cannot be read, or is damaged, counts as a state of its
            own, for directories whose reader skips bad files itself.

    Raises:
        UserError: no `wav.scp`, a file that cannot be read, or one that stage 3 made and that is
            damaged.
    """
    data_dir = Path(data_dir)
    record = read_record(data_dir)
    files = audio_files(data_dir, may_miss, record)
    # A line whose content differs stays: it says what the directory was made of, until the
    # stage that makes the directory runs again.
    lines = {utt: record[utt] if _differs(record.get(utt), f) else f for utt, f in files.items()}
    if lines != record:
        write_record(data_dir, lines)
    speeds = read_table(data_dir / "utt2speed") if (data_dir / "utt2speed").exists() else {}
    sha = hashlib.sha256()
    for utt in sorted(files):
        sha.update(f"{utt} {digest_of(files[utt])} {speeds.get(utt, '')}\n".encode())
    return sha.hexdigest()


def audio_files(
    data_dir: PathLike, may_miss: bool = False, record: Optional[Mapping[str, str]] = None
) -> Dict[str, str]:
    """Return what the files of `wav.scp` hold now: key -> line of `utt2audio`.

    Args:
        data_dir: Directory with `wav.scp`, and `utt2audio` or not.
        may_miss: Whether a file that cannot be read is `missing` instead of a checksum, and
            one that is damaged as good as any.
        record: Content of its `utt2audio`, if that has been read.

    Raises:
        UserError: a file that cannot be read, one that stage 3 made and that is damaged, or what
            is no file.
    """
    wav = audio_source.read_wav_scp(data_dir)
    record = read_record(data_dir) if record is None else record
    users = {path: utt for utt, path in wav.items()}  # one of each file
    for path, utt in users.items():
        if not may_miss and not audio_source.is_file(path):
            raise UserError(
                f"{data_dir}/wav.scp: '{utt}' is no sound file ({path}), and trainings read "
                "nothing else; stage 3 makes files of such a directory: name it, or the dump/ it "
                "is of, with --corpus"
            )
    now = dict(zip(users, _map(_times, users)))
    unread = []
    for path, utt in users.items():
        line = record.get(utt, "")
        if line.endswith(now[path]) and now[path]:
            now[path] = line
        else:
            unread.append(path)
    if unread:
        lines = track(_map(describe, unread), f"checksum {data_dir}", len(unread), unit="files")
        now.update({path_of(line): line for line in lines})
    changed = [path for path in unread if _differs(record.get(users[path]), now[path])]
    damaged = [path for path in changed if MADE.search(path)]
    if damaged and not may_miss:
        raise UserError(
            f"{data_dir}: {len(damaged)} of {len(now)} sound files are not what stage 3 made, "
            f"such as that of '{users[damaged[0]]}': {damaged[0]}; run again from stage 3 on, "
            "which makes them anew"
        )
    if changed:
        logging.warning(
            f"{data_dir}: {len(changed)} of {len(now)} sound files are not what they were when "
            f"the directory was made, such as that of '{users[changed[0]]}': {changed[0]}"
        )
    for path in unread:
        if digest_of(now[path]) == MISSING and not may_miss:
            raise UserError(
                f"{data_dir}/wav.scp: the sound file of '{users[path]}' cannot be read: {path}; "
                "put it back, or make the directory again by the stage that writes it"
            )
    return {utt: now[path] for utt, path in wav.items()}


def describe(path: str) -> str:
    """Read a file and return its line of `utt2audio`."""
    times = _times(path)  # before the content: a change while it is read shows next time
    try:
        if not times:
            raise FileNotFoundError(path)
        digest = audio_source.digest(path)
    except (OSError, audio_source.BadSource):
        return f"{MISSING} -1 0 0 {path}"
    if abs(time.time_ns() - int(times.split(" ", 4)[3])) < TICK_NS:
        times = f" -1 0 0 {path}"  # times of no file: it is read again next time
    return digest + times


def digest_of(line: str) -> str:
    """Return the checksum of a line of `utt2audio`."""
    return line.partition(" ")[0]


def path_of(line: str) -> str:
    """Return the path of a line of `utt2audio`."""
    return line.split(" ", 4)[-1]


def renewed(line: str) -> str:
    """Return a line of `utt2audio` as it is now, reading the file if its times differ."""
    times = _times(path_of(line))
    return line if times and line.endswith(times) else describe(path_of(line))


def lines_of(wav: Mapping[str, str], files: Mapping[str, str]) -> Dict[str, str]:
    """Return the lines of `files` for another table of the same files, by their paths."""
    by_path = {path_of(line): line for line in files.values()}
    return {utt: by_path[path] for utt, path in wav.items() if path in by_path}


def read_record(data_dir: PathLike) -> Dict[str, str]:
    """Read `utt2audio`; a damaged one is as if it were not there, since it can be made anew."""
    try:
        return read_table(Path(data_dir) / NAME)
    except (UserError, OSError):
        return {}


def write_record(data_dir: PathLike, lines: Mapping[str, str]) -> None:
    """Write `utt2audio` of a data directory; one that cannot be written does without."""
    try:
        write_table(Path(data_dir) / NAME, lines)
    except OSError as e:
        logging.info(f"{data_dir}: {NAME} is not kept ({e.strerror})")


def _differs(old: Optional[str], new: str) -> bool:
    """Say whether a file of the same path has other content."""
    if not old or old == new:
        return False
    return path_of(old) == path_of(new) and digest_of(old) != digest_of(new)


def _times(path: str) -> str:
    """Return how a line of `utt2audio` ends; nothing for what has no content to compare."""
    size = mtime = ctime = 0
    for file in audio_source.depends_on(path):  # of a command none may be seen
        try:
            status = os.stat(file)
        except (OSError, ValueError):  # ValueError: a path with a NUL
            return ""
        if not stat.S_ISREG(status.st_mode):
            return ""
        size += status.st_size
        mtime, ctime = max(mtime, status.st_mtime_ns), max(ctime, status.st_ctime_ns)
    return f" {size} {mtime} {ctime} {path}"


def _map(work: Callable[[str], str], paths: Iterable[str]) -> Iterator[str]:
    """Yield `work(path)` in order, from threads; a message a path would cost more than it."""
    paths = list(paths)
    if len(paths) <= CHUNK:
        yield from map(work, paths)
        return
    chunks: List[List[str]] = [paths[n : n + CHUNK] for n in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        for results in pool.map(lambda chunk: [work(path) for path in chunk], chunks):
            yield from results
