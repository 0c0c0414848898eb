"""One sound file: look at its header, decode it, change speed and rate, encode it."""

import contextlib
import io
import os
import stat
from typing import Iterator, NamedTuple, Optional, Tuple

import numpy as np
import soundfile

from espnet_kd.data.audio_source import BadSource, is_file, opened
from espnet_kd.data.whole import behind, cut_off
from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike, atomic_path

# Formats that training may read straight from the corpus. Opus, MP3 and Vorbis decode
# several times slower than FLAC, and every epoch would pay for it.
FAST_FORMATS = ("FLAC", "WAV", "WAVEX")
# A FLAC made through a pipe says nothing of its length; libsndfile then answers 2**63 - 1.
MAX_FRAMES = 2**40
# Floating-point files may hold integers of 32 bits, and anything else by mistake. Beyond this
# the power of a spectrum soon overflows.
LOUDEST = 2.0**31
# What is left of the peak when channels of opposite sign, and nothing else, are averaged.
CANCELLED = 1e-3


class BadAudio(Exception):
    """A sound file that cannot be used; the message says why, without the path."""


class Header(NamedTuple):
    """Header of a sound file."""

    frames: int
    rate: int
    channels: int
    format: str


def read_header(path: PathLike) -> Header:
    """Read the header of a sound file, or of what an entry of `wav.scp` stands for.

    Raises:
        BadAudio: unreadable, no audio inside, cut off, or longer than it says.
    """
    with _reading(path) as f:
        return _header(f, path)


def decode(
    path: PathLike, part: Optional[range] = None, channel: Optional[int] = None
) -> Tuple[np.ndarray, Header]:
    """Decode a sound file to mono float32; several channels are averaged.

    Args:
        path: The file, or an entry of `wav.scp` that stands for one (see `audio_source`).
        part: Frames to decode; None: all.
        channel: Channel to take, from 0, in place of the average.

    Returns:
        Audio (S,) in [-1, 1], and the header.

    Raises:
        BadAudio: unreadable, shorter or longer than its header says, samples that are no
            numbers, or all 0.
    """
    with _reading(path) as f:
        header = _header(f, path)
        part = range(header.frames) if part is None else part
        if part.start:
            f.seek(part.start)
        audio = f.read(len(part), dtype="float32", always_2d=True)  # (S, channels)
    if channel is not None:
        audio = audio[:, channel : channel + 1]  # (S, 1)
    if len(audio) < len(part):
        raise BadAudio(f"cut off ({len(audio)} of {len(part)} samples)")
    peak = float(np.abs(audio).max(initial=0.0))
    if not peak <= LOUDEST:  # NaN is not either
        raise BadAudio(f"a sample is {peak:g}, where 1 is full scale")
    mono = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
    if not peak:
        raise BadAudio("silent, every sample is 0")
    if float(np.abs(mono).max()) < CANCELLED * peak:
        raise BadAudio("its channels cancel each other out; choose one of them")
    return mono, header


def decode_or_refuse(path: PathLike) -> Tuple[np.ndarray, Header]:
    """Decode a sound file that nothing can be done without: see `decode`.

    Raises:
        UserError: It cannot be used.
    """
    try:
        return decode(path)
    except BadAudio as e:
        raise UserError(f"{path}: {e}; repair it, or remove it from the data directory") from None


def resampled_frames(frames: int, rate: int, speed: float, target_rate: int) -> int:
    """Return the number of samples that `resample` makes of `frames`."""
    return int(frames * target_rate / (rate * speed) + 0.5)


def resample(audio: np.ndarray, rate: int, speed: float, target_rate: int) -> np.ndarray:
    """Play `audio` `speed` times faster (pitch moves too, as sox `speed`) at `target_rate`.

    soxr is sox's own resampler and already among ESPnet's dependencies (by librosa).
    It takes 1.3 ms for ten seconds; torchaudio's is no faster with its import counted.
    """
    import soxr  # here, because a corpus at speed 1 never needs it

    return soxr.resample(audio, rate * speed, target_rate)


def encode(path: PathLike, audio: np.ndarray, rate: int, audio_format: str) -> None:
    """Write mono `audio` (S,) as 16-bit `flac` or `wav`, atomically.

    The file is made in memory first: libsndfile hides a full disk (it reports success
    and leaves a broken file), Python's own write does not.

    Raises:
        OSError: the disk is full, or the place cannot be written.
    """
    pcm = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, rate, format=audio_format.upper(), subtype="PCM_16")
    with atomic_path(path) as tmp, open(tmp, "wb") as f:
        f.write(buffer.getbuffer())


@contextlib.contextmanager
def _reading(path: PathLike) -> Iterator[soundfile.SoundFile]:
    """Open a sound file; every way in which libsndfile fails becomes `BadAudio`."""
    try:
        if not is_file(path):
            with opened(path) as content, soundfile.SoundFile(content) as f:
                yield f
            return
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadAudio("not a file")  # a named pipe would be waited for
        if status.st_size == 0:
            raise BadAudio("zero-length")
        with soundfile.SoundFile(path) as f:
            yield f
    except BadSource as e:
        raise BadAudio(str(e)) from None
    except OSError as e:
        raise BadAudio(f"unreadable ({e.strerror})") from None
    except (soundfile.SoundFileError, TypeError) as e:  # TypeError: headerless .raw
        reason = getattr(e, "error_string", str(e)).strip().rstrip(".")
        raise BadAudio(f"unreadable ({reason})") from None


def _header(f: soundfile.SoundFile, path: PathLike) -> Header:
    with opened(path) as content:
        missing = cut_off(content, f.format)
    if missing:
        raise BadAudio(f"cut off ({missing})")
    if f.frames <= 0:
        raise BadAudio("zero-length by its header")
    if f.frames > MAX_FRAMES:
        raise BadAudio("no length in its header; encode it again")
    with opened(path) as content:
        more = behind(content, f.format, f.frames)
    if more:
        raise BadAudio(f"longer than its header says ({more}); encode it again")
    return Header(f.frames, f.samplerate, f.channels, f.format)
