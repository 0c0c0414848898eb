"""Which parts of a model stay float: as few as keep WER within a margin.

All matrices are converted first. If WER on the validation set is then too high, the parts that
disturb the model's logits most are left float, as few of them as it takes.
"""

import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from espnet_kd.device.description import GRAPHS
from espnet_kd.device.features import FrontEnd
from espnet_kd.device.networks import BLANK, OnnxNetworks
from espnet_kd.device.search import GreedySearch
from espnet_kd.export.folder import Graphs, parts, write_folder
from espnet_kd.export.parity import Reference, Utterance, compare, encode_chunks, wer

LISTENED = 8  # utterances on which logits are compared


class Choice(NamedTuple):
    """Choice of the parts that stay float.

    Attributes:
        keep: Names of the parts.
        noise: Signal-to-noise ratio of the logits with a part converted alone, in dB, worst
            first; empty: nothing had to stay float.
        wer: WER on the validation set, in percent; None: it was not measured.
        wer_float: The same of the model in floats.
    """

    keep: List[str]
    noise: Dict[str, float]
    wer: Optional[float]
    wer_float: Optional[float]


def choose(
    graphs: Graphs, form: str, reference: Reference, valid: Sequence[Utterance], margin: float
) -> Choice:
    """Choose the parts that stay float.

    Args:
        graphs: The model.
        form: Number format.
        reference: The model in PyTorch, which says what WER may become.
        valid: Utterances of a validation set, with transcripts; none: nothing stays float.
        margin: Points of WER that may be lost on them.
    """
    if not valid or form in ("float32", "float16"):
        return Choice([], {}, None, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / form

        def measured(keep: Sequence[str]) -> "tuple[float, float]":
            write_folder(graphs, form, path, keep)
            figures = compare({form: path}, reference, valid)[form]
            return wer(figures.counts) or 0.0, wer(figures.reference) or 0.0

        quantised, base = measured([])
        if quantised <= base + margin:
            return Choice([], {}, quantised, base)
        noise = part_noise(graphs, form, valid[:LISTENED])
        order, least, most, results = list(noise), 1, len(noise), {0: quantised}
        while least < most:  # the fewest of the worst that are enough
            middle = (least + most) // 2
            results[middle] = measured(order[:middle])[0]
            if results[middle] <= base + margin:
                most = middle
            else:
                least = middle + 1
        if least not in results:
            results[least] = measured(order[:least])[0]
        return Choice(order[:least], noise, results[least], base)


def part_noise(graphs: Graphs, form: str, utterances: Sequence[Utterance]) -> Dict[str, float]:
    """Convert each part alone and compare the logits along the float model's greedy path.

    Args:
        graphs: The model.
        form: Number format.
        utterances: Utterances to listen to.

    Returns:
        Signal-to-noise ratio of the logits by part, in dB, worst first.
    """
    everything = [part for name in GRAPHS for part in parts(graphs, name)]
    noise = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        write_folder(graphs, "float32", path)
        networks = OnnxNetworks(path)
        least = networks.description.overlap + networks.description.subsampling
        heard = [FrontEnd(networks.description)(u.samples) for u in utterances]
        heard = [features for features in heard if len(features) >= least]
        paths = [_path(networks, features) for features in heard]
        expected = [_logits(networks, f, p) for f, p in zip(heard, paths)]
        for part in everything:
            write_folder(graphs, form, path, [other for other in everything if other != part])
            networks = OnnxNetworks(path)
            errors = [_logits(networks, f, p) - e for f, p, e in zip(heard, paths, expected)]
            power = sum(float((e**2).sum()) for e in expected)
            noise[part] = 10 * np.log10(
                power / max(sum(float((e**2).sum()) for e in errors), 1e-30)
            )
    return dict(sorted(noise.items(), key=lambda item: item[1]))


def _path(networks: OnnxNetworks, features: np.ndarray) -> "tuple[List[int], List[int]]":
    """Return the greedy labels of an utterance, and the frame of each."""
    search = GreedySearch(networks)
    search.advance(encode_chunks(networks, features))
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
