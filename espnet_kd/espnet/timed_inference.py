"""Decoding with ESPnet's `Speech2Text` and a clock: hypotheses, and what they took.

`--decoding aligned` hears every frame, in chunks on training's grid, and decodes in batches;
`--decoding stock` is what ESPnet's own command does, one utterance after the other.
"""

import argparse
import contextlib
import functools
import inspect
import logging
import math
import resource
import time
import traceback
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import humanfriendly
import numpy as np
import torch
from espnet2.asr_transducer.beam_search_transducer import BeamSearchTransducer, Hypothesis
from espnet2.asr_transducer.decoder.rnn_decoder import RNNDecoder
from espnet2.bin import asr_transducer_inference as stock
from espnet2.fileio.datadir_writer import DatadirWriter
from espnet2.tasks.asr_transducer import ASRTransducerTask
from espnet2.torch_utils.set_all_random_seed import set_all_random_seed

from espnet_kd.common.records import DECODING
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError, check_name
from espnet_kd.espnet.aligned import AlignedStream, grid_of
from espnet_kd.espnet.any_transducer import any_transducer
from espnet_kd.espnet.batched_decoding import BatchedDecoding, check_mirrored
from espnet_kd.espnet.bounded_search import BoundedBeamSearch
from espnet_kd.espnet.cascaded_encoder import CascadedEncoder
from espnet_kd.espnet.reading import without_traceback
from espnet_kd.fileio import read_table
from espnet_kd.machine import cpu_name
from espnet_kd.progress import Progress
from espnet_kd.saved import check_finite, checked_loads
from espnet_kd.spec import values
from espnet_kd.spec.not_stock import ENCODER

SAMPLING_RATE = 16000
AGAIN = "train the model again"
WAYS = ("aligned", "stock")
POOL = 20 * 60  # seconds of audio of which batches of similar lengths are made
LOG = "%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s"  # as ESPnet's


