"""How fast do models decode? All of them in one process, in turn on every utterance.

What a decoding job took beside other jobs says more of the machine than of the model. Here
all models share the moment: each decodes an utterance before the next utterance comes, in an
order that rotates, on one thread.
"""

import os
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import soundfile
import torch
from espnet2.bin import asr_transducer_inference as stock

from espnet_kd.errors import UserError
from espnet_kd.espnet.timed_inference import TimedSpeech2Text, decode, options_of
from espnet_kd.fileio import read_table
from espnet_kd.machine import cores, cpu_name
from espnet_kd.progress import Progress

UTTERANCES, SECONDS, LEAST = 40, 120.0, 10


def choose(data: Sequence[Path]) -> List[Path]:
    """Choose sound files, spread evenly over the sets: the same ones in every run.

    At most `UTTERANCES` with at most `SECONDS` of audio, but `LEAST` where there are as many.

    Args:
        data: Directories with a `wav.scp` of sound files.

    Raises:
        UserError: a directory without one, or no utterance.
    """
    files = [Path(file) for d in data for _, file in sorted(read_table(d / "wav.scp").items())]
    if not files:
        raise UserError(f"{data[0] / 'wav.scp'}: no utterance in it; format the audio again")
    least = min(LEAST, len(files))
    for number in range(min(UTTERANCES, len(files)), 0, -1):
        chosen = [files[(2 * k + 1) * len(files) // (2 * number)] for k in range(number)]
        if sum(_seconds(file) for file in chosen) <= SECONDS or number <= least:
            break
    return chosen


def _seconds(file: Path) -> float:
    try:
        return float(soundfile.info(str(file)).duration)
    except (OSError, RuntimeError) as e:
        raise UserError(f"{file}: cannot be read ({e}); format the audio again") from None


def decoder_options(words: Sequence[str]) -> Dict[str, Any]:
    """Return what stock inference gives to its `Speech2Text`, from options of its command."""
    needed = ["--output_dir", ".", "--data_path_and_name_and_type", "x,speech,sound"]
    args = stock.get_parser().parse_args([*words, *needed])
    left_out = ("asr_train_config", "asr_model_file", "device")
    return {key: value for key, value in options_of(args).items() if key not in left_out}


def measure(
    models: Dict[str, Tuple[Path, Path]], files: Sequence[Path], options: Dict[str, Any]
) -> Dict[str, Any]:
    """Measure the real-time factor of each model on each file.

    Args:
        models: Name -> config and checkpoint.
        files: Sound files at the models' sampling rate.
        options: See `decoder_options`.

    Returns:
        What `speed.json` holds. `median` and `p95` are over utterances.
    """
    torch.set_num_threads(1)
    built = {
        name: TimedSpeech2Text(
            asr_train_config=str(config), asr_model_file=str(checkpoint), **options
        )
        for name, (config, checkpoint) in models.items()
    }
    progress = Progress("speed", (len(files) + 1) * len(built))
    for model in built.values():
        model.progress = progress
    factors: Dict[str, List[float]] = {name: [] for name in built}
    load = os.getloadavg()[0]
    audio = 0.0
    for k, file in enumerate([files[0], *files]):  # the first time warms up
        speech, rate = soundfile.read(str(file), dtype="float32")
        times = _times(built, k % len(built), speech)
        if k and times:
            audio += len(speech) / rate
            for name, seconds in times.items():
                factors[name].append(seconds * rate / len(speech))
    progress.close()
    if not audio:
        raise UserError(f"{files[0]}: too short to be decoded, as are all others of the sample")
    return {
        "utterances": len(next(iter(factors.values()))),
        "audio_seconds": round(audio, 2),
        "threads": torch.get_num_threads(),
        "device": cpu_name(),
        "cores": cores(),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "streaming": bool(options["streaming"]),
        "models": {
            name: {
                "median": round(float(np.median(of_model)), 5),
                "p95": round(float(np.percentile(of_model, 95)), 5),
            }
            for name, of_model in factors.items()
        },
    }


def _times(built: Dict[str, Any], first: int, speech: np.ndarray) -> Dict[str, float]:
    """Return the seconds of each model; none if the utterance is too short for them."""
    names = list(built)
    times = {}
    for name in [*names[first:], *names[:first]]:
        start = time.perf_counter()
        try:
            decode(built[name], speech)
        except stock.TooShortUttError:
            return {}
        times[name] = time.perf_counter() - start
    return times
