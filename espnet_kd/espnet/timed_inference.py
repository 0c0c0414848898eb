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
from espnet_kd.espnet.bounded_search import BoundedBeamSearch
from espnet_kd.espnet.reading import without_traceback
from espnet_kd.fileio import read_table
from espnet_kd.machine import cpu_name
from espnet_kd.progress import Progress
from espnet_kd.saved import check_finite, checked_loads

SAMPLING_RATE = 16000
AGAIN = "train the model again"

# ESPnet's decoder builds its search by this name.
stock.BeamSearchTransducer = BoundedBeamSearch


class TimedSpeech2Text(stock.Speech2Text):
    """ESPnet's `Speech2Text`, unchanged, that adds up the time its decoding takes.

    Attributes:
        keys: Names of the utterances, in the order in which they are decoded.
        hit_limit: Number of utterances whose search came to its limit.
    """

    seconds = 0.0
    samples = 0
    utterances = 0
    hit_limit = 0
    keys: Sequence[str] = ()
    progress: Optional[Progress] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the model; see ESPnet's `Speech2Text`.

        Raises:
            UserError: the model's file is damaged, or its weights hold NaN or infinity.
        """
        with checked_loads(AGAIN):
            super().__init__(*args, **kwargs)
        if not kwargs.get("quantize_asr_model"):  # which keeps no tensors of floats
            where = kwargs.get("asr_model_file") or "the model"
            check_finite(self.asr_model.state_dict(), where, AGAIN)

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
        except FloatingPointError as e:
            name = self.keys[self.utterances] if self.keys else self.utterances + 1
            raise UserError(f"utterance {name}: {e}; check its audio, or {AGAIN}") from None
        finally:
            TimedSpeech2Text.seconds += time.perf_counter() - start
            TimedSpeech2Text.samples += len(speech)
            if ends:
                TimedSpeech2Text.utterances += 1
                TimedSpeech2Text.hit_limit += self.beam_search.hit_limit
                TimedSpeech2Text.progress.update()


def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run `espnet2.bin.asr_transducer_inference` and write `rtf.json` beside its output.

    Args:
        cmd: Arguments of the stock command; `sys.argv` by default.

    Raises:
        UserError: the model's files are missing or damaged, or it computes no numbers.
    """
    args = stock.get_parser().parse_args(cmd)
    for path in (args.asr_train_config, args.asr_model_file):
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path}: no such file; train the model first (stage 11 or 16)")
    keys = list(read_table(args.key_file or args.data_path_and_name_and_type[0][0]))
    label = f"decode {Path(args.output_dir).parent.parent.name}"
    TimedSpeech2Text.keys, TimedSpeech2Text.progress = keys, Progress(label, len(keys))
    # The stock command builds its decoder by this name.
    stock.Speech2Text = TimedSpeech2Text
    with without_traceback():
        stock.main(cmd)
    note = ""
    if TimedSpeech2Text.hit_limit:
        note = f"{TimedSpeech2Text.hit_limit} of them cut short by the limit of the search"
    TimedSpeech2Text.progress.close(note)
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
        "hit_limit": TimedSpeech2Text.hit_limit,
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