class TimedSpeech2Text(stock.Speech2Text):
    """ESPnet's `Speech2Text` with a search that ends, which adds up the time it takes.

    Attributes:
        keys: Names of the utterances, in the order in which they are decoded.
        progress: Told of every utterance.
        seconds: Time that decoding took.
        samples: Length of what was decoded.
        utterances: Number of utterances.
        hit_limit: Number of utterances whose search came to its limit.
        stream: Encoder of streaming on training's grid; None: ESPnet's own.
        batches: Decodes in batches; None: ESPnet's own, or a model that cannot.
    """

    beam_search: Any  # of ESPnet's class

    def __init__(
        self,
        *args: Any,
        keys: Sequence[str] = (),
        progress: Optional[Progress] = None,
        decoding: str = "aligned",
        **kwargs: Any,
    ) -> None:
        """Build the model; the other arguments are those of ESPnet's `Speech2Text`.

        Args:
            args: ESPnet's arguments.
            keys: See above.
            progress: See above.
            decoding: One of `WAYS`.
            kwargs: ESPnet's arguments.

        Raises:
            UserError: the model's file is damaged, its weights hold NaN or infinity, or it
                cannot be decoded with these options.
        """
        _check_search(kwargs.get("beam_search_config"))
        with checked_loads(AGAIN), _search_in_one_line(), any_transducer(kwargs):
            super().__init__(*args, **kwargs)
        cascaded = isinstance(self.asr_model.encoder, CascadedEncoder)
        if cascaded and decoding == "stock" and self.streaming:
            raise UserError(
                f"{kwargs.get('asr_train_config')}: {ENCODER.why}: take --decoding aligned, or "
                "decode whole utterances"
            )
        if self.dtype != "float32" and isinstance(self.asr_model.decoder, RNNDecoder):
            raise UserError(
                f"--dtype {self.dtype}: ESPnet keeps the states of this model's predictor, an "
                "RNN, in float32; take float32"
            )
        if not kwargs.get("quantize_asr_model"):  # which keeps no tensors of floats
            where = kwargs.get("asr_model_file") or "the model"
            check_finite(self.asr_model.state_dict(), where, AGAIN)
        self.beam_search = BoundedBeamSearch.of(self.beam_search)
        self.keys, self.progress = keys, progress
        self.seconds = 0.0
        self.samples = self.utterances = self.hit_limit = 0
        self.stream: Optional[AlignedStream] = None
        self.batches: Optional[BatchedDecoding] = None
        if decoding == "stock":
            return
        grid = None
        if self.streaming:
            rate = sampling_rate(self.asr_train_args)
            window = kwargs.get("decoding_window", 640)
            grid = grid_of(self.asr_model, window, self.left_context, rate)
            self.stream = AlignedStream(self.asr_model, grid)
        # The scales of a model that is quantised while it runs hang on the whole batch.
        if not kwargs.get("quantize_asr_model"):
            self.batches = BatchedDecoding(self.asr_model, self.beam_search, grid)

    def __call__(self, speech: Any) -> List[Any]:
        """Decode a whole utterance; see ESPnet's `Speech2Text.__call__`.

        Raises:
            TooShortUttError: the utterance is shorter than half a window of the front end.
        """
        return self._timed(self._whole, speech, True)

    def _whole(self, speech: Any) -> List[Any]:
        check_mirrored(self.asr_model.frontend, len(speech))
        return super().__call__(speech)

    def streaming_decode(self, speech: Any, is_final: bool = False) -> List[Any]:
        """Decode a chunk; see ESPnet's `Speech2Text.streaming_decode`."""
        decode = super().streaming_decode if self.stream is None else self._aligned
        return self._timed(decode, speech, is_final, is_final=is_final)

    def decode_batch(self, numbers: Sequence[int], speech: Sequence[Any]) -> List[Any]:
        """Decode utterances of similar lengths at once.

        Args:
            numbers: Places of the utterances among `keys`.
            speech: Samples of each. (S,)

        Returns:
            Hypotheses of each utterance, or a `TooShortUttError`.

        Raises:
            UserError: one of them gives no numbers.
        """
        assert self.batches is not None  # is asked before
        start = time.perf_counter()
        kind = getattr(torch, self.dtype)
        given = [torch.as_tensor(x).to(device=self.device, dtype=kind) for x in speech]
        outcomes: List[Any] = []
        for number, outcome in zip(numbers, self.batches.decode(given)):
            if isinstance(outcome, FloatingPointError):
                name = self.keys[number] if self.keys else number + 1
                raise UserError(f"utterance {name}: {outcome}; check its audio, or {AGAIN}")
            if not isinstance(outcome, stock.TooShortUttError):
                outcome, hit_limit = outcome
                self.hit_limit += hit_limit
            outcomes.append(outcome)
        self.seconds += time.perf_counter() - start
        self.samples += sum(map(len, speech))
        self.utterances += len(speech)
        if self.progress:
            self.progress.update(len(speech))
        return outcomes

    def _aligned(self, speech: Any, is_final: bool) -> List[Any]:
        """Decode a chunk on training's grid."""
        assert self.stream is not None
        x = torch.as_tensor(speech).to(device=self.device, dtype=getattr(torch, self.dtype))
        enc = self.stream.accept(x, is_final)  # (T, D)
        if not len(enc) and not is_final:
            return []
        with torch.no_grad():
            return self.beam_search(enc, is_final)

    def _timed(self, decode: Any, speech: Any, ends: bool, **kwargs: Any) -> List[Any]:
        start = time.perf_counter()
        try:
            return decode(speech, **kwargs)
        except FloatingPointError as e:
            name = self.keys[self.utterances] if self.keys else self.utterances + 1
            raise UserError(f"utterance {name}: {e}; check its audio, or {AGAIN}") from None
        except RuntimeError as e:
            if not self.streaming or self.stream is not None:
                raise
            reason = (str(e).splitlines() or [""])[0]
            raise UserError(
                f"ESPnet's own streaming fails with this model and decoding_window ({reason}); a "
                "longer window may do, or --decoding aligned (of a recipe: --stock_wer false)"
            ) from None
        finally:
            self.seconds += time.perf_counter() - start
            self.samples += len(speech)
            if ends:
                self.utterances += 1
                self.hit_limit += self.beam_search.hit_limit
                if self.progress:
                    self.progress.update()


def get_parser() -> argparse.ArgumentParser:
    """Return the options of stock inference, and `--decoding`."""
    parser = stock.get_parser()
    parser.add_argument(
        "--decoding",
        choices=WAYS,
        default=WAYS[0],
        help="aligned: chunks as in training, no frame dropped; stock: as ESPnet does",
    )
    return parser


def options_of(args: Namespace) -> Dict[str, Any]:
    """Return what `TimedSpeech2Text` is given of these arguments, but the device."""
    known = [*inspect.signature(stock.Speech2Text).parameters, "decoding"]
    return {key: value for key, value in vars(args).items() if key in known}


def decode(
    speech2text: Any, speech: np.ndarray, show: Optional[Callable[[List[Any]], None]] = None
) -> List[Any]:
    """Decode an utterance as stock inference does: in chunks if it is to be streamed.

    Args:
        speech2text: The model.
        speech: Samples. (S,)
        show: Function that is given the hypotheses after each chunk.
    """
    if not speech2text.streaming:
        return speech2text(speech)
    size = speech2text.audio_processor.decoding_samples
    last = len(speech) // size * size
    for start in range(0, last, size):
        hyps = speech2text.streaming_decode(speech[start : start + size], is_final=False)
        if show and hyps:
            show(hyps)
    return speech2text.streaming_decode(speech[last:], is_final=True)


