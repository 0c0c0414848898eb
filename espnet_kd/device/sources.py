"""Sound from a file, a pipe or a microphone: mono, at the model's rate, block by block."""

import contextlib
import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Iterator, List

import numpy as np

from espnet_kd.data.whole import cut_off
from espnet_kd.errors import UserError

BLOCK = 0.1  # seconds
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf")
FULL_SCALE = 32766 / 32768  # at which a sample counts as clipped
CLIPPED_SHARE = 0.001  # from which on a recording is called clipped
HEADERS = (b"RIFF", b"fLaC", b"OggS", b"FORM")  # that sound files begin with
MAX_FRAMES = 2**40  # libsndfile answers 2**63 - 1 for a FLAC that was written to a pipe
# Kinds of raw samples, and what is full scale.
RAW = {"int16": ("<i2", 32768.0), "int32": ("<i4", 2147483648.0), "float32": ("<f4", 1.0)}


@dataclasses.dataclass
class Health:
    """What was wrong with a source.

    Attributes:
        samples: Number of samples, over all channels.
        none: NaN and infinite ones, taken for silence.
        clipped: Samples at full scale.
        beyond: Samples beyond full scale, limited to it.
        gaps: Times that the microphone gave more than could be taken.
        missing: What a file lacks of the length that its header says; empty: nothing.
    """

    samples: int = 0
    none: int = 0
    clipped: int = 0
    beyond: int = 0
    gaps: int = 0
    missing: str = ""

    def words(self) -> List[str]:
        """Say what was wrong, in a phrase each."""
        words = []
        if self.missing:
            words.append(f"cut off ({self.missing}); what is there was transcribed")
        if self.none:
            words.append(f"{self.none:,} samples that are NaN or infinite: taken for silence")
        if self.beyond:
            words.append(f"{self.beyond:,} samples beyond full scale: limited to it")
        if self.clipped > CLIPPED_SHARE * self.samples:
            share = 100 * self.clipped / self.samples
            words.append(f"{share:.1f} % of the samples at full scale: the recording is clipped")
        if self.gaps:
            words.append(f"sound was lost, {self.gaps:,} times: the machine is too slow or busy")
        return words


class Intake:
    """Samples of any rate and number of channels, made mono at the model's rate.

    Args:
        rate: Rate of the source, in hertz.
        target: Rate of the model.
        channel: Channel to take, from 1 on; 0: the mean of all.

    Raises:
        UserError: the rates differ and soxr is not installed.
    """

    def __init__(self, rate: int, target: int, channel: int = 0) -> None:
        self.health, self.channel = Health(), channel
        self._resampler = None
        if rate != target:
            try:
                import soxr  # the resampler of the recipe's stage 3, which also works in pieces
            except ImportError:
                raise UserError(
                    f"sound of {rate} Hz for a model of {target} Hz needs soxr; install it: "
                    "pip install soxr"
                ) from None

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
        for block in _until_interrupted(self._blocks) if self._live else self._blocks:
            channels = block.shape[1]
            yield self._intake.push(block)
        yield self._intake.push(np.zeros((0, max(channels, self._intake.channel))), last=True)


def _until_interrupted(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield blocks until Ctrl-C, which breaks off waiting for sound but no work on it."""
    pressed = waiting = False

    def interrupted(*_: object) -> None:
        nonlocal pressed
        pressed = True
        if waiting:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            while not pressed:
                waiting = True
                block = next(blocks, None)
                waiting = False
                if block is None:
                    break
                yield block
    finally:
        signal.signal(signal.SIGINT, before)


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
    if path.suffix.lower() == ".raw":
        raise UserError(
            f"{path}: does not say its sampling rate and kind of samples; give it to stdin, "
            "with - for its name and --raw_rate, --raw_channels, --raw_format"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{ascii(str(path))}: its name is not UTF-8; rename it") from None
    with open(path, "rb"):  # whether it may be read; libsndfile says no more than 'System error'
        pass
    try:
        sound = soundfile.SoundFile(str(path))
    except soundfile.LibsndfileError as e:
        raise UserError(
            f"{path}: not a sound file that libsndfile reads ({e.error_string}); convert it to "
            "WAV or FLAC"
        ) from None
    if sound.frames > MAX_FRAMES:
        raise UserError(f"{path}: no length in its header; encode it again")
    intake = Intake(sound.samplerate, target, channel)
    with open(path, "rb") as raw:
        intake.health.missing = cut_off(raw, sound.format)

    def blocks() -> Iterator[np.ndarray]:
        with sound:
            try:
                yield from sound.blocks(
                    int(BLOCK * sound.samplerate), dtype="float32", always_2d=True
                )
            except soundfile.LibsndfileError as e:
                raise UserError(f"{path}: damaged: {e.error_string}") from None

    return Source(blocks(), intake)


def from_raw(rate: int, channels: int, kind: str, target: int, channel: int = 0) -> Source:
    """Read raw samples from standard input, as they come.

    Args:
        rate: Sampling rate in hertz.
        channels: Number of channels, interleaved.
        kind: One of `RAW`.
        target: Rate of the model.
        channel: See `Intake`.

    Raises:
        UserError: it is a sound file, no raw samples; or see `Intake`.
    """
    dtype, scale = RAW[kind]
    width = np.dtype(dtype).itemsize * channels

    def blocks() -> Iterator[np.ndarray]:
        rest, first = b"", True
        while True:
            data = os.read(sys.stdin.fileno(), max(1, int(BLOCK * rate)) * width)
            if not data:
                break
            if first and data.startswith(HEADERS):
                raise UserError(
                    "stdin: a sound file, whose header would be taken for sound; name the file, "
                    "or make raw samples of it (ffmpeg -f s16le, sox -t raw)"
                )
            first, data = False, rest + data
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

    intake = Intake(rate, target)

    def blocks() -> Iterator[np.ndarray]:
        with stream:
            while True:
                block, lost = stream.read(int(BLOCK * rate))  # (S, 1)
                intake.health.gaps += bool(lost)
                yield block

    return Source(blocks(), intake, live=True)


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
        elif path.exists():
            raise UserError(f"{path}: neither a file nor a folder; pipe raw samples into -")
        else:
            raise UserError(f"{path}: no such file or folder")
    return files
