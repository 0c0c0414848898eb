"""Sound from a file, a pipe or a microphone: mono, at the model's rate, block by block."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Iterator, List

import numpy as np

from espnet_kd.errors import UserError

BLOCK = 0.1  # seconds
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf")
FULL_SCALE = 32766 / 32768  # at which a sample counts as clipped
CLIPPED_SHARE = 0.001  # from which on a recording is called clipped
# Kinds of raw samples, and what is full scale.
RAW = {"int16": ("<i2", 32768.0), "int32": ("<i4", 2147483648.0), "float32": ("<f4", 1.0)}


@dataclasses.dataclass
class Health:
    """Counts of samples of a source that were wrong.

    Attributes:
        samples: Number of samples, over all channels.
        none: NaN and infinite ones, taken for silence.
        clipped: Samples at full scale.
        beyond: Samples beyond full scale, limited to it.
    """

    samples: int = 0
    none: int = 0
    clipped: int = 0
    beyond: int = 0

    def words(self) -> List[str]:
        """Say what was wrong, in a phrase each."""
        words = []
        if self.none:
            words.append(f"{self.none:,} samples that are NaN or infinite: taken for silence")
        if self.beyond:
            words.append(f"{self.beyond:,} samples beyond full scale: limited to it")
        if self.clipped > CLIPPED_SHARE * self.samples:
            share = 100 * self.clipped / self.samples
            words.append(f"{share:.1f} % of the samples at full scale: the recording is clipped")
        return words


class Intake:
    """Samples of any rate and number of channels, made mono at the model's rate.

    Args:
        rate: Rate of the source, in hertz.
        target: Rate of the model.
        channel: Channel to take, from 1 on; 0: the mean of all.
    """

    def __init__(self, rate: int, target: int, channel: int = 0) -> None:
        self.health, self.channel = Health(), channel
        self._resampler = None
        if rate != target:
            import soxr  # the resampler of the recipe's stage 3, which also works in pieces

            self._resampler = soxr.ResampleStream(rate, target, 1, dtype="float32")

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Take samples (S, C) in [-1, 1] and return mono ones (S',).

        Raises:
            UserError: there is no such channel.
        """
        if self.channel > block.shape[1]:
            raise UserError(
                f"--channel {self.channel}: the source has {block.shape[1]} channel(s); "
                "write 0 for the mean of all"
            )
        finite = np.isfinite(block)
        block = np.where(finite, block, 0)  # (S, C)
        size = np.abs(block)
        self.health.samples += block.size
        self.health.none += int((~finite).sum())
        self.health.clipped += int((size >= FULL_SCALE).sum())
        self.health.beyond += int((size > 1).sum())
        block = np.clip(block, -1, 1)
        mono = block[:, self.channel - 1] if self.channel else block.mean(1)  # (S,)
        mono = np.ascontiguousarray(mono, np.float32)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last)
        return mono


class Source:
    """A stream of blocks of sound.

    Args:
        blocks: Samples in [-1, 1]. (S, C) each
        intake: Converter to mono at the model's rate.
        live: Whether Ctrl-C ends the sound, and not the work on it.
    """

    def __init__(self, blocks: Iterator[np.ndarray], intake: Intake, live: bool = False) -> None:
        self._blocks, self._intake, self._live = blocks, intake, live
        self.health = intake.health

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield mono blocks. (S,)"""
        channels = 1
        try:
            for block in self._blocks:
                channels = block.shape[1]
                yield self._intake.push(block)
        except KeyboardInterrupt:
            if not self._live:
                raise
        yield self._intake.push(np.zeros((0, max(channels, self._intake.channel))), last=True)


def from_file(path: Path, target: int, channel: int = 0) -> Source:
    """Open a sound file.

    Raises:
        UserError: it cannot be read, or soundfile is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError):
        raise UserError(f"{path}: needs soundfile; install it: pip install soundfile") from None
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        sound = soundfile.SoundFile(str(path))
    except soundfile.LibsndfileError as e:
        raise UserError(
            f"{path}: not a sound file that libsndfile reads ({e.error_string}); convert it to "
            "WAV or FLAC"
        ) from None

    def blocks() -> Iterator[np.ndarray]:
        with sound:
            try:
                yield from sound.blocks(
                    int(BLOCK * sound.samplerate), dtype="float32", always_2d=True
                )
            except soundfile.LibsndfileError as e:
                raise UserError(f"{path}: damaged: {e.error_string}") from None

    return Source(blocks(), Intake(sound.samplerate, target, channel))


def from_raw(rate: int, channels: int, kind: str, target: int, channel: int = 0) -> Source:
    """Read raw samples from standard input, as they come.

    Args:
        rate: Sampling rate in hertz.
        channels: Number of channels, interleaved.
        kind: One of `RAW`.
        target: Rate of the model.
        channel: See `Intake`.
    """
    dtype, scale = RAW[kind]
    width = np.dtype(dtype).itemsize * channels

    def blocks() -> Iterator[np.ndarray]:
        rest = b""
        while True:
            data = os.read(sys.stdin.fileno(), max(1, int(BLOCK * rate)) * width)
            if not data:
                break
            data = rest + data
            whole = len(data) - len(data) % width
            rest = data[whole:]
            samples = np.frombuffer(data[:whole], dtype).astype(np.float32) / scale
            yield samples.reshape(-1, channels)  # (S, C)

    return Source(blocks(), Intake(rate, target, channel), live=True)


def from_microphone(target: int) -> Source:
    """Listen to the default input device until Ctrl-C.

    Raises:
        UserError: sounddevice is not installed, or there is no microphone.
    """
    try:
        import sounddevice
    except (ImportError, OSError):  # OSError: its library PortAudio is missing
        raise UserError(
            "--microphone needs sounddevice and PortAudio; install them: pip install sounddevice "
            "(on Debian also: apt-get install libportaudio2)"
        ) from None
    try:
        rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
        stream = sounddevice.InputStream(rate, channels=1, dtype="float32")
    except (sounddevice.PortAudioError, ValueError) as e:
        raise UserError(f"--microphone: no input device: {' '.join(str(e).split())}") from None

    def blocks() -> Iterator[np.ndarray]:
        with stream:
            while True:
                yield stream.read(int(BLOCK * rate))[0]  # (S, 1)

    return Source(blocks(), Intake(rate, target), live=True)


def sound_files(paths: List[Path]) -> List[Path]:
    """Return the files among some paths, and the sound files in the folders among them.

    Raises:
        UserError: there is no such path, or no sound file in a folder.
    """
    files = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"{path}: no sound files in it ({', '.join(SUFFIXES)})")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return files
