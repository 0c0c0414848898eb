"""Data directory -> `dump/raw`: one mono sound file at one sampling rate an utterance.

Finished files are found again after a kill: a file appears under its name only when it
is complete, and counts as finished if it is newer than its source and as long as the
source says it must be.
"""

import contextlib
import logging
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Iterable, Iterator, Mapping, NamedTuple, Optional

from espnet_kd.data.audio import (
    FAST_FORMATS,
    BadAudio,
    decode,
    encode,
    read_header,
    resample,
    resampled_frames,
)
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.kaldi_dir import Tables, select
from espnet_kd.data.pace import Pace
from espnet_kd.data.parallel import parallel_map
from espnet_kd.data.segments import Segment, parse_segment
from espnet_kd.errors import UserError
from espnet_kd.progress import Progress

FILES_A_FOLDER = 1000
PATIENCE = 30.0  # seconds in which further bad files are counted before a set is refused


class Settings(NamedTuple):
    """What every file is made into."""

    rate: int
    audio_format: str = "flac"
    resample: bool = False
    min_seconds: float = 0.025
    check_audio: bool = True


class Job(NamedTuple):
    """One utterance to format."""

    utt: str
    source: str
    speed: float
    target: str
    settings: Settings
    segment: Optional[Segment] = None  # the part of the source that it is


class Result(NamedTuple):
    """One utterance formatted, or why not."""

    utt: str
    path: str = ""  # empty: the source
    samples: int = 0
    how: str = ""  # "kept", "written" or "found"
    error: Optional[str] = None
    seconds: float = 0.0  # that the worker spent on it


def format_audio(tables: Tables, out: Path, settings: Settings, nj: int, bad: BadItems) -> Tables:
    """Make the sound files of a data directory.

    Args:
        tables: The data directory.
        out: Directory under which `data/format.N/` is made.
        settings: Rate, format and checks.
        nj: Processes.
        bad: What of the set is unusable so far; more of it is skipped, and counted here.

    Returns:
        `wav.scp`, `text`, `utt2spk`, `utt2num_samples` (and `utt2condition`, if there) of the
        usable utterances.

    Raises:
        UserError: a wrong sampling rate, a `wav.scp` with pipes, too many bad files.
    """
    label = bad.where
    total, before = len(tables["wav.scp"]) + bad.count, bad.count
    progress = Progress(f"format {label}", total - before)
    pace = Pace(label, total - before, nj)
    wav, samples = {}, {}
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
                wav[utt] = result.path or tables["wav.scp"][utt]
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
    if not wav:
        raise UserError(f"{label}: no usable utterance is left")
    hours = sum(map(int, samples.values())) / settings.rate / 3600
    logging.info(
        f"{label}: {len(wav)} utterances, {hours:.2f} hours: {how['written']} files written, "
        f"{how['found']} found from an earlier run, {how['kept']} used where they are (mono "
        f"{settings.rate} Hz flac or wav already)"
    )
    pace.close()
    said = [name for name in ("text", "utt2spk", "utt2condition") if name in tables]
    kept = select({name: tables[name] for name in said}, wav)
    return {"wav.scp": wav, "utt2num_samples": samples, **kept}


def _jobs(tables: Tables, out: Path, settings: Settings, order: Iterable[int]) -> Iterator[Job]:
    speeds, segments = tables.get("utt2speed", {}), tables.get("segments")
    utts = sorted(tables["wav.scp"])
    for n in order:
        utt, source = utts[n], tables["wav.scp"][utts[n]]
        _refuse_no_file(utt, source)
        folder = out / "data" / f"format.{n // FILES_A_FOLDER + 1}"
        target = str(folder / f"{utt.replace('/', '_')}.{settings.audio_format}")
        segment = parse_segment(utt, segments[utt], "segments") if segments else None
        yield Job(utt, source, _speed(utt, speeds), target, settings, segment)


def _refuse_no_file(utt: str, source: str) -> None:
    """Refuse what Kaldi takes for audio, and this recipe does not."""
    if source.endswith("|"):
        what = "a pipe"
    elif re.search(r"\.ark:\d+(\[.*\])?$", source) and not os.path.exists(source):
        what = "a part of a Kaldi archive"
    else:
        return
    raise UserError(
        f"wav.scp: '{utt}' is {what} ({source}); this recipe reads sound files only: write its "
        "output to files in local/data.sh"
    )


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
    try:
        header = read_header(job.source)
        if header.rate != settings.rate and not settings.resample:
            raise UserError(
                f"{job.source}: sampling rate {header.rate} Hz found, {settings.rate} Hz wanted; "
                "give that --fs, or --resample true to convert"
            )
        part = range(header.frames) if job.segment is None else job.segment.frames(header)
        samples = resampled_frames(len(part), header.rate, job.speed, settings.rate)
        if samples < settings.min_seconds * settings.rate:
            raise BadAudio(f"too short ({samples} samples)")
        plain = header.rate == settings.rate and job.speed == 1
        whole = len(part) == header.frames
        if plain and whole and header.channels == 1 and header.format in FAST_FORMATS:
            if settings.check_audio:
                decode(job.source)
            return _made(job, "", samples, "kept", start)
        if _finished(job, samples):
            return Result(job.utt, job.target, samples, "found")
        audio, _ = decode(job.source, part)
    except BadAudio as e:
        return Result(job.utt, error=str(e))
    if not plain:
        audio = resample(audio, header.rate, job.speed, settings.rate)
    encode(job.target, audio, settings.rate, settings.audio_format)
    return _made(job, job.target, len(audio), "written", start)


def _made(job: Job, path: str, samples: int, how: str, start: float) -> Result:
    return Result(job.utt, path, samples, how, seconds=time.perf_counter() - start)


def _finished(job: Job, samples: int) -> bool:
    try:
        if os.path.getmtime(job.target) < os.path.getmtime(job.source):
            return False
        found = read_header(job.target)
    except (OSError, BadAudio):
        return False
    return found.rate == job.settings.rate and found.frames == samples
