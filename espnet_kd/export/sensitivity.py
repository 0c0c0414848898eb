"""Which parts of a model stay float: as few as keep the loss of WER within a margin.

All matrices are converted first. If more may then be lost on the validation set, the parts that
disturb the model's logits most are left float, as few of them as it takes. Where all others have
4 bits they have 8: that costs a quarter of the bytes.

What may be lost is the upper end of the interval of the difference, over the utterances of both
models in pairs: a small set may lose nothing by chance where many of its words have changed.
Utterances are drawn, not speakers: the margin holds for these speakers, not for other people. And
utterances of another kind may lose what these do not: so the best tokens along the model's own
path, too, may hardly change.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from espnet_kd.data.sampling import by_name
from espnet_kd.device.description import GRAPHS
from espnet_kd.device.features import FrontEnd
from espnet_kd.device.networks import BLANK, OnnxNetworks
from espnet_kd.device.search import GreedySearch
from espnet_kd.errors import UserError
from espnet_kd.export.folder import Graphs, parts, write_folder
from espnet_kd.export.parity import Reference, Utterance, compare, encode_chunks, wer
from espnet_kd.scoring.bootstrap import paired_interval
from espnet_kd.scoring.counts import Counts

LISTENED = 16  # utterances on which logits are compared
SURE = 0.95  # chance that no more is lost than is said
# Tokens, in percent, that may change along a path for each point of the margin. Of a demo's
# student int8 changed 0.1 % and cost nothing; int8 whose sums overflowed 3.2 %, or 0.4 % with the
# joiner in floats, and cost 0.8 and 0.6 points on test sets, but none on the validation set.
CHANGED = 0.5


class Lost(NamedTuple):
    """Loss on a validation set.

    Attributes:
        wer: WER, in percent.
        wer_float: The same of the model in floats.
        most: Points of WER that may be lost: with the sureness of `SURE`, no more.
        changed: Share of the nodes of the float model's greedy paths where another token is best.
    """

    wer: float
    wer_float: float
    most: float
    changed: float

    def within(self, margin: float) -> bool:
        """Tell whether it is little enough."""
        return self.most <= margin and 100 * self.changed <= CHANGED * margin


class Choice(NamedTuple):
    """Choice of the parts that stay float, or int8 where the others are int4.

    Attributes:
        keep: Names of the parts.
        noise: Signal-to-noise ratio of the logits with a part converted alone, in dB, worst
            first; empty: nothing had to stay float.
        lost: Figures of the validation set; None: it was not measured.
    """

    keep: List[str]
    noise: Dict[str, float]
    lost: Optional["Lost"]


def choose(
    graphs: Graphs, form: str, reference: Reference, valid: Sequence[Utterance], margin: float
) -> Choice:
    """Choose the parts that stay float.

    Args:
        graphs: The model.
        form: Number format.
        reference: The model in PyTorch, which says what WER may become.
        valid: Utterances of a validation set, with transcripts; none: nothing stays float.
        margin: Points of WER that may be lost on them, see `Lost`.
    """
    if not valid or form in ("float32", "float16"):
        return Choice([], {}, None)
    known = _Remembered(reference)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / form
        write_folder(graphs, "float32", path)
        some = by_name([str(number) for number in range(len(valid))], LISTENED)
        paths = Paths(OnnxNetworks(path), [valid[int(number)] for number in some])

        def measured(keep: Sequence[str]) -> Lost:
            write_folder(graphs, form, path, keep)
            figures = compare({form: path}, known, valid)[form]
            return lost(figures.counts, figures.reference, paths.changed(OnnxNetworks(path)))

        whole = measured([])
        if whole.within(margin):
            return Choice([], {}, whole)
        noise = part_noise(graphs, form, paths)
        order, least, most, results = list(noise), 1, len(noise), {0: whole}
        while least < most:  # the fewest of the worst that are enough
            middle = (least + most) // 2
            results[middle] = measured(order[:middle])
            if results[middle].within(margin):
                most = middle
            else:
                least = middle + 1
        if least not in results:
            results[least] = measured(order[:least])
        return Choice(order[:least], noise, results[least])


def lost(counts: Sequence[Counts], reference: Sequence[Counts], changed: float) -> Lost:
    """Say how much WER is lost, and how much it may be.

    Args:
        counts: Errors of each utterance.
        reference: The same of the model in floats.
        changed: See `Lost`.
    """
    if not Counts.total(reference).ref_words:
        return Lost(0.0, 0.0, 0.0, changed)
    interval = paired_interval(
        [c.errors for c in counts],
        [c.errors for c in reference],
        [c.ref_words for c in reference],
        level=2 * SURE - 1,  # one of its ends counts
    )
    most = max(interval.high, interval.diff)
    return Lost(wer(counts) or 0.0, wer(reference) or 0.0, most, changed)


class _Remembered:
    """A model in PyTorch whose transcripts are remembered."""

    def __init__(self, reference: Reference) -> None:
        self.source, self._reference = reference.source, reference
        self._labels: Dict[bytes, List[int]] = {}

    def run(self, samples: np.ndarray) -> Tuple[np.ndarray, np.ndarray, List[int]]:
        """Return the labels of (S,) alone, without features (0, 0) and frames (0, 0)."""
        key = hashlib.sha256(samples.tobytes()).digest()
        if key not in self._labels:
            self._labels[key] = self._reference.run(samples)[2]
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), self._labels[key]


def part_noise(graphs: Graphs, form: str, paths: "Paths") -> Dict[str, float]:
    """Convert each part alone and compare the logits along the float model's greedy paths.

    Args:
        graphs: The model.
        form: Number format.
        paths: Paths of the model in floats.

    Returns:
        Signal-to-noise ratio of the logits by part, in dB, worst first.
    """
    everything = [part for name in GRAPHS for part in parts(graphs, name)]
    noise = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        for part in everything:
            write_folder(graphs, form, path, [other for other in everything if other != part])
            noise[part] = paths.noise(OnnxNetworks(path))
    return dict(sorted(noise.items(), key=lambda item: item[1]))


class Paths:
    """Greedy paths of a model in floats, along which others are compared with it.

    Args:
        networks: The model.
        utterances: Utterances to listen to.

    Raises:
        UserError: its encoder's output is not finite.
    """

    def __init__(self, networks: OnnxNetworks, utterances: Sequence[Utterance]) -> None:
        least = networks.description.overlap + networks.description.subsampling
        heard = [FrontEnd(networks.description)(u.samples) for u in utterances]
        self._heard = [features for features in heard if len(features) >= least]
        self._paths = [_path(networks, features) for features in self._heard]
        self._expected = self._logits(networks)

    def noise(self, networks: OnnxNetworks) -> float:
        """Return the signal-to-noise ratio of another model's logits, in dB."""
        errors = [x - e for x, e in zip(self._logits(networks), self._expected)]
        parts = (self._expected, errors)
        power, noise = (sum(float((x**2).sum()) for x in part) for part in parts)
        return float(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30)))

    def changed(self, networks: OnnxNetworks) -> float:
        """Return the share of nodes where another token is best for another model."""
        pairs = zip(self._logits(networks), self._expected)
        changed = [(x.argmax(1) != e.argmax(1)) for x, e in pairs]  # (nodes,) each
        return float(np.concatenate(changed).mean()) if changed else 0.0

    def _logits(self, networks: OnnxNetworks) -> List[np.ndarray]:
        """Return the logits of all nodes. (nodes, V) of each utterance"""
        return [_logits(networks, f, p) for f, p in zip(self._heard, self._paths)]