def decode_set(args: Namespace, speech2text: TimedSpeech2Text) -> None:
    """Decode a set, and write what `espnet2.bin.asr_transducer_inference` writes.

    Args:
        args: Arguments of that command.
        speech2text: The model.
    """
    task, of_model = ASRTransducerTask, speech2text.asr_train_args
    loader = task.build_streaming_iterator(
        args.data_path_and_name_and_type,
        dtype=args.dtype,
        batch_size=args.batch_size,
        key_file=args.key_file,
        num_workers=args.num_workers,
        preprocess_fn=task.build_preprocess_fn(of_model, False),
        collate_fn=task.build_collate_fn(of_model, False),
        allow_variable_data_keys=args.allow_variable_data_keys,
        inference=True,
    )

    def show(hyps: List[Any], key: str, what: str) -> None:
        text = speech2text.hypotheses_to_results(hyps)[0][0]
        logging.info(f"{what} best hypothesis: {key}: {text}")

    utterances = ((key, batch["speech"][0]) for (key,), batch in loader)
    if speech2text.batches is not None:
        decoded = in_batches(speech2text, utterances)
    else:
        decoded = _one_by_one(speech2text, utterances, show if args.display_hypotheses else None)
    with DatadirWriter(args.output_dir) as writer:
        for key, hyps in decoded:
            if isinstance(hyps, stock.TooShortUttError):
                logging.warning(f"Utterance {key} {hyps}")
                nothing = Hypothesis(score=0.0, yseq=[], dec_state=None)
                results = [(" ", ["<space>"], [2], nothing)] * args.nbest
            else:
                results = speech2text.hypotheses_to_results(hyps)
                if args.display_hypotheses:
                    show(hyps, key, "Final")
            for n, (text, token, token_int, hyp) in zip(range(1, args.nbest + 1), results):
                best = writer[f"{n}best_recog"]
                best["token"][key] = " ".join(token)
                best["token_int"][key] = " ".join(map(str, token_int))
                best["score"][key] = str(hyp.score)
                if text is not None:
                    best["text"][key] = text


Outcome = Tuple[str, Union[List[Any], stock.TooShortUttError]]  # of an utterance


def _one_by_one(
    speech2text: TimedSpeech2Text,
    utterances: Iterator[Tuple[str, Any]],
    show: Optional[Callable[..., None]],
) -> Iterator[Outcome]:
    for key, speech in utterances:
        current = functools.partial(show, key=key, what="Current") if show else None
        try:
            yield key, decode(speech2text, speech, current)
        except stock.TooShortUttError as e:
            yield key, e


def in_batches(
    speech2text: TimedSpeech2Text, utterances: Iterator[Tuple[str, Any]]
) -> Iterator[Outcome]:
    """Decode utterances in batches, and yield them in the order in which they come.

    Args:
        speech2text: A model that decodes in batches.
        utterances: Names and samples (S,).
    """
    assert speech2text.batches is not None
    rate, before = sampling_rate(speech2text.asr_train_args), 0
    pool: List[Tuple[str, Any]] = []
    while True:
        pool, seconds = [], 0.0
        for key, speech in utterances:
            pool.append((key, speech))
            seconds += len(speech) / rate
            if seconds >= POOL:
                break
        if not pool:
            return
        outcomes: Dict[int, Any] = {}
        for batch in speech2text.batches.batches([len(speech) for _, speech in pool]):
            numbers = [before + k for k in batch]
            decoded = speech2text.decode_batch(numbers, [pool[k][1] for k in batch])
            outcomes.update(zip(batch, decoded))
        yield from ((key, outcomes[k]) for k, (key, _) in enumerate(pool))
        before += len(pool)


