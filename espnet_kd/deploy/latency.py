"""When a device can know a token, and how long after it was spoken that is.

A token is emitted at an encoder frame. A frame can be computed once its whole chunk, and what the
front end looks ahead, has been heard, or the sound has ended: from then on the token can be
shown. Its delay is that time minus the one at which an alignment of the transcript has the token.
Time that the processor takes is not counted: the real-time factor says it.
"""

from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from espnet_kd.common.records import Late
from espnet_kd.scoring.align import align


class Emission(NamedTuple):
    """Tokens as a search emits them.

    Attributes:
        text: Words with spaces between them.
        tokens: The tokens.
        frames: The encoder frame at which each was emitted.
    """

    text: str
    tokens: List[str]
    frames: List[int]


class Spoken(NamedTuple):
    """Tokens of a transcript at their times.

    Attributes:
        tokens: The tokens.
        seconds: Time of each.
    """

    tokens: List[str]
    seconds: List[float]


@dataclass(frozen=True)
class Timing:
    """Chunks of a model that is streaming, and what it waits for.

    Attributes:
        rate: Samples a second.
        hop_length: Samples from one feature frame to the next.
        behind: Samples from the middle of a feature frame on that must be there for it.
        subsampling: Feature frames of an encoder frame.
        look_ahead: Feature frames behind a chunk that it needs.
        chunk_size: Encoder frames of a chunk.
    """

    rate: int
    hop_length: int
    behind: int
    subsampling: int
    look_ahead: int
    chunk_size: int

    @property
    def frame_seconds(self) -> float:
        """Return the time from one encoder frame to the next."""
        return self.subsampling * self.hop_length / self.rate

    @property
    def chunk_seconds(self) -> float:
        """Return the length of a chunk."""
        return self.chunk_size * self.frame_seconds

    @property
    def latency(self) -> float:
        """Return the algorithmic latency in seconds: what a chunk's first frame waits for.

        The last frame of the chunk waits for a chunk less but one frame.
        """
        return self._heard(0) / self.rate

    def ready(self, frame: int, samples: int) -> float:
        """Return when an encoder frame can be computed, in seconds.

        Args:
            frame: Number of the frame.
            samples: Length of the utterance, at whose end all is computed.
        """
        return min(self._heard(frame // self.chunk_size), samples) / self.rate

    def _heard(self, chunk: int) -> int:
        """Count the samples from which on a chunk can be computed."""
        frames = (chunk + 1) * self.chunk_size * self.subsampling + self.look_ahead
        return (frames - 1) * self.hop_length + self.behind


class Delays:
    """Delays of a model, token by token, in seconds.

    Args:
        timing: Chunks of the model.

    Attributes:
        token: Delay of each token that was recognised.
        first: Delay of first tokens of an utterance.
        last: Delay of last tokens of an utterance.
        frames: Delay of each token without its waiting for a chunk: of frame after frame.
    """

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.token: List[float] = []
        self.first: List[float] = []
        self.last: List[float] = []
        self.frames: List[float] = []

    def add(self, spoken: Spoken, emitted: Emission, samples: int) -> None:
        """Take an utterance: the tokens on which transcript and hypothesis agree.

        Args:
            spoken: The transcript.
            emitted: The hypothesis.
            samples: Length of the utterance.
        """
        r = h = 0
        for op in align([spoken.tokens], [emitted.tokens])[0]:
            if op == "C":
                frame = emitted.frames[h]
                delay = self.timing.ready(frame, samples) - spoken.seconds[r]
                self.token.append(delay)
                self.frames.append(frame * self.timing.frame_seconds - spoken.seconds[r])
                if r == 0:
                    self.first.append(delay)
                if r == len(spoken.tokens) - 1:
                    self.last.append(delay)
            r += op != "I"
            h += op != "D"

    def summary(self) -> Dict[str, Optional[Late]]:
        """Return median and 90th percentile of each kind, in milliseconds."""
        kinds = {"token": self.token, "first": self.first, "last": self.last}
        return {kind: _late(values) for kind, values in {**kinds, "frames": self.frames}.items()}


def _late(seconds: Sequence[float]) -> Optional[Late]:
    if not seconds:
        return None
    median, p90 = np.percentile(1000 * np.asarray(seconds), [50, 90])  # () each
    return {"median": round(float(median), 1), "p90": round(float(p90), 1)}