def _path(networks: OnnxNetworks, features: np.ndarray) -> "tuple[List[int], List[int]]":
    """Return the greedy labels of an utterance, and the frame of each."""
    search = GreedySearch(networks)
    try:
        search.advance(encode_chunks(networks, features))
    except FloatingPointError as e:
        raise UserError(f"the model in float32, on an utterance of --valid: {e}") from None
    best = search.best()
    return best.labels, best.frames


def _logits(
    networks: OnnxNetworks, features: np.ndarray, path: "tuple[List[int], List[int]]"
) -> np.ndarray:
    """Return the logits of all nodes of a path. (nodes, V)"""
    frames = encode_chunks(networks, features)  # (T, J)
    states, outputs = networks.start_predictor(1), []
    for label in [BLANK, *path[0]]:
        dec, states = networks.predict(np.array([label]), states)  # (1, J)
        outputs.append(dec[0])
    # At each frame: as many labels as were emitted before it, then one more for each there.
    nodes = [(t, u) for u, t in enumerate(path[1])]
    nodes += [(t, sum(at <= t for at in path[1])) for t in range(len(frames))]
    enc = np.stack([frames[t] for t, _ in nodes])  # (nodes, J)
    return networks.join(enc, np.stack([outputs[u] for _, u in nodes]))
