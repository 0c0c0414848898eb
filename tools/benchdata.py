"""Lengths of real speech for the benchmarks: frames at 25 Hz and labels.

From mini LibriSpeech (openslr 31) where it is; else from quantiles of it that stand here.
"""

import io
import math
import os
import random
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from espnet_kd.errors import UserError

KINDS = ("equal", "sorted", "unsorted")
RATE = 25  # encoder frames a second: 10 ms features, subsampled by 4
# Deciles of train-clean-5 (1,519 utterances).
SECONDS = (1.87, 6.32, 10.0, 12.26, 13.22, 13.92, 14.49, 14.93, 15.37, 15.78, 17.27)
CHARACTERS_A_SECOND = (6.2, 11.8, 12.8, 13.5, 14.2, 14.7, 15.2, 15.8, 16.5, 17.6, 23.0)
# Characters a token of a unigram model trained on the same transcripts.
CHARACTERS_A_TOKEN = {128: 1.84, 500: 2.69, 1000: 3.19}
LARGEST_TRAINED = 1000


class Length(NamedTuple):
    """Frames T and labels U of an utterance."""

    frames: int
    labels: int

    def shorter(self, factor: int) -> "Length":
        """Divide both."""
        return Length(max(4, self.frames // factor), max(1, self.labels // factor))


class Lengths(NamedTuple):
    """Lengths of a corpus and where they are from, in words."""

    utterances: List[Length]
    source: str


def default_corpus() -> Path:
    """Return $ESPNET_KD_SHARED or ../shared/data beside the checkout, as the tests have it."""
    shared = os.environ.get("ESPNET_KD_SHARED")
    root = Path(shared) if shared else Path(__file__).resolve().parents[2] / "shared" / "data"
    return root / "mini_librispeech" / "LibriSpeech" / "train-clean-5"


def read_lengths(corpus: Optional[Path], vocabulary: int) -> Lengths:
    """Return the lengths of a set of LibriSpeech.

    Up to 1,000 tokens the labels are counted with a unigram model trained on the set's
    transcripts. They are too few for more: there the characters are divided by what a token
    holds, continued from 500 and 1,000 tokens along log V (4.35 at 5,000).

    Args:
        corpus: Folder `<corpus>/<speaker>/<chapter>`, None: `default_corpus`, or the quantiles
            where that is missing.
        vocabulary: V

    Raises:
        UserError: the corpus that was named is missing or holds no transcripts.
    """
    folder = corpus or default_corpus()
    transcripts = sorted(folder.glob("*/*/*.trans.txt"))
    if not transcripts:
        if corpus is None:
            return Lengths(_from_quantiles(vocabulary), "stored quantiles of train-clean-5")
        raise UserError(
            f"--corpus {corpus}: no <speaker>/<chapter>/*.trans.txt there; name the folder of one "
            "set, such as LibriSpeech/train-clean-5"
        )
    import soundfile

    seconds, text = [], []
    for transcript in transcripts:
        for line in transcript.read_text(encoding="utf-8").splitlines():
            name, words = line.split(" ", 1)
            audio = next(transcript.parent.glob(f"{name}.*"), None)
            if audio is None:
                continue  # a part of the set
            seconds.append(soundfile.info(str(audio)).duration)
            text.append(words)
    if vocabulary <= LARGEST_TRAINED:
        labels, how = _count_tokens(text, vocabulary), "labels counted"
    else:
        labels = [round(len(line) / characters_a_token(vocabulary)) for line in text]
        how = f"{characters_a_token(vocabulary):.2f} characters a label"
    frames = [int(s * RATE) for s in seconds]
    return Lengths([Length(*item) for item in zip(frames, labels)], f"{folder.name}, {how}")


def characters_a_token(vocabulary: int) -> float:
    """Look up or continue along log V."""
    if vocabulary in CHARACTERS_A_TOKEN:
        return CHARACTERS_A_TOKEN[vocabulary]
    low, high = CHARACTERS_A_TOKEN[500], CHARACTERS_A_TOKEN[1000]
    return max(1.0, low + (high - low) * math.log2(vocabulary / 500))


def draw(
    kind: str, utterances: Sequence[Length], batch: int, cells: float, vocabulary: int, seed: int
) -> List[Length]:
    """Draw a batch.

    Args:
        kind: `sorted`: neighbours in the order of lengths, as a sampler that sorts makes
            its batches; `unsorted`: at random; `equal`: all like the mean of `unsorted`.
        utterances: The corpus.
        batch: B at most.
        cells: B * T * (U + 1) * V at most, padding included; B shrinks to fit, as with a
            sampler that fills bins.
        vocabulary: V
        seed: Of the draw.
    """
    order = random.Random(seed)
    if kind == "sorted":
        ranked = sorted(utterances)
        start = order.randrange(max(1, len(ranked) - batch))
        drawn = ranked[start : start + batch]
    else:
        drawn = order.sample(list(utterances), min(batch, len(utterances)))
    while len(drawn) > 1 and lattice(drawn) * vocabulary > cells:
        drawn.pop()
    if kind == "equal":
        mean = Length(*(round(sum(x) / len(drawn)) for x in zip(*drawn)))
        drawn = [mean] * len(drawn)
    return drawn


def lattice(batch: Sequence[Length]) -> int:
    """Nodes of a batch with its padding: B * T * (U + 1)."""
    return len(batch) * max(x.frames for x in batch) * (1 + max(x.labels for x in batch))


def _from_quantiles(vocabulary: int, n: int = 1500) -> List[Length]:
    random_ = random.Random(0)
    found = []
    for _ in range(n):
        seconds = _quantile(SECONDS, random_.random())
        characters = seconds * _quantile(CHARACTERS_A_SECOND, random_.random())
        labels = round(characters / characters_a_token(vocabulary))
        found.append(Length(int(seconds * RATE), labels))
    return found


def _quantile(values: Sequence[float], at: float) -> float:
    place = at * (len(values) - 1)
    i = min(int(place), len(values) - 2)
    return values[i] + (place - i) * (values[i + 1] - values[i])


def _count_tokens(text: Sequence[str], vocabulary: int) -> List[int]:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=vocabulary,
        model_type="unigram",
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [len(processor.encode(line)) for line in text]
