"""Data directory -> `dump/raw`: one mono sound file at one sampling rate an utterance.

A file appears under its name only when it is complete, and its name tells what it was made of:
a checksum of the utterance, the content of its source and the settings. So an earlier run's
files are found again after a kill, and those of other audio are not taken for them. `utt2audio`
holds their own checksums, by which damage shows.
"""

import contextlib
import hashlib
import logging
import math
import re
import sys
import time
from pathlib import Path
from typing import Iterable, Iterator, List, Mapping, NamedTuple, Optional

import numpy as np

from espnet_kd.data.audio import (
    FAST_FORMATS,
    BadAudio,
    decode,
    encode,
    read_header,
    resample,
    resampled_frames,
)
from espnet_kd.data.audio_source import is_file
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.identity import (
    MISSING,
    describe,
    digest_of,
    path_of,
    read_record,
    renewed,
)
from espnet_kd.data.kaldi_dir import Tables, select
from espnet_kd.data.pace import Pace
from espnet_kd.data.parallel import parallel_map
from espnet_kd.data.segments import Segment, parse_segment
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.progress import Progress
from espnet_kd.scoring.conditions import LABELS

OURS = re.compile(r".*-[0-9a-f]{16}\.(flac|wav)(\.\d+\.tmp)?")
READABLE = 100  # characters of an utterance that its file is named by
CLIPPED = 4.0  # times full scale: what is clipped by more was not recorded like that
PATIENCE = 30.0  # seconds in which further bad files are counted before a set is refused


class Settings(NamedTuple):
    """Form that every file is brought into."""

    rate: int
    audio_format: str = "flac"
    resample: bool = False
    min_seconds: float = 0.025
    check_audio: bool = True
    force: bool = False


class Job(NamedTuple):
    """One utterance to format."""

    utt: str
    source: str  # a line of utt2audio
    speed: float
    target: str
    settings: Settings
    made: str = ""  # the line of utt2audio that an earlier run wrote for the target
    segment: Optional[Segment] = None  # the part of the source that it is


class Result(NamedTuple):
    """One utterance formatted, or why not."""

    utt: str
    file: str = ""  # a line of utt2audio
    samples: int = 0
    how: str = ""  # "kept", "written" or "found"
    error: Optional[str] = None
    seconds: float = 0.0  # that the worker spent on it


def format_audio(tables: Tables, out: Path, settings: Settings, nj: int, bad: BadItems) -> Tables:
    """Make the sound files of a data directory.

    Args:
        tables: The data directory, with `utt2audio` of all files.
        out: Directory under which `data/format.<xx>/` is made.
        settings: Rate, format and checks.
        nj: Processes.
        bad: Unusable items of the set so far; more of it is skipped, and counted here.

    Returns:
        `wav.scp`, `text`, `utt2spk`, `utt2num_samples`, `utt2audio` (and labels, if
        there) of the usable utterances.

    Raises:
        UserError: a wrong sampling rate, too many bad files.
    """
    label = bad.where
    total, before = len(tables["wav.scp"]) + bad.count, bad.count
    progress = Progress(f"format {label}", total - before)
    pace = Pace(label, total - before, nj)
    files, samples = {}, {}
    how = {"kept": 0, "written": 0, "found": 0}
    refuse_at = math.inf
    # closing: if we refuse midway, the workers stop before the message is printed.
    results = parallel_map(format_one, _jobs(tables, out, settings, pace.order()), nj)
    with contextlib.closing(results):
        for seen, result in enumerate(results, before + 1):
            if result.error is not None:
                bad.add("unusable sound files", f"{tables['wav.scp'][result.utt]}: {result.error}")
            else:
                utt = sys.intern(result.utt)  # the key that is there, not a copy of it
                files[utt] = result.file
                samples[utt] = str(result.samples)
                how[result.how] += 1
                if result.how != "found":
                    pace.add(result.samples / settings.rate, result.seconds)
            progress.update()
            if refuse_at == math.inf and bad.exceed(total):
                refuse_at = time.monotonic() + PATIENCE
            if time.monotonic() >= refuse_at:
                bad.refuse_beyond_share(total, seen)
    progress.close()
    bad.refuse_beyond_share(total)
    bad.log()
    if not files:
        raise UserError(f"{label}: no usable utterance is left")
    hours = sum(map(int, samples.values())) / settings.rate / 3600
    logging.info(
        f"{label}: {len(files)} utterances, {hours:.2f} hours: {how['written']} files written, "
        f"{how['found']} found from an earlier run, {how['kept']} used where they are (mono "
        f"{settings.rate} Hz flac or wav already)"
    )
    pace.close()
    tables_kept = [name for name in ("text", "utt2spk", *LABELS) if name in tables]
    kept = select({name: tables[name] for name in tables_kept}, files)
    wav = {utt: path_of(line) for utt, line in files.items()}
    return {"wav.scp": wav, "utt2num_samples": samples, "utt2audio": files, **kept}


