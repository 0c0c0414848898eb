"""Greedy and beam search over encoder frames that come chunk by chunk.

A hypothesis is the last link of a chain of labels, so that hypotheses share what they have in
common and the predictor sees each chain once.
"""

import dataclasses
from typing import Dict, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from espnet_kd.device.networks import BLANK, Networks, States, put_rows, rows_of

MOST_LABELS = 10  # that greedy search emits at a frame
WINDOW = 8  # frames that greedy search looks at together

# Hypotheses that beam search may expand in the first t frames of an utterance:
# (SPARE + A_FRAME * t) * beam size. Trained models stay far below (docs/design.md).
SPARE = 64
A_FRAME = 8


@dataclasses.dataclass(frozen=True)
class Text:
    """Labels of a hypothesis.

    Attributes:
        labels: Labels without blanks.
        frames: The encoder frame at which each was emitted.
        stable: Number of labels, from the first on, that all hypotheses share.
    """

    labels: List[int]
    frames: List[int]
    stable: int


class Search(Protocol):
    """A search through one utterance, for a recogniser."""

    def advance(self, enc: np.ndarray) -> None:
        """Take the next encoder frames (U, J)."""
        ...

    def best(self) -> Text:
        """Return the best hypothesis so far."""
        ...


class GreedySearch:
    """The likeliest token of each lattice node that is passed, in several utterances at once.

    Args:
        networks: The model.
        utterances: Number of utterances.
        most_labels: Largest number of labels of a frame.
    """

    def __init__(
        self, networks: Networks, utterances: int = 1, most_labels: int = MOST_LABELS
    ) -> None:
        self.networks, self.most_labels = networks, most_labels
        self._labels: List[List[int]] = [[] for _ in range(utterances)]
        self._frames: List[List[int]] = [[] for _ in range(utterances)]
        self._passed = np.zeros(utterances, np.int64)  # frames so far (B,)
        start = np.full(utterances, BLANK, np.int64)  # (B,)
        self._dec, self._states = networks.predict(start, networks.start_predictor(utterances))

    def advance(self, enc: np.ndarray) -> None:
        """Take the next encoder frames (U, J) of the only utterance."""
        self.advance_rows(enc[None], np.array([0]))

    def advance_rows(self, enc: np.ndarray, rows: np.ndarray) -> None:
        """Take the next encoder frames of some utterances.

        Args:
            enc: Projected encoder frames. (R, U, J)
            rows: Numbers of their utterances. (R,)
        """
        if not np.isfinite(enc).all():
            raise FloatingPointError("the encoder's output holds NaN or infinity")
        end = enc.shape[1]
        at = np.zeros(len(rows), np.int64)  # next frame of each row (R,)
        labels_there = np.zeros(len(rows), np.int64)  # emitted at it (R,)
        while (at < end).any():
            active = np.flatnonzero(at < end)  # (A,)
            steps = at[active, None] + np.arange(WINDOW)  # (A, W)
            inside = steps < end  # (A, W)
            frames = enc[active[:, None], np.minimum(steps, end - 1)]  # (A, W, J)
            dec = np.broadcast_to(self._dec[rows[active], None], frames.shape)  # (A, W, J)
            width = frames.shape[-1]
            logits = self.networks.join(frames.reshape(-1, width), dec.reshape(-1, width))
            best = logits.argmax(-1).reshape(steps.shape)  # (A, W)
            emits = (best != BLANK) & inside  # (A, W)
            some = emits.any(-1)  # (A,)
            first = np.where(some, emits.argmax(-1), inside.sum(-1))  # (A,)
            labels_there[active] = np.where(first > 0, 0, labels_there[active])
            at[active] += first
            emitting = active[some]  # (E,)
            if not emitting.size:
                continue
            labels = best[some, first[some]]  # (E,)
            for row, label, frame in zip(rows[emitting], labels, at[emitting]):
                self._labels[row].append(int(label))
                self._frames[row].append(int(self._passed[row] + frame))
            whose = rows[emitting]  # (E,)
            dec, states = self.networks.predict(labels, rows_of(self._states, whose))
            self._dec[whose] = dec
            put_rows(self._states, whose, states)
            labels_there[emitting] += 1
            full = emitting[labels_there[emitting] >= self.most_labels]
            at[full] += 1
            labels_there[full] = 0
        self._passed[rows] += end

    def best(self, row: int = 0) -> Text:
        """Return the labels of an utterance so far; none of them will change."""
        labels = self._labels[row]
        return Text(list(labels), list(self._frames[row]), len(labels))


