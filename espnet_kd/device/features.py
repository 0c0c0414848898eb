"""ESPnet's `default` front end in numpy: log-mel features of audio that comes in pieces."""

from typing import List, Optional

import numpy as np

from espnet_kd.device.description import Description

AT_ONCE = 1000  # feature frames whose spectra are in memory together


class FrontEnd:
    """Log-mel features: Hann window, power spectrum, mel filters, natural logarithm.

    Args:
        description: Description of the model that the features are for.

    Attributes:
        window: The Hann window, periodic. (win_length,)
        mel: Mel filters, one a column. (n_fft // 2 + 1, F)
        before: Samples of a frame before its centre.
        after: Samples of a frame from its centre on.
    """

    def __init__(self, description: Description) -> None:
        d = self.description = description
        turns = np.arange(d.win_length) / d.win_length
        self.window = 0.5 - 0.5 * np.cos(2 * np.pi * turns)  # (win_length,)
        self.mel = mel_filters(d)  # (n_fft // 2 + 1, F)
        # The window stands in the middle of n_fft samples; those beside it count for nothing.
        self.before = d.n_fft // 2 - (d.n_fft - d.win_length) // 2
        self.after = d.win_length - self.before

    def frames(self, samples: np.ndarray, count: int) -> np.ndarray:
        """Return the features of the first frames of some samples.

        Args:
            samples: Audio that begins with the first sample of the first frame. (S,)
            count: Number of frames.

        Returns:
            (count, F), float32.
        """
        d = self.description
        features = np.zeros((count, d.n_mels), np.float32)  # (count, F)
        for start in range(0, count, AT_ONCE):
            end = min(start + AT_ONCE, count)
            piece = samples[start * d.hop_length : (end - 1) * d.hop_length + d.win_length]
            windows = np.lib.stride_tricks.sliding_window_view(piece, d.win_length)
            windows = windows[:: d.hop_length] * self.window  # (frames, win_length)
            # Where the window stands in n_fft samples changes the phase alone.
            spectrum = np.fft.rfft(windows, d.n_fft)  # (frames, n_fft // 2 + 1)
            power = spectrum.real**2 + spectrum.imag**2  # (frames, n_fft // 2 + 1)
            mel = np.maximum(power @ self.mel, d.log_floor)  # (frames, F)
            features[start:end] = np.log(mel)
        return features

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the features of a whole recording.

        Args:
            samples: At the model's sampling rate, in [-1, 1]. (S,)

        Returns:
            One frame for each `hop_length` samples begun. (T, F), float32
        """
        stream = FeatureStream(self)
        return np.concatenate([stream.push(samples), stream.end()])  # (T, F)


class FeatureStream:
    """Features of audio that comes in pieces; the same as of the whole.

    The first and the last frames reach beyond the audio, which is mirrored there, as in
    `torch.stft` with `center=True`.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        self._first: Optional[List[np.ndarray]] = []  # samples; None: mirrored by now
        self._kept = np.zeros(0)  # the last samples
        self._next = 0  # the first of them that the next frame needs
        self._taken = 0  # samples so far
        self._made = 0  # frames so far

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples and return the frames that are complete. (t, F)"""
        d = self.front_end.description
        self._taken += len(samples)
        if self._first is None:
            self._kept = np.concatenate([self._kept, samples])  # (S',)
        else:
            self._first.append(samples)
            if self._taken > self.front_end.before:
                self._mirror(self._first)
        return self._take(
            max(0, 1 + (len(self._kept) - self._next - d.win_length) // d.hop_length)
        )

    def end(self) -> np.ndarray:
        """Return the last frames. (t, F)"""
        if self._taken and self._first is not None:
            self._mirror(self._first)
        total = 1 + self._taken // self.front_end.description.hop_length if self._taken else 0
        if total > self._made:
            self._kept = np.pad(self._kept, (0, self.front_end.after), "reflect")  # (S',)
        return self._take(total - self._made)

    def _mirror(self, first: List[np.ndarray]) -> None:
        self._kept = np.pad(np.concatenate(first), (self.front_end.before, 0), "reflect")  # (S',)
        self._first = None

    def _take(self, count: int) -> np.ndarray:
        features = self.front_end.frames(self._kept[self._next :], count)  # (t, F)
        self._next += count * self.front_end.description.hop_length
        # The mirror at the end needs samples before it.
        unused = max(0, self._next - self.front_end.after)
        self._kept, self._next = self._kept[unused:], self._next - unused
        self._made += count
        return features


def mel_filters(description: Description) -> np.ndarray:
    """Return triangular mel filters of equal area, as `librosa.filters.mel` makes them.

    Args:
        description: Names the band, the number of filters, and the formula of the mel scale.

    Returns:
        (n_fft // 2 + 1, F), float64 holding float32 values.
    """
    d = description
    bins = np.linspace(0, d.sampling_rate / 2, 1 + d.n_fft // 2)  # (n_fft // 2 + 1,)
    low, high = _mel(np.array([d.fmin, d.fmax]), d.htk)
    edges = _hertz(np.linspace(low, high, d.n_mels + 2), d.htk)  # (F + 2,)
    ramps = edges[:, None] - bins  # (F + 2, n_fft // 2 + 1)
    widths = np.diff(edges)[:, None]  # (F + 1, 1)
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    filters = np.maximum(0, np.minimum(rising, falling))  # (F, n_fft // 2 + 1)
    filters = filters * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters.T.astype(np.float32).astype(np.float64)


# Slaney's scale: linear up to 1000 Hz, where it has 15 mel, logarithmic above.
_LINEAR = 200 / 3  # hertz a mel
_STEP = np.log(6.4) / 27  # of the logarithm, a mel


def _mel(hertz: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 2595 * np.log10(1 + hertz / 700)
    above = 15 + np.log(np.maximum(hertz, 1000) / 1000) / _STEP
    return np.where(hertz < 1000, hertz / _LINEAR, above)


def _hertz(mel: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    above = 1000 * np.exp(_STEP * (np.maximum(mel, 15) - 15))
    return np.where(mel < 15, mel * _LINEAR, above)
