"""Parity of an exported folder with the model it is from.

Encoder frames, chunk by chunk, against one forward of the whole utterance under the chunk mask;
transcripts of both by greedy search, from the sound on: each with its own front end, encoder,
predictor, joiner and search.
"""

import copy
import dataclasses
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

from espnet_kd.data.audio import BadAudio
from espnet_kd.data.audio import decode as read_audio
from espnet_kd.data.kaldi_dir import read_data_dir
from espnet_kd.data.sampling import by_name
from espnet_kd.device.features import FrontEnd
from espnet_kd.device.networks import OnnxNetworks
from espnet_kd.device.search import GreedySearch
from espnet_kd.device.spelling import Spelling
from espnet_kd.errors import UserError
from espnet_kd.export.exportable import Exportable
from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts

CLOSE = 1e-4  # of the largest number: how far float32 may be off
FRAMES_OF = 20  # utterances whose encoder frames are compared
EQUAL = 0.99  # share of transcripts that float32 must not change: rounding decides near ties


@dataclasses.dataclass(frozen=True)
class Utterance:
    """An utterance to compare on.

    Attributes:
        samples: At the model's rate. (S,)
        words: Transcript; None: unknown.
    """

    samples: np.ndarray
    words: Optional[List[str]]


class Utterances(Sequence[Utterance]):
    """Utterances of data directories, whose sound is read anew whenever they are asked for.

    Args:
        folders: Folders with `wav.scp`, `text` and `utt2spk`, as in `dump/raw/`.
        rate: Sampling rate of the model.
        most: Number of utterances of each, chosen by a digest of their names; 0: all.

    Attributes:
        known: Number of utterances that the folders hold.

    Raises:
        UserError: a table cannot be read; later, a file cannot, or has another sampling rate.
    """

    def __init__(self, folders: Sequence[Path], rate: int, most: int = 0) -> None:
        self.rate, self.known = rate, 0
        self._places: List[Tuple[Path, str, str, List[str]]] = []
        for folder in folders:
            tables = read_data_dir(folder)
            names = list(tables["wav.scp"])
            self.known += len(names)
            for name in by_name(names, most or len(names)):
                words = tables["text"][name].split()
                self._places.append((folder, name, tables["wav.scp"][name], words))

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self._places)

    def __getitem__(self, which: Any) -> Any:
        """Read an utterance, or return a part of them that is read later."""
        if isinstance(which, slice):
            part = copy.copy(self)
            part._places = self._places[which]
            return part
        folder, name, path, words = self._places[which]
        try:
            samples, header = read_audio(path)
        except BadAudio as e:
            raise UserError(f"{folder}/wav.scp: '{name}' ({path}): {e}") from None
        if header.rate != self.rate:
            raise UserError(
                f"{folder}/wav.scp: '{name}' has {header.rate} Hz, the model {self.rate} Hz; give "
                "a set as stage 3 makes it (dump/raw/...)"
            )
        return Utterance(samples, words)


def noise(rate: int) -> List[Utterance]:
    """Return two utterances of noise that swells, always the same."""
    draw = np.random.default_rng(1)
    sounds = [draw.standard_normal(int(rate * s)) for s in (2.3, 1.15)]
    return [Utterance((s * np.linspace(0.001, 0.2, len(s))).astype("f"), None) for s in sounds]


def chunks_of(n_frames: int, subsampling: int, chunk_size: int) -> Iterator[slice]:
    """Cut feature frames into the chunks of an encoder, which overlap.

    Args:
        n_frames: Feature frames.
        subsampling: Feature frames of an encoder frame.
        chunk_size: Encoder frames of a chunk.
    """
    total = (n_frames - subsampling + 1) // subsampling
    for start in range(0, total, chunk_size):
        end = min(start + chunk_size, total)
        yield slice(subsampling * start, subsampling * (end + 1) - 1)


def encode_chunks(networks: OnnxNetworks, features: np.ndarray) -> np.ndarray:
    """Encode an utterance chunk by chunk: (T_in, F) to (T, J)."""
    d = networks.description
    states, frames = networks.start_encoder(1), []
    for chunk in chunks_of(len(features), d.subsampling, d.chunk_size):
        y, states = networks.encode(features[None, chunk], states)  # (1, U, J)
        frames.append(y[0])
    return np.concatenate(frames) if frames else np.zeros((0, 0), np.float32)


class Reference(Protocol):
    """The model that was exported (`espnet.exportable_model.Reference`)."""

    source: Exportable

    def run(self, samples: np.ndarray) -> Tuple[np.ndarray, np.ndarray, List[int]]:
        """Decode (S,): features (T_in, F), encoder frames in the joint space (T, J), labels."""
        ...


def words_of(source: Exportable, labels: Sequence[int]) -> List[str]:
    """Spell labels out."""
    return [word.text for word in Spelling(source.tokens, source.token_type).words(labels)]