@dataclasses.dataclass(eq=False)
class _Prefix:
    """A chain of labels and what the predictor says after it."""

    label: int
    before: Optional["_Prefix"]
    length: int
    states: States  # before the label
    after: Dict[int, "_Prefix"] = dataclasses.field(default_factory=dict)
    dec: Optional[np.ndarray] = None  # (1, J)
    states_after: Optional[States] = None

    def then(self, label: int) -> "_Prefix":
        """Return the chain with another label."""
        if label not in self.after:
            assert self.states_after is not None  # it was expanded
            self.after[label] = _Prefix(label, self, self.length + 1, self.states_after)
        return self.after[label]


@dataclasses.dataclass(eq=False)
class _Hypothesis:
    """Labels with their frames; two may have the same labels at different frames."""

    score: float
    prefix: _Prefix
    frame: int  # of its last label
    before: Optional["_Hypothesis"]  # without its last label


class BeamSearch:
    """ESPnet's search of the type `default`, for one utterance, with an end.

    The same hypotheses with the same scores, but for rounding. A model that hardly ever says
    blank comes to a limit, from which on blank is taken for certain in that frame; the next one
    begins with the likeliest hypotheses alone, of which ESPnet keeps any number.

    Args:
        networks: The model.
        beam: Number of hypotheses to keep.

    Attributes:
        hit_limit: Whether the limit was reached.
    """

    def __init__(self, networks: Networks, beam: int) -> None:
        self.networks, self.beam, self.hit_limit = networks, beam, False
        start = _Prefix(BLANK, None, 0, networks.start_predictor(1))
        self._kept = [_Hypothesis(0.0, start, -1, None)]
        self._frames = self._expansions = 0

    def advance(self, enc: np.ndarray) -> None:
        """Take the next encoder frames (U, J)."""
        if not np.isfinite(enc).all():
            raise FloatingPointError("the encoder's output holds NaN or infinity")
        for frame in enc:
            limit = (SPARE + A_FRAME * (self._frames + 1)) * self.beam
            self._kept = self._advance(frame[None], self._kept, limit)
            if self._expansions > limit:
                self.hit_limit, self._expansions = True, limit
                self._kept = self._kept[-self.beam :]  # the last are the likeliest
            self._frames += 1

    def _advance(
        self, frame: np.ndarray, hyps: List[_Hypothesis], limit: int
    ) -> List[_Hypothesis]:
        """Pass one frame (1, J); return hypotheses by rising score."""
        kept: List[_Hypothesis] = []
        while True:
            best = max(hyps, key=_score)
            hyps.remove(best)
            logp = self._expand(frame, best.prefix, limit)  # (V,)
            kept.append(dataclasses.replace(best, score=best.score + float(logp[BLANK])))
            for label in _largest(logp[1:], self.beam):
                score = best.score + float(logp[label + 1])
                prefix = best.prefix.then(label + 1)
                hyps.append(_Hypothesis(score, prefix, self._frames, best))
            most = max(map(_score, hyps))
            likely = sorted((h for h in kept if h.score > most), key=_score)
            if len(likely) >= self.beam:
                return likely

    def _expand(self, frame: np.ndarray, prefix: _Prefix, limit: int) -> np.ndarray:
        if prefix.dec is None:
            label = np.array([prefix.label], np.int64)  # (1,)
            prefix.dec, prefix.states_after = self.networks.predict(label, prefix.states)
        logits = self.networks.join(frame, prefix.dec)[0]  # (V,)
        self._expansions += 1
        if self._expansions > limit:
            logp = np.full_like(logits, -np.inf)  # (V,)
            logp[BLANK] = 0.0
            return logp
        logits = logits - logits.max()
        return logits - np.log(np.exp(logits).sum())

    def best(self) -> Text:
        """Return the likeliest of the hypotheses, and what it shares with all others."""
        best = max(self._kept, key=_score)
        labels, frames = _spelled(best)
        stable = len(labels)
        for other in self._kept:
            stable = min(stable, _common(best.prefix, other.prefix))
        return Text(labels, frames, stable)


def _score(hyp: _Hypothesis) -> float:
    return hyp.score


def _largest(logp: np.ndarray, count: int) -> Sequence[int]:
    count = min(count, len(logp))
    return np.argsort(-logp, kind="stable")[:count].tolist()


def _spelled(hyp: _Hypothesis) -> Tuple[List[int], List[int]]:
    labels, frames = [], []
    link: Optional[_Hypothesis] = hyp
    while link is not None and link.before is not None:
        labels.append(link.prefix.label)
        frames.append(link.frame)
        link = link.before
    return labels[::-1], frames[::-1]


def _common(left: _Prefix, right: _Prefix) -> int:
    """Return the length of the longest chain that two chains begin with."""
    while left is not right:
        if left.length >= right.length:
            assert left.before is not None  # the first link of all is common
            left = left.before
        else:
            assert right.before is not None
            right = right.before
    return left.length
