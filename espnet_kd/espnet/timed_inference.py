"""Stock transducer inference with a clock around it."""

import resource
import time
from pathlib import Path
from typing import Any, List, Optional, Sequence

import torch
from espnet2.bin import asr_transducer_inference as stock

from espnet_kd.common.records import DECODING
from espnet_kd.common.yaml_file import read_yaml, section
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.machine import cpu_name
from espnet_kd.progress import Progress

SAMPLING_RATE = 16000


class TimedSpeech2Text(stock.Speech2Text):
    """ESPnet's `Speech2Text`, unchanged, that adds up the time its decoding takes."""

    seconds = 0.0
    samples = 0
    utterances = 0
    progress: Optional[Progress] = None

    def __call__(self, speech: Any) -> List[Any]:
        """Decode a whole utterance; see ESPnet's `Speech2Text.__call__`."""
        return self._timed(super().__call__, speech, True)

    def streaming_decode(self, speech: Any, is_final: bool = False) -> List[Any]:
        """Decode a chunk; see ESPnet's `Speech2Text.streaming_decode`."""
        return self._timed(super().streaming_decode, speech, is_final, is_final=is_final)

    def _timed(self, decode: Any, speech: Any, ends: bool, **kwargs: Any) -> List[Any]:
        start = time.perf_counter()
        try:
            return decode(speech, **kwargs)
        finally:
            TimedSpeech2Text.seconds += time.perf_counter() - start
            TimedSpeech2Text.samples += len(speech)
            if ends:
                TimedSpeech2Text.utterances += 1
                TimedSpeech2Text.progress.update()


def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run `espnet2.bin.asr_transducer_inference` and write `rtf.json` beside its output.

    Args:
        cmd: Arguments of the stock command; `sys.argv` by default.

    Raises:
        UserError: the model's files are not there.
    """
    args = stock.get_parser().parse_args(cmd)
    for path in (args.asr_train_config, args.asr_model_file):
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path}: no such file; train the model first (stage 11 or 16)")
    keys = args.key_file or args.data_path_and_name_and_type[0][0]
    label = f"decode {Path(args.output_dir).parent.parent.name}"
    TimedSpeech2Text.progress = Progress(label, len(read_table(keys)))
    # The stock command builds its decoder by this name.
    stock.Speech2Text = TimedSpeech2Text
    stock.main(cmd)
    TimedSpeech2Text.progress.close()
    rate = _sampling_rate(args.asr_train_config)
    audio = TimedSpeech2Text.samples / rate
    facts = {
        "utterances": TimedSpeech2Text.utterances,
        "audio_seconds": round(audio, 3),
        "decode_seconds": round(TimedSpeech2Text.seconds, 3),
        "rtf": round(TimedSpeech2Text.seconds / audio, 4) if audio else None,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1),
        "device": torch.cuda.get_device_name() if args.ngpu > 0 else cpu_name(),
        "threads": torch.get_num_threads(),
        "streaming": bool(args.streaming),
    }
    DECODING.write(Path(args.output_dir), facts)


def _sampling_rate(config: Optional[str]) -> int:
    """Samples a second that the model's front end expects."""
    import humanfriendly

    if config is None:
        return SAMPLING_RATE
    options = read_yaml(config, "train the model first")
    fs = section(options, "frontend_conf", config).get("fs", SAMPLING_RATE)
    return humanfriendly.parse_size(fs) if isinstance(fs, str) else int(fs)
