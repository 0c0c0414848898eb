"""Sounds under other conditions: noise, rooms, telephones, tempo, lost packets.

What is drawn hangs on the names of utterance and condition alone, so the same sounds are made
whatever else is made with them, in whatever order.
"""

import hashlib
from pathlib import Path
from typing import Callable, List, Optional, Sequence

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from espnet_kd.data.audio import BadAudio, Header, decode, read_header, resample
from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike
from espnet_kd.spec.conditions_file import BABBLE, NOISE, REVERB, WHITE, Condition

LOUDEST = 0.99  # of full scale, where nothing is to be clipped
TALKERS = 6  # of a babble
FRAME_MS, SEARCH_MS = 30.0, 8.0  # of a changed tempo
MU = 255.0
SILENT = 1e-7  # root of the mean square, of full scale
LONGEST_RESPONSE = 30.0  # seconds; beyond, a recording of something else was meant

Sounds = Callable[[np.random.Generator, int], List[np.ndarray]]
Rooms = Callable[[np.random.Generator], np.ndarray]


def generator(utt: str, condition: str) -> np.random.Generator:
    """Return the source of all that is drawn for an utterance under a condition."""
    digest = hashlib.sha256(f"{utt} {condition}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def perturb(
    audio: np.ndarray, rate: int, condition: Condition, utt: str, sounds: Sounds, rooms: Rooms
) -> np.ndarray:
    """Make a sound under a condition.

    Args:
        audio: Clean sound, of full scale 1. (S,)
        rate: Sampling rate in Hz.
        condition: The condition.
        utt: Name of the utterance.
        sounds: Function that draws sounds to make noise of, at most so many.
        rooms: Function that draws the impulse response of a room (`read_response`).

    Returns:
        The sound, as long as `audio` at the tempo of the condition. (S,)

    Raises:
        BadAudio: noise is asked for, and the utterance is silent.
        UserError: the band is beyond half the sampling rate.
    """
    random = generator(utt, condition.name)
    out = audio.astype(np.float64)  # (S,)
    if condition.tempo != 1.0:
        out = stretched(out, rate, condition.tempo)
    if condition.reverb is not None:
        recorded = bool(condition.reverb.folder)
        response = rooms(random) if recorded else decay(rate, condition.reverb.rt60, random)
        out = in_room(out, response)
    if condition.noise:
        assert condition.snr is not None  # `check` has seen to it
        out = mixed(out, _noise(condition.noise, len(out), random, sounds), condition.snr)
    if condition.band is not None:
        out = by_telephone(out, rate, condition.band)
    out = out * 10 ** (condition.gain / 20)
    if condition.lost is not None:
        out = with_losses(out, rate, condition.lost.share, condition.lost.ms, random)
    loudest = float(np.abs(out).max(initial=0.0))
    if loudest > LOUDEST:
        out = np.clip(out, -1.0, 1.0) if condition.clip else out * (LOUDEST / loudest)
    return out.astype(np.float32)


def level(audio: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(audio), dtype=np.float64)))


