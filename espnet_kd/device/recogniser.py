"""Streaming recognition: audio in, segments of text out, in constant memory.

Chunks lie on the grid that the model was trained with, and no frame is dropped, so that the
text of an utterance is what the chunk-masked full encoder gives. A pause ends a segment; the
states of encoder and search begin anew behind it.
"""

import dataclasses
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from espnet_kd.device.description import REMAKE
from espnet_kd.device.features import FeatureStream, FrontEnd
from espnet_kd.device.networks import Networks, OnnxNetworks, put_rows, rows_of
from espnet_kd.device.search import BeamSearch, GreedySearch, Search, Text
from espnet_kd.device.spelling import Spelling, read_tokens
from espnet_kd.errors import UserError

SHORT_PAUSE = 0.3  # seconds that end a segment that is longer than `Pauses.longest`


@dataclasses.dataclass(frozen=True)
class Pauses:
    """When a segment ends, in seconds.

    Attributes:
        pause: Silence behind words that ends a segment; 0: none does.
        silence: Silence without any word before it after which the states begin anew.
        longest: Length from which on a short pause ends a segment; twice of it is the end.
    """

    pause: float = 1.0
    silence: float = 2.4
    longest: float = 20.0


@dataclasses.dataclass(frozen=True)
class Word:
    """A word with its time, in seconds."""

    text: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Token:
    """A token with the time of the encoder frame at which it was emitted, in seconds."""

    text: str
    time: float


@dataclasses.dataclass(frozen=True)
class Segment:
    """A segment: the words between two pauses.

    Attributes:
        text: Words with spaces between them.
        stable: The beginning of the text that will not change.
        words: The words.
        tokens: The tokens.
        start: Time of the first word, in seconds.
        end: End of the last word, in seconds.
    """

    text: str
    stable: str
    words: List[Word]
    tokens: List[Token]
    start: float
    end: float


class Recogniser:
    """A model that is loaded.

    Args:
        networks: The model.
        tokens: Tokens of the model, by label.
        beam: Number of hypotheses to keep; 1: greedy search.
    """

    def __init__(self, networks: Networks, tokens: Sequence[str], beam: int = 1) -> None:
        self.networks, self.description, self.beam = networks, networks.description, beam
        self.spelling = Spelling(tokens, self.description.token_type)
        self.front_end = FrontEnd(self.description)
        self.frame_seconds = (  # of an encoder frame
            self.description.subsampling
            * self.description.hop_length
            / self.description.sampling_rate
        )
        self.shift = self.description.subsampling * self.description.chunk_size

    @classmethod
    def load(cls, folder: Path, beam: int = 1, threads: int = 1) -> "Recogniser":
        """Load an exported folder.

        Raises:
            UserError: see `OnnxNetworks` and `read_tokens`; or the beam is too large.
        """
        networks = OnnxNetworks(folder, threads)
        tokens = read_tokens(folder)
        # One frame: do `model.json`, the graphs and the tokens fit together?
        d = networks.description
        x = np.zeros((1, d.overlap + d.subsampling, d.n_mels), np.float32)  # (1, T, F)
        try:
            enc, _ = networks.encode(x, networks.start_encoder(1))  # (1, 1, J)
            dec, _ = networks.predict(np.zeros(1, np.int64), networks.start_predictor(1))
            width = networks.join(enc[:, 0], dec).shape[-1]
        except Exception as e:  # onnxruntime has a class for each of its many reasons
            raise UserError(
                f"{folder}: model.json and the graphs do not fit together: {e}; {REMAKE}"
            ) from None
        if width != len(tokens):
            raise UserError(
                f"{folder / 'tokens.txt'}: {len(tokens)} tokens, but joiner.onnx scores {width}; "
                f"{REMAKE}"
            )
        if beam > width:  # as ESPnet
            raise UserError(f"beam size {beam}: expected at most the number of tokens, {width}")
        return cls(networks, tokens, beam)

    def new_search(self) -> Search:
        """Return the search for an utterance."""
        if self.beam == 1:
            return GreedySearch(self.networks)
        return BeamSearch(self.networks, self.beam)

    def segment(self, text: Text, start: float) -> Segment:
        """Put what a search has at its times.

        Args:
            text: Labels and frames.
            start: Time of the first frame of the utterance, in seconds.
        """
        times = [start + frame * self.frame_seconds for frame in text.frames]
        words = [
            Word(w.text, times[w.first], times[w.last - 1] + self.frame_seconds)
            for w in self.spelling.words(text.labels)
        ]
        tokens = [Token(self.spelling.tokens[n], t) for n, t in zip(text.labels, times)]
        return Segment(
            " ".join(w.text for w in words),
            self.spelling.text(text.labels[: text.stable]),
            words,
            tokens,
            words[0].start if words else start,
            words[-1].end if words else start,
        )

    def decode(self, samples: np.ndarray) -> Text:
        """Decode an utterance chunk by chunk, whatever pauses it has. (S,)"""
        listener = Listener(self, Pauses(0.0, 0.0, 0.0))
        listener.push(samples)
        return listener.finish()

    def decode_many(self, audio: Sequence[np.ndarray]) -> List[Text]:
        """Decode several utterances, the encoder and greedy search in batches.

        Args:
            audio: Utterances. (S,) each

        Returns:
            What `decode` gives of each; of `int8` and `int4` nearly so, as the activations of a
            batch are rounded together.
        """
        features = [self.front_end(samples) for samples in audio]  # (T, F) each
        greedy = GreedySearch(self.networks, len(audio)) if self.beam == 1 else None
        searches = [] if greedy else [self.new_search() for _ in audio]
        states = self.networks.start_encoder(len(audio))
        full = self.shift + self.description.overlap
        for start in range(0, max(map(len, features), default=0), self.shift):
            lengths = np.array([len(f) - start for f in features])  # (B,)
            lengths = np.minimum(lengths, full)
            # A chunk that is cut short by the end must not attend to what fills it up.
            for length in np.unique(lengths):
                if length < self.description.overlap + self.description.subsampling:
                    continue
                rows = np.flatnonzero(lengths == length)  # (R,)
                x = np.stack([features[row][start : start + length] for row in rows])
                y, after = self.networks.encode(x, rows_of(states, rows))  # (R, U, J)
                put_rows(states, rows, after)
                if greedy:
                    greedy.advance_rows(y, rows)
                else:
                    for row, enc in zip(rows, y):
                        searches[row].advance(enc)
        return [greedy.best(i) if greedy else searches[i].best() for i in range(len(audio))]


