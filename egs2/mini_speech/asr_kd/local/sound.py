"""What room and microphone add: pauses at the ends, level, noise, sampling rate, a file."""

import io
from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
import soundfile
import soxr
from pauses import FAINT_DB, Pauses

SAMPLING_RATE = 16000


def resample(samples: np.ndarray, rate_hz: int, tract: float = 1.0) -> np.ndarray:
    """Bring `samples` to 16 kHz as a speaker with a tract `tract` times as long says them."""
    return soxr.resample(samples, rate_hz, SAMPLING_RATE * tract, quality="MQ")


def trim(samples: np.ndarray, frame: int = 220, floor_db: float = -45.0) -> np.ndarray:
    """Cut the silence before and after the speech (`floor_db` below the loudest frame)."""
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    energy = (frames**2).mean(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (floor_db / 10))
    return samples[loud[0] * frame : (loud[-1] + 1) * frame]


def loop(samples: np.ndarray, count: int) -> np.ndarray:
    """Return `count` samples: `samples` cut off or said over and over, at power 1."""
    samples = np.resize(samples, count)
    return samples / np.sqrt((samples**2).mean())


def _noise(kind: str, count: int, rng: np.random.Generator, babble: np.ndarray) -> np.ndarray:
    if kind == "babble":
        return loop(np.roll(babble, -rng.integers(len(babble))), count)
    noise = rng.standard_normal(count)
    if kind == "pink":  # power falls by 3 dB an octave
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), count)
    return loop(noise, count)


def record(
    sentences: Sequence[np.ndarray],
    rng: np.random.Generator,
    babble: np.ndarray,
    snr: Tuple[float, float],
    pauses: Pauses,
) -> np.ndarray:
    """Put sentences into one recording with pauses, level and noise.

    Args:
        sentences: Trimmed speech at 16 kHz, any level.
        rng: Draws the moment at the ends of a sentence, level, kind of noise and
            signal-to-noise ratio.
        babble: Many voices at once, at 16 kHz.
        snr: Least and greatest signal-to-noise ratio in dB.
        pauses: Pauses around the sentences, one more than there are sentences.

    Returns:
        int16 samples.
    """
    # A streaming model says its last words late: they need the time to be said in.
    ends = [
        (
            rng.integers(SAMPLING_RATE // 20, SAMPLING_RATE // 8),
            rng.integers(SAMPLING_RATE // 6, SAMPLING_RATE // 3),
        )
        for _ in sentences
    ]
    level = 10 ** (rng.uniform(-30, -20) / 20)
    kind = ("white", "pink", "babble")[rng.integers(3)]
    noise_level = level * 10 ** (-rng.uniform(*snr) / 20)

    # A pause is NaN until everything has its place.
    gaps = [np.full(round(seconds * SAMPLING_RATE), np.nan) for seconds in pauses.seconds]
    parts = gaps[:1]
    for speech, end, gap in zip(sentences, ends, gaps[1:]):
        parts += [np.pad(speech * (level / np.sqrt((speech**2).mean())), end), gap]
    samples = np.concatenate(parts)
    in_pause = np.isnan(samples)
    samples[in_pause] = 0.0
    samples += noise_level * _noise(kind, len(samples), rng, babble)
    if pauses.fill == "silence":
        samples[in_pause] = 0.0
    elif pauses.fill == "faint_noise":
        faint = 10 ** (rng.uniform(*FAINT_DB) / 20)
        samples[in_pause] = faint * rng.standard_normal(in_pause.sum())
    return np.clip(samples * 32768, -32768, 32767).astype(np.int16)


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Write 16-bit FLAC."""
    # Through memory: libsndfile's errors do not tell a full disk from other trouble.
    data = io.BytesIO()
    soundfile.write(data, samples, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    path.write_bytes(data.getvalue())