@dataclasses.dataclass
class Figures:
    """Measurements of a folder; see `summary`."""

    encoder: float = 0.0
    largest: float = 1.0
    features: float = 0.0
    seconds: float = 0.0
    audio: float = 0.0
    equal: int = 0
    total: int = 0
    counts: List[Counts] = dataclasses.field(default_factory=list)
    reference: List[Counts] = dataclasses.field(default_factory=list)

    def summary(self) -> Dict[str, Optional[float]]:
        """Return the figures for `model.json`.

        Returns:
            `utterances` and `audio_seconds` of the comparison; `encoder_difference`, the
            largest of an encoder frame's numbers, `encoder_scale`, the largest number of all,
            `features_difference` of the front ends; `equal_transcripts`, a share; `wer` and
            `wer_torch` in percent, null without transcripts, and `words` of these; `rtf`,
            seconds of one CPU for a second of audio.
        """
        return {
            "utterances": float(self.total),
            "audio_seconds": self.audio,
            "encoder_difference": self.encoder,
            "encoder_scale": self.largest,
            "features_difference": self.features,
            "equal_transcripts": self.equal / self.total,
            "wer": wer(self.counts),
            "wer_torch": wer(self.reference),
            "words": float(Counts.total(self.reference).ref_words),
            "rtf": self.seconds / self.audio,
        }


def wer(counts: Sequence[Counts]) -> Optional[float]:
    """Return the word error rate in percent; None: no words."""
    total = Counts.total(counts)
    return total.error_rate if counts and total.ref_words else None


def compare(
    folders: Mapping[str, Path], reference: Reference, utterances: Sequence[Utterance]
) -> Dict[str, Figures]:
    """Compare exported folders with the model they are from, utterance by utterance in turn.

    Args:
        folders: Folders by name.
        reference: The model.
        utterances: Utterances to decode.
    """
    models = {name: OnnxNetworks(folder) for name, folder in folders.items()}
    figures = {name: Figures() for name in folders}
    for utterance in utterances:
        feats, y, labels = reference.run(utterance.samples)
        expected = words_of(reference.source, labels)
        for name, networks in models.items():
            f = figures[name]
            if f.total < FRAMES_OF and len(y):
                apart = np.abs(encode_chunks(networks, feats) - y)  # (T, J)
                f.encoder = max(f.encoder, float(apart.max()))
                f.largest = max(f.largest, float(np.abs(y).max()))
            start = time.process_time()
            features = FrontEnd(networks.description)(utterance.samples)  # (T_in, F)
            try:
                words = words_of(reference.source, transcribe(networks, features))
            except FloatingPointError:  # `too_far` says so
                words, f.encoder = [], float("nan")
            f.seconds += time.process_time() - start
            if len(feats):
                f.features = max(f.features, float(np.abs(features - feats).max()))
            f.audio += len(utterance.samples) / networks.description.sampling_rate
            f.total += 1
            f.equal += words == expected
            if utterance.words is not None:
                f.counts.append(count(utterance.words, words))
                f.reference.append(count(utterance.words, expected))
    return figures


def transcribe(networks: OnnxNetworks, features: np.ndarray) -> List[int]:
    """Decode the features of an utterance (T_in, F) greedily, chunk by chunk."""
    search = GreedySearch(networks)
    frames = encode_chunks(networks, features)  # (T, J)
    if len(frames):
        search.advance(frames)
    return search.best().labels


def count(words: List[str], hypothesis: List[str]) -> Counts:
    """Count the errors of a hypothesis."""
    return Counts.of(align([words], [hypothesis])[0])


def too_far(form: str, figures: Mapping[str, Any], margin: float) -> Optional[str]:
    """Say what of a folder is beyond the margin; None: nothing.

    Args:
        form: Number format of the folder.
        figures: See `Figures.summary`.
        margin: Points of WER that it may be worse than the model in PyTorch.
    """
    apart, scale = figures["encoder_difference"], figures["encoder_scale"]
    if not np.isfinite(apart):
        return "the encoder's output is not finite"
    if form == "float32" and apart > CLOSE * scale:
        return f"the encoder's output is {apart / scale:.1e} of its largest number off"
    if form == "float32" and figures["equal_transcripts"] < EQUAL:
        return f"only {100 * figures['equal_transcripts']:.1f} % of the transcripts are equal"
    worse = (figures["wer"] or 0.0) - (figures["wer_torch"] or 0.0)
    if worse > at_least_a_word(margin, figures["words"]):
        return f"WER is {worse:.2f} points higher, {margin:g} are allowed (--wer_margin)"
    return None


def at_least_a_word(margin: float, words: float) -> float:
    """Return the margin, or what one of so many words makes, points of WER both."""
    # One word more of a handful is chance, however many points it makes.
    return max(margin, 100.0 / words + 1e-6) if words else margin


def line(name: str, description: Any, figures: Mapping[str, Any]) -> str:
    """Say on a line what came of a format."""
    size = sum(description.bytes.values())
    count, known = figures["utterances"], figures.get("known_utterances")
    more = f" (of {known:,} there)" if known and known > count else ""
    text = (
        f"{name}: {size:,} bytes; encoder off by {figures['encoder_difference']:.1e} "
        f"(scale {figures['encoder_scale']:.1f}); {100 * figures['equal_transcripts']:.1f} % of "
        f"{count:.0f} transcripts equal{more}"
    )
    if figures["wer"] is not None:
        text += f"; WER {figures['wer']:.2f} %, PyTorch {figures['wer_torch']:.2f} %"
    return f"{text}; {figures['rtf']:.4f} CPU seconds a second of audio"