def mixed(audio: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add noise at a ratio in dB over the whole utterance. (S,), (S,) -> (S,)"""
    if level(audio) < SILENT:
        raise BadAudio("silent: no noise has a ratio to it")
    return audio + noise * (level(audio) / max(level(noise), SILENT) * 10 ** (-snr / 20))


def _noise(kind: str, length: int, random: np.random.Generator, sounds: Sounds) -> np.ndarray:
    """Return noise. (S,)"""
    if kind == WHITE:
        return random.standard_normal(length)
    total = np.zeros(length)  # (S,)
    for sound in sounds(random, TALKERS if kind == BABBLE else 1):
        total += np.resize(np.roll(sound, random.integers(len(sound))), length) / (
            level(sound) + 1e-9
        )
    return total


def in_room(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Add the echo of a room, at the level and the times of the sound. (S,), (R,) -> (S,)

    The direct sound, the largest sample of the response, comes when the sound does: words are
    spoken when they were, however far from the source the room was recorded.
    """
    direct = int(np.abs(response).argmax())
    out = fftconvolve(audio, response)[direct : direct + len(audio)]  # (S,)
    return out * (level(audio) / max(level(out), SILENT))


def decay(rate: int, rt60: float, random: np.random.Generator) -> np.ndarray:
    """Draw a room's response: decaying noise, as strong as the direct sound before it. (R,)"""
    time = np.arange(1, int(rt60 * rate) + 1) / rate  # (S,), seconds
    echo = random.standard_normal(len(time)) * np.exp(-3 * np.log(10) * time / rt60)
    return np.concatenate([[1.0], echo / np.sqrt(np.square(echo).sum())])


def by_telephone(audio: np.ndarray, rate: int, band: Sequence[float]) -> np.ndarray:
    """Leave a band of frequencies, in 8 bits of mu-law. (S,) -> (S,)

    Raises:
        UserError: the band is beyond half the sampling rate.
    """
    if band[1] >= rate / 2:
        raise UserError(
            f"a band up to {band[1]:g} Hz needs more than {rate} samples a second; end it below "
            f"{rate / 2:g} Hz"
        )
    filtered = sosfilt(butter(4, band, "bandpass", fs=rate, output="sos"), audio)  # (S,)
    scale = max(float(np.abs(filtered).max(initial=0.0)), SILENT)
    x = filtered / scale
    code = np.rint(np.sign(x) * np.log1p(MU * np.abs(x)) / np.log1p(MU) * 127) / 127
    return np.sign(code) * np.expm1(np.abs(code) * np.log1p(MU)) / MU * scale


def with_losses(
    audio: np.ndarray, rate: int, share: float, ms: float, random: np.random.Generator
) -> np.ndarray:
    """Silence a share of the packets. (S,) -> (S,)"""
    size = max(1, int(rate * ms / 1000))
    count = -(-len(audio) // size)
    out = audio.copy()
    for packet in random.permutation(count)[: round(share * count)]:
        out[packet * size : (packet + 1) * size] = 0.0
    return out


def stretched(audio: np.ndarray, rate: int, tempo: float) -> np.ndarray:
    """Change the tempo, not the pitch. (S,) -> (S / tempo,)

    Frames are laid over one another at half their length; each is taken from near the place
    that the tempo asks for, where it continues the one before best. (librosa has a phase
    vocoder, and numba with it, whose import takes longer than all of this.)

    Source: W. Verhelst and M. Roelands, "An overlap-add technique based on waveform similarity
    (WSOLA) for high quality time-scale modification of speech", ICASSP 1993.
    """
    frame = 2 * int(rate * FRAME_MS / 2000)
    hop, search = frame // 2, int(rate * SEARCH_MS / 1000)
    length = round(len(audio) / tempo)
    frames = -(-length // hop) + 1
    padded = np.pad(audio, (search + hop, int(frames * hop * tempo) + 2 * frame + search))
    window = np.hanning(frame + 1)[:frame]
    out = np.zeros(frames * hop + frame)
    at = search  # where the frame before would go on, less a hop
    for k in range(frames):
        wanted = search + int(k * hop * tempo)
        if k:
            natural = padded[at + hop : at + hop + frame]
            near = padded[wanted - search : wanted + search + frame]
            at = wanted - search + int(np.argmax(np.correlate(near, natural, "valid")))
        out[k * hop : k * hop + frame] += padded[at : at + frame] * window
    return out[hop : hop + length]


def read_response(path: PathLike, rate: Optional[int]) -> np.ndarray:
    """Read a room's impulse response: its first channel, at the rate of a sound. (R,)

    The mean of an array's microphones would be another room's, with echoes of the direct sound.

    Args:
        path: The sound file.
        rate: Sampling rate in Hz that is wanted; None: the file's.

    Raises:
        UserError: unreadable, silent, too long, or of a lower rate than is wanted.
    """
    try:
        header = read_header(path)
        if header.frames > LONGEST_RESPONSE * header.rate:
            raise BadAudio(
                f"{header.frames / header.rate:.0f} s, and no room's impulse response is longer "
                f"than {LONGEST_RESPONSE:.0f} s"
            )
        response, _ = decode(path, channel=0)  # (R,)
    except BadAudio as e:
        raise UserError(f"{path}: {e}; remove it from the folder of responses") from None
    rate = rate or header.rate
    if header.rate < rate:
        raise UserError(
            f"{path}: {header.rate} Hz, where the set has {rate} Hz: it would take away all above "
            f"{header.rate / 2:g} Hz; use responses of {rate} Hz or more"
        )
    return response if header.rate == rate else resample(response, header.rate, 1.0, rate)


def check_sounds(key: str, folder: str, rate: Optional[int] = None) -> None:
    """Refuse a folder of sounds of which one cannot be used.

    Args:
        key: Key of a condition that names it.
        folder: The folder.
        rate: Sampling rate in Hz of what the sounds are added to; None: not known yet.

    Raises:
        UserError: there is none, or one of them is unreadable or has another rate; of a room's
            responses see `read_response`.
    """
    for path in sound_files(folder, key):
        if key == REVERB:
            read_response(path, rate)
            continue
        try:
            check_rate(path, read_header(path), rate)
        except BadAudio as e:
            raise UserError(f"{path}: {e}; noise cannot be made of it") from None


def check_rate(path: PathLike, header: Header, rate: Optional[int]) -> None:
    """Refuse a sound of another rate than noise is made for.

    Raises:
        UserError: it is one.
    """
    if rate not in (None, header.rate):
        raise UserError(f"{path}: {header.rate} Hz, where the set has {rate} Hz; resample it")


def sound_files(folder: str, key: str) -> List[Path]:
    """List the sounds below a folder.

    Args:
        folder: The folder.
        key: Key of a condition that names it.

    Raises:
        UserError: there are none.
    """
    path = Path(folder)
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".wav", ".flac"))
    if not files:
        what = "no .wav or .flac in it" if path.is_dir() else "no such folder"
        names = f"{WHITE}, {BABBLE} or a folder of sounds"
        raise UserError(
            f"{key} '{folder}': {what}; name "
            f"{names if key == NOISE else 'a folder of impulse responses'}"
        )
    return files
