"""Pace of preparing a corpus: a sample is measured first, and the whole estimated from it."""

import logging
import time
from typing import Iterator

from espnet_kd.data.librispeech_parts import PARTS, TRAIN_960
from espnet_kd.progress import FIRST, clock

SAMPLE = 32  # utterances a process
HOURS_960 = sum(PARTS[name].hours or 0.0 for name in TRAIN_960)


class Pace:
    """Count utterances and the time that worker processes spend on them.

    Args:
        label: Names the data set in messages.
        total: Utterances in all.
        processes: Workers.

    Attributes:
        sample: Utterances that the forecast is made from; 0: too few are left to need one.
    """

    def __init__(self, label: str, total: int, processes: int) -> None:
        self.label, self.total, self.processes = label, total, processes
        self.sample = SAMPLE * processes if total >= 4 * SAMPLE * processes else 0
        self.utterances = 0
        self.audio = self.worked = 0.0
        self.start = time.monotonic()

    def order(self) -> Iterator[int]:
        """Yield 0 ... total - 1: first the sample, spread over the whole set.

        Sets are sorted by speaker and speed: their beginning does not speak for the rest.
        """
        head = range(0, self.total, self.total // max(1, self.sample) or 1)[: self.sample]
        yield from head
        yield from (n for n in range(self.total) if n not in head)

    def add(self, audio: float, worked: float) -> None:
        """Count an utterance of `audio` seconds on which a worker spent `worked` seconds."""
        self.utterances += 1
        self.audio += audio
        self.worked += worked
        if self.utterances == self.sample and self.audio > 0:
            speed = self.processes / self.worked  # of an utterance or a second of one
            whole = clock(self.total / (self.utterances * speed))
            logging.info(
                f"{self.label}: {self._speed(speed)} with {self.processes} processes, measured "
                f"on {self.sample} utterances: {self.total} utterances will take about {whole}, "
                f"LibriSpeech's 960 h would take {self._librispeech(speed)}"
            )

    def close(self) -> None:
        """Log what was measured in all; less than two seconds are mostly the workers' start."""
        took = time.monotonic() - self.start
        if self.audio > 0 and took >= FIRST:
            logging.info(
                f"{self.label}: {self.audio / 3600:.2f} hours of audio in {clock(took)}, "
                f"{self._speed(1 / took)}; LibriSpeech's 960 h would take "
                f"{self._librispeech(1 / took)}"
            )

    def _speed(self, per_second: float) -> str:
        hours = self.audio * per_second / 3600
        return f"{self.utterances * per_second:.1f} utt/s, {hours:.3f} hours of audio a second"

    def _librispeech(self, per_second: float) -> str:
        return clock(HOURS_960 * 3600 / (self.audio * per_second))