class Listener:
    """One stream of audio that is recognised as it comes, for hours if need be.

    Args:
        recogniser: The model.
        pauses: Rules by which a segment ends.
    """

    def __init__(self, recogniser: Recogniser, pauses: Optional[Pauses] = None) -> None:
        self.recogniser, self.pauses = recogniser, pauses or Pauses()
        self._features = FeatureStream(recogniser.front_end)
        n_mels = recogniser.description.n_mels
        self._waiting = np.zeros((0, n_mels), np.float32)  # feature frames (T, F)
        self._passed = 0  # feature frames before the first of them
        self._begin()

    def _begin(self) -> None:
        self._states = self.recogniser.networks.start_encoder(1)
        self._search = self.recogniser.new_search()
        self._start = self._passed  # feature frame
        self._frames = 0  # encoder frames of the segment so far

    def push(self, samples: np.ndarray) -> List[Segment]:
        """Take samples (S,) and return the segments that have ended."""
        self._waiting = np.concatenate([self._waiting, self._features.push(samples)])
        return self._advance()

    def end(self) -> List[Segment]:
        """Return the segments that the end of the audio ends."""
        self._waiting = np.concatenate([self._waiting, self._features.end()])
        segments = self._advance()
        self._rest()
        last = self.partial()
        return segments + ([last] if last.text else [])

    def finish(self) -> Text:
        """End the audio and return the labels of the segment."""
        self._waiting = np.concatenate([self._waiting, self._features.end()])
        self._advance()
        self._rest()
        return self._search.best()

    def partial(self) -> Segment:
        """Return the segment as it is by now: the best hypothesis."""
        return self.recogniser.segment(self._search.best(), self._seconds(self._start))

    def _seconds(self, feature_frame: int) -> float:
        d = self.recogniser.description
        return feature_frame * d.hop_length / d.sampling_rate

    def _advance(self) -> List[Segment]:
        segments = []
        shift, overlap = self.recogniser.shift, self.recogniser.description.overlap
        while len(self._waiting) >= shift + overlap:
            chunk = self._waiting[: shift + overlap]
            self._encode(chunk)
            self._waiting, self._passed = self._waiting[shift:], self._passed + shift
            segment = self.partial() if self._has_ended() else None
            if segment is not None and segment.text:
                segments.append(segment)
            if segment is not None:
                self._begin_behind(chunk[:shift])
        return segments

    def _rest(self) -> None:
        d = self.recogniser.description
        if len(self._waiting) >= d.overlap + d.subsampling:
            self._encode(self._waiting)
        self._waiting = self._waiting[:0]

    def _encode(self, x: np.ndarray) -> None:
        y, self._states = self.recogniser.networks.encode(x[None], self._states)  # (1, U, J)
        self._frames += y.shape[1]
        self._search.advance(y[0])

    def _quiet(self) -> int:
        """Return how many encoder frames have passed since the last label."""
        frames = self._search.best().frames
        return self._frames - 1 - (frames[-1] if frames else -1)

    def _has_ended(self) -> bool:
        if self.pauses.pause == 0:
            return False
        seconds = self.recogniser.frame_seconds
        length, quiet = self._frames * seconds, self._quiet() * seconds
        if quiet == length:  # no label; two chunks, so that the one heard again is not all
            return length >= self.pauses.silence and self._frames > self._chunk()
        if length >= 2 * self.pauses.longest:
            return True
        return quiet >= (self.pauses.pause if length < self.pauses.longest else SHORT_PAUSE)

    def _chunk(self) -> int:
        return self.recogniser.description.chunk_size

    def _begin_behind(self, chunk: np.ndarray) -> None:
        """Begin a segment with the last chunk, if that was silent: a word may begin in it."""
        quiet = self._quiet()
        long = quiet == self._frames or quiet * self.recogniser.frame_seconds >= self.pauses.pause
        if long and quiet >= self._chunk():
            self._waiting = np.concatenate([chunk, self._waiting])  # (T, F)
            self._passed -= len(chunk)
        self._begin()