def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Decode as `espnet2.bin.asr_transducer_inference`; write `rtf.json` beside its output.

    Args:
        cmd: Arguments of the stock command; `sys.argv` by default.

    Raises:
        UserError: the model's files are missing or damaged, it computes no numbers, or the
            stock command cannot do what it is asked.
    """
    args = get_parser().parse_args(cmd)
    for path in (args.asr_train_config, args.asr_model_file):
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path}: no such file; train the model first (stage 11 or 16)")
    for name, expected in (("batch_size", 1), ("model_tag", None)):
        if getattr(args, name) != expected:
            raise UserError(f"--{name}: only {expected} is served, found {getattr(args, name)}")
    names = {name for _, name, _ in args.data_path_and_name_and_type}
    if "speech" not in names or (len(names) > 1 and not args.allow_variable_data_keys):
        raise UserError("--data_path_and_name_and_type: PATH,speech,sound is expected, once")
    if args.ngpu > 1:
        raise UserError(f"--ngpu: decoding takes one GPU at most, found {args.ngpu}")
    check_numbers(args)
    logging.basicConfig(level=args.log_level, format=LOG)
    set_all_random_seed(args.seed)
    keys = list(read_table(args.key_file or args.data_path_and_name_and_type[0][0]))
    progress = Progress(f"decode {Path(args.output_dir).parent.parent.name}", len(keys))
    device = "cuda" if args.ngpu > 0 else "cpu"
    options = {**options_of(args), "device": device}
    try:
        speech2text = TimedSpeech2Text(keys=keys, progress=progress, **options)
        with without_traceback():
            decode_set(args, speech2text)
    except AttributeError as e:
        if not isinstance(e.obj, Namespace):
            raise
        raise UserError(
            f"{args.asr_train_config}: not the config.yaml of a trained model: no '{e.name}'"
        ) from None
    cut = speech2text.hit_limit
    progress.close(f"{cut} of them cut short by the limit of the search" if cut else "")
    audio = speech2text.samples / sampling_rate(speech2text.asr_train_args)
    facts = {
        "utterances": speech2text.utterances,
        "audio_seconds": round(audio, 3),
        "decode_seconds": round(speech2text.seconds, 3),
        "rtf": round(speech2text.seconds / audio, 4) if audio else None,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1),
        "device": torch.cuda.get_device_name() if args.ngpu > 0 else cpu_name(),
        "threads": torch.get_num_threads(),
        "streaming": speech2text.streaming,
        "decoding": args.decoding,
        "hit_limit": cut,
    }
    DECODING.write(Path(args.output_dir), facts)


def check_numbers(args: Namespace) -> None:
    """Refuse numbers that ESPnet cannot decode with; it says so by a traceback.

    Raises:
        UserError: there is such a number.
    """
    config = args.asr_train_config
    tokens = read_yaml(config, "train the model first").get("token_list") if config else None
    vocabulary = len(tokens) if isinstance(tokens, list) else math.inf
    # Below 0 ESPnet decodes whole utterances.
    window = 1 if args.streaming and args.decoding_window == 0 else -math.inf
    for name, least, most in (
        ("ngpu", 0, 1),
        ("beam_size", 1, vocabulary),
        ("nbest", 1, math.inf),
        ("seed", 0, 2**32 - 1),
        ("num_workers", 0, math.inf),
        ("decoding_window", window, math.inf),
    ):
        value = getattr(args, name)
        if not least <= value <= most:
            span = f"at most {most}" if value > most else f"at least {least}"
            what = ", the number of tokens," if name == "beam_size" and value > most else ""
            raise UserError(f"--{name} {value}: {span}{what} is possible")


def _check_search(config: Any) -> None:
    """Refuse a `beam_search_config` that is none.

    Raises:
        UserError: it is no mapping, has a key that the search does not know, or a value of another
            kind than the search has.
    """
    if config is None:
        return
    if not isinstance(config, dict):
        raise UserError(f"beam_search_config: expected a mapping, in a YAML file; found {config}")
    taken = {"decoder", "joint_network", "beam_size", "lm", "lm_weight", "nbest"}
    parameters = inspect.signature(BeamSearchTransducer).parameters
    known = [key for key in parameters if key not in taken]
    readers: Dict[Any, Any] = {int: values.whole_number, float: values.number}
    readers |= {bool: values.truth, str: values.text}
    for key, value in config.items():
        if key in taken:
            raise UserError(f"beam_search_config: '{key}' is an option beside it, not in it")
        check_name("beam_search_config: unknown key", key, known)
        read = readers.get(parameters[key].annotation)
        if read:
            read(f"beam_search_config: {key}", value)


@contextlib.contextmanager
def _search_in_one_line() -> Iterator[None]:
    """Tell settings of the search that ESPnet refuses while it is built.

    Raises:
        UserError: there are such settings.
    """
    try:
        yield
    except (AssertionError, NotImplementedError) as e:
        raised = traceback.extract_tb(e.__traceback__)[-1]
        # Neither what it calls nor ESPnet's older search, whose file has the same name.
        built = BeamSearchTransducer.__init__.__code__
        if (raised.filename, raised.name) != (built.co_filename, built.co_name):
            raise
        raise UserError(f"beam_search_config: {' '.join(str(e).split())}") from None


def sampling_rate(config: Namespace) -> int:
    """Return the samples a second that a model's front end expects."""
    fs = (config.frontend_conf or {}).get("fs", SAMPLING_RATE)
    return humanfriendly.parse_size(fs) if isinstance(fs, str) else int(fs)
