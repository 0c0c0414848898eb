"""How fast do models decode, and in how much memory?

What a decoding job took beside other jobs says more of the machine than of the model. Here
all models share the moment: each decodes an utterance before the next utterance comes, in an
order that rotates, in one process on one thread. Memory is measured before, of each model in a
process of its own. Where the processor counts its energy, each model's share is taken of the same
moments: of all that the processor does meanwhile, idle cores included.
"""

import functools
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Set

import numpy as np
import soundfile

from espnet_kd.data.sampling import ranked
from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.energy import ByModel
from espnet_kd.deploy.runtime import HEAVY, Runtime, runtime_class
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.machine import cores, cpu_name
from espnet_kd.progress import Progress

UTTERANCES, SECONDS, LEAST = 40, 120.0, 10


class Taken(NamedTuple):
    """What a model has taken for an utterance; joules are 0 where they are not measured."""

    seconds: float
    joules: float


def choose(data: Sequence[Path]) -> List[Path]:
    """Choose sound files of all sets by the names of their utterances.

    At most `UTTERANCES` with at most `SECONDS` of audio, but `LEAST` where there are as many.

    Args:
        data: Directories with a `wav.scp` of sound files.

    Raises:
        UserError: a directory without one, or no utterance.
    """
    files = {
        f"{i}/{name}": Path(file)
        for i, d in enumerate(data)
        for name, file in read_table(d / "wav.scp").items()
    }
    if not files:
        raise UserError(f"{data[0] / 'wav.scp'}: no utterance in it; format the audio again")
    chosen: Set[str] = set()
    seconds = 0.0
    for name in ranked(list(files))[:UTTERANCES]:
        seconds += _seconds(files[name])
        if seconds > SECONDS and len(chosen) >= LEAST:
            break
        chosen.add(name)
    return [file for name, file in sorted(files.items()) if name in chosen]


def _seconds(file: Path) -> float:
    try:
        return float(soundfile.info(str(file)).duration)
    except (OSError, RuntimeError) as e:
        raise UserError(f"{file}: cannot be read ({e}); format the audio again") from None


def measure(
    models: Mapping[str, Artifact], files: Sequence[Path], options: Sequence[str]
) -> Dict[str, Any]:
    """Measure the real-time factor and the peak memory of each model.

    Args:
        models: Files of each model by its name.
        files: Sound files at the models' sampling rate.
        options: See `Runtime.load`.

    Returns:
        What `speed.json` holds. `median` and `p95` are over utterances, `peak_memory_mb` counts
        2^20 bytes.
    """
    from espnet_kd.peak_memory import in_child

    memory = {}
    longest = max(files, key=_seconds)
    for name in sorted(models, key=lambda name: models[name].runtime in HEAVY):
        runtime_class(models[name].runtime)  # is imported before the process is forked
        memory[name] = in_child(functools.partial(_peak, models[name], options, longest))
    built = {name: _load(artifact, options) for name, artifact in models.items()}
    progress = Progress("speed", (len(files) + 1) * len(built))
    factors: Dict[str, List[float]] = {name: [] for name in built}
    joules, energy = dict.fromkeys(built, 0.0), ByModel()
    load = os.getloadavg()[0]
    audio = 0.0
    for k, file in enumerate([files[0], *files]):  # the first time warms up
        speech, rate = soundfile.read(str(file), dtype="float32")
        times = _times(built, k % len(built), speech, energy)
        progress.update(len(built))
        if k and times:
            audio += len(speech) / rate
            for name, taken in times.items():
                factors[name].append(taken.seconds * rate / len(speech))
                joules[name] += taken.joules
    progress.close()
    if not audio:
        raise UserError(f"{files[0]}: too short to be decoded, as are all others of the sample")
    if not (energy.why_not or all(joules.values())):
        energy.why_not = "the counters stand still"
    return {
        "utterances": len(next(iter(factors.values()))),
        "audio_seconds": round(audio, 2),
        "threads": 1,
        "device": cpu_name(),
        "cores": cores(),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "streaming": all(model.streaming for model in built.values()),
        "energy": energy.circumstances(),
        "models": {
            name: {
                "median": round(float(np.median(of_model)), 5),
                "p95": round(float(np.percentile(of_model, 95)), 5),
                "peak_memory_mb": round(memory[name] / 2**20, 1),
                **({} if energy.why_not else {"joules_per_hour": joules[name] / audio * 3600}),
            }
            for name, of_model in factors.items()
        },
    }


def _load(artifact: Artifact, options: Sequence[str]) -> Runtime:
    return runtime_class(artifact.runtime).load(artifact, options)


def _peak(artifact: Artifact, options: Sequence[str], file: Path) -> int:
    """Return the peak of this process, in bytes, after a model was loaded and has decoded."""
    from espnet_kd.peak_memory import PeakMemory

    with PeakMemory("cpu") as peak:
        _load(artifact, options).decode(soundfile.read(str(file), dtype="float32")[0])
    return peak.absolute


def _times(
    built: Mapping[str, Runtime], first: int, speech: np.ndarray, energy: ByModel
) -> Dict[str, Taken]:
    """Return what each model takes; nothing if the utterance is too short for them."""
    names = list(built)
    times = {}
    for name in [*names[first:], *names[:first]]:
        before, start = energy.read(), time.perf_counter()
        if built[name].decode(speech) is None:
            return {}
        seconds = time.perf_counter() - start
        times[name] = Taken(seconds, energy.since(before))
    return times