def _jobs(tables: Tables, out: Path, settings: Settings, order: Iterable[int]) -> Iterator[Job]:
    speeds, segments = tables.get("utt2speed", {}), tables.get("segments")
    utts, made = sorted(tables["wav.scp"]), read_record(out)
    for n in order:
        utt, source = utts[n], tables["utt2audio"][utts[n]]
        speed = _speed(utt, speeds)
        segment = parse_segment(utt, segments[utt], "segments") if segments else None
        target = str(_target(out, utt, (digest_of(source), speed, segment), settings))
        line = made.get(utt, "")
        line = line if path_of(line) == target else ""
        yield Job(utt, source, speed, target, settings, line, segment)


def _target(out: Path, utt: str, source: tuple, settings: Settings) -> Path:
    """Name the file of an utterance: no other one has that name, upper or lower case."""
    what = repr((utt, *source, settings.rate, settings.audio_format))
    key = hashlib.sha256(what.encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", utt)[:READABLE].lstrip(".")
    return out / "data" / f"format.{key[:2]}" / f"{name}-{key}.{settings.audio_format}"


def unused_files(out: Path, wav: Mapping[str, str]) -> List[Path]:
    """Return the files that earlier runs made for `out`, and that are not among `wav`."""
    folder = out / "data"
    made = {p for p in folder.glob("format.*/*") if OURS.fullmatch(p.name)}
    with contextlib.suppress(UserError):  # no table yet
        # Until the names told what they were made of, only the table knew them.
        made |= {p for p in map(Path, read_table(out / "wav.scp").values()) if folder in p.parents}
    return sorted(made - set(map(Path, wav.values())))


def remove(files: Iterable[Path]) -> None:
    """Remove files, and the folders that they leave empty."""
    files = list(files)
    for file in files:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in files}:
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
    if files:
        logging.info(f"removed {len(files)} files that no utterance has any more ({files[0]})")


def _speed(utt: str, speeds: Mapping[str, str]) -> float:
    try:
        speed = float(speeds.get(utt, "1"))
    except ValueError:
        speed = 0.0
    if not 0.1 <= speed <= 10:
        raise UserError(f"utt2speed: '{utt}' has '{speeds[utt]}', which is no speed")
    return speed


def format_one(job: Job) -> Result:
    """Format one utterance; runs in a worker process.

    Raises:
        UserError: the sampling rate is wrong and resampling was not asked for.
        OSError: the disk is full.
    """
    settings, start = job.settings, time.perf_counter()
    path = path_of(job.source)
    try:
        header = read_header(path)
        if digest_of(job.source) == MISSING:
            raise BadAudio("it could not be read a moment ago")
        if header.rate != settings.rate and not settings.resample:
            raise UserError(
                f"{path}: sampling rate {header.rate} Hz found, {settings.rate} Hz wanted; "
                "give that --fs, or --resample true to convert"
            )
        part = range(header.frames) if job.segment is None else job.segment.frames(header)
        samples = resampled_frames(len(part), header.rate, job.speed, settings.rate)
        if samples < settings.min_seconds * settings.rate:
            raise BadAudio(f"too short ({samples} samples)")
        plain = header.rate == settings.rate and job.speed == 1
        whole = len(part) == header.frames
        usable = header.channels == 1 and header.format in FAST_FORMATS and is_file(path)
        if plain and whole and usable:
            if settings.check_audio:
                decode(path)
            return _made(job, job.source, samples, "kept", start)
        made = "" if settings.force else _finished(job, samples)
        if made:
            return Result(job.utt, made, samples, "found")
        audio, _ = decode(path, part)
        if np.abs(audio).max() > CLIPPED:
            raise BadAudio("louder than can be written; its samples must lie between -1 and 1")
    except BadAudio as e:
        return Result(job.utt, error=str(e))
    if not plain:
        audio = resample(audio, header.rate, job.speed, settings.rate)
    encode(job.target, audio, settings.rate, settings.audio_format)
    return _made(job, describe(job.target), len(audio), "written", start)


def _made(job: Job, file: str, samples: int, how: str, start: float) -> Result:
    return Result(job.utt, file, samples, how, seconds=time.perf_counter() - start)


def _finished(job: Job, samples: int) -> str:
    """Return the line of `utt2audio` of the target if it is there and sound, or nothing."""
    if job.made:
        line = renewed(job.made)
        return line if digest_of(line) == digest_of(job.made) else ""
    try:  # an earlier run was killed before it wrote the table
        audio, header = decode(job.target)
    except BadAudio:
        return ""
    sound = header.rate == job.settings.rate and len(audio) == samples
    return describe(job.target) if sound else ""
