"""How late do the tokens of models come, and how many of their words are wrong?

All models decode the same utterances by greedy search, whose tokens stand once they are emitted.
Their times are compared with an alignment of the transcripts by the first teacher, which hears
each utterance as a whole: its likeliest path through the lattice of the text.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set

import numpy as np

from espnet_kd.common.records import Delay, Delayed
from espnet_kd.data.audio import BadAudio, read_header
from espnet_kd.data.audio import decode as read_audio
from espnet_kd.data.kaldi_dir import read_data_dir
from espnet_kd.data.sampling import ranked
from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.latency import Delays, Emission
from espnet_kd.deploy.runtime import Runtime, runtime_class
from espnet_kd.errors import UserError
from espnet_kd.progress import Progress
from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.grouping import sources_of
from espnet_kd.scoring.units import as_sclite, tokenize

SECONDS = 3600.0  # audio of all utterances, at most
TOGETHER = 16  # utterances that are aligned and decoded together


class Utterance(NamedTuple):
    """An utterance, its length in seconds, who speaks, and the recording it was made of."""

    file: Path
    text: str
    seconds: float
    speaker: str
    source: str


def choose(data: Sequence[Path], most: float = SECONDS) -> List[Utterance]:
    """Choose utterances of all sets by their names; the shortest first.

    Args:
        data: Data directories with audio and transcripts.
        most: Seconds of audio, at most, but one utterance in any case.

    Raises:
        UserError: a directory is not complete, or a file cannot be read.
    """
    utterances = {}
    for i, folder in enumerate(data):
        tables = read_data_dir(folder)
        sources = sources_of(tables, tables["wav.scp"])
        for name, file in sorted(tables["wav.scp"].items()):
            try:
                header = read_header(file)
            except BadAudio as e:
                raise UserError(f"{file}: {e}; format the audio again") from None
            seconds = header.frames / header.rate
            text, speaker = tables["text"][name], tables["utt2spk"][name]
            source = sources.get(name, name)
            utterances[f"{i}/{name}"] = Utterance(Path(file), text, seconds, speaker, source)
    chosen: List[Utterance] = []
    seconds = 0.0
    for name in ranked(list(utterances)):
        seconds += utterances[name].seconds
        if seconds > most and chosen:
            break
        chosen.append(utterances[name])
    return sorted(chosen, key=lambda u: u.seconds)


def measure(
    models: Mapping[str, Artifact],
    aligner: str,
    utterances: Sequence[Utterance],
    options: Sequence[str],
) -> Delay:
    """Decode with each model, and compare.

    Args:
        models: Files of each model by its name.
        aligner: Name of the one that aligns the transcripts.
        utterances: Utterances; those without words, or too short, are passed over.
        options: See `Runtime.load`.

    Returns:
        What `delay.json` holds.

    Raises:
        UserError: a sound cannot be read or has not the models' sampling rate, no utterance has
            words, or see `Runtime`.
    """
    whole = runtime_class(models[aligner].runtime).load(models[aligner], [])
    built = {name: runtime_class(a.runtime).load(a, options) for name, a in models.items()}
    late = {name: Delays(m.timing) for name, m in built.items() if m.timing is not None}
    rates = {m.timing.rate for m in built.values() if m.timing is not None}
    errors: Dict[str, List[int]] = {name: [] for name in built}
    words: List[int] = []
    speakers: List[str] = []
    sources: List[str] = []
    seconds = 0.0
    progress = Progress("delay", len(utterances))
    for part in _parts(utterances):
        speech = [_read(u.file, rates) for u in part]
        spoken = whole.align(speech, [u.text for u in part])
        kept = [k for k, x in enumerate(spoken) if x is not None]
        heard = [speech[k] for k in kept]
        for name, model in built.items():
            emitted = [e or Emission("", [], []) for e in _emit(model, heard)]
            for k, emission in zip(kept, emitted):
                errors[name].append(_count(part[k].text, emission.text).errors)
                reference = spoken[k]
                if name in late and reference is not None:
                    late[name].add(reference, emission, len(speech[k]))
        words += [_count(part[k].text, "").ref_words for k in kept]
        speakers += [part[k].speaker for k in kept]
        sources += [part[k].source for k in kept]
        seconds += sum(part[k].seconds for k in kept)
        progress.update(len(part))
    progress.close()
    if not sum(words):
        raise UserError(f"{utterances[0].file}: no words in it, nor in all others of the sample")
    return {
        "utterances": len(words),
        "audio_seconds": round(seconds, 2),
        "alignment": aligner,
        "words": words,
        "speakers": speakers,
        "sources": sources,
        "models": {name: _figures(name, errors, late) for name in built},
    }


def _parts(utterances: Sequence[Utterance]) -> Iterator[Sequence[Utterance]]:
    for start in range(0, len(utterances), TOGETHER):
        yield utterances[start : start + TOGETHER]


def _read(file: Path, rates: Set[int]) -> np.ndarray:
    try:
        samples, header = read_audio(file)
    except BadAudio as e:
        raise UserError(f"{file}: {e}; format the audio again") from None
    if rates - {header.rate}:
        raise UserError(
            f"{file}: {header.rate} Hz, but models hear {', '.join(map(str, sorted(rates)))} Hz; "
            "name sets as stage 3 makes them (dump/raw/...)"
        )
    return samples


def _emit(model: Runtime, speech: Sequence[Any]) -> List[Any]:
    return model.emit(speech) if speech else []


def _count(reference: str, hypothesis: str) -> Counts:
    pair = [[as_sclite(tokenize(text, "wer"))] for text in (reference, hypothesis)]
    return Counts.of(align(*pair)[0])


def _figures(name: str, errors: Mapping[str, List[int]], late: Mapping[str, Delays]) -> Delayed:
    figures: Delayed = {"errors": errors[name]}
    if name in late:
        timing, summary = late[name].timing, late[name].summary()
        figures["tokens"] = len(late[name].token)
        figures["chunk_ms"] = round(1000 * timing.chunk_seconds, 1)
        figures["latency_ms"] = round(1000 * timing.latency, 1)
        figures["token"], figures["first"] = summary["token"], summary["first"]
        figures["last"], figures["frames"] = summary["last"], summary["frames"]
    return figures
