"""ESPnet as a runtime: its `Speech2Text`, as decoding uses it."""

import contextlib
import io
from typing import Any, List, Optional, Sequence

import torch
from espnet2.asr_transducer.beam_search_transducer import Hypothesis
from espnet2.bin import asr_transducer_inference as stock
from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.latency import Emission, Spoken, Timing
from espnet_kd.deploy.runtime import Runtime
from espnet_kd.errors import UserError
from espnet_kd.espnet.aligned import stride
from espnet_kd.espnet.alignment import emission_frames, labels_of
from espnet_kd.espnet.batched_decoding import padded
from espnet_kd.espnet.greedy import emissions
from espnet_kd.espnet.timed_inference import (
    TimedSpeech2Text,
    check_numbers,
    decode,
    get_parser,
    options_of,
    sampling_rate,
)


class EspnetRuntime(Runtime):
    """An experiment of ESPnet's, on the CPU.

    Args:
        artifact: Files of the model.
        speech2text: The model.
    """

    def __init__(self, artifact: Artifact, speech2text: TimedSpeech2Text) -> None:
        self.artifact, self.speech2text = artifact, speech2text
        self.streaming = speech2text.streaming
        self.rate = sampling_rate(speech2text.asr_train_args)
        front = speech2text.asr_model.frontend
        stream = speech2text.stream
        if stream is not None:
            self.timing = Timing(
                self.rate,
                front.hop_length,
                front.stft.n_fft // 2 + 1,
                stream.stride,
                stream.look_ahead,
                stream.at_once,
            )

    @classmethod
    def load(cls, artifact: Artifact, options: Sequence[str]) -> "EspnetRuntime":
        """Load a model; see `Runtime.load`."""
        torch.set_num_threads(1)
        needed = ["--output_dir", ".", "--data_path_and_name_and_type", "x,speech,sound"]
        parser_words = io.StringIO()
        try:
            with contextlib.redirect_stderr(parser_words):
                args = get_parser().parse_args([*options, *needed])
        except SystemExit:  # ESPnet's parser, which says much
            reason = parser_words.getvalue().strip().rpartition("error: ")[2]
            raise UserError(f"options of decoding: {reason}") from None
        args.asr_train_config = str(artifact.files["config"])
        args.asr_model_file = str(artifact.files["checkpoint"])
        check_numbers(args)
        return cls(artifact, TimedSpeech2Text(**{**options_of(args), "device": "cpu"}))

    def decode(self, speech: Any) -> Optional[List[str]]:
        """Decode an utterance; see `Runtime.decode`."""
        try:
            hyps = decode(self.speech2text, speech)
        except stock.TooShortUttError:
            return None
        return self.speech2text.hypotheses_to_results(hyps)[0][1]

    def emit(self, speech: Sequence[Any]) -> List[Optional[Emission]]:
        """Decode utterances by greedy search, in a batch; see `Runtime.emit`."""
        encoded = self._encoded(speech)
        rows = [x for x in encoded if x is not None]
        with torch.no_grad():
            texts = iter(emissions(self.speech2text.asr_model, *padded(rows)) if rows else ())
        out: List[Optional[Emission]] = []
        for x in encoded:
            if x is None:
                out.append(None)
                continue
            emitted = next(texts)
            hypothesis = Hypothesis(score=0.0, yseq=[0, *emitted.labels])
            text, tokens, *_ = self.speech2text.hypotheses_to_results([hypothesis])[0]
            out.append(Emission(text, tokens, emitted.frames))
        return out

    def align(self, speech: Sequence[Any], texts: Sequence[str]) -> List[Optional[Spoken]]:
        """Find the likeliest times of tokens; see `Runtime.align`."""
        model, config = self.speech2text.asr_model, self.speech2text.asr_train_args
        labels = [labels_of(ASRTransducerTask, config, text) for text in texts]
        encoded = self._encoded(speech)
        rows = [(k, x) for k, x in enumerate(encoded) if x is not None and labels[k]]
        out: List[Optional[Spoken]] = [None] * len(encoded)
        if not rows:
            return out
        hop = model.frontend.hop_length  # samples
        seconds = hop * stride(model.encoder.embed) / self.rate  # of an encoder frame
        emitted = emission_frames(model, [x for _, x in rows], [labels[k] for k, _ in rows])
        for (k, _), frames in zip(rows, emitted):
            tokens = [model.token_list[label] for label in labels[k]]
            out[k] = Spoken(tokens, [frame * seconds for frame in frames])
        return out

    def _encoded(self, speech: Sequence[Any]) -> List[Optional[torch.Tensor]]:
        """Encode utterances: (T, D) of each, or None: it is too short."""
        batches = self.speech2text.batches
        if batches is None:
            raise UserError(
                "when tokens are emitted is known of --decoding aligned alone, without "
                "--quantize_asr_model"
            )
        with torch.no_grad():
            encoded = batches.encoded([torch.as_tensor(x) for x in speech])
        for x in encoded:
            if isinstance(x, torch.Tensor) and not bool(torch.isfinite(x).all()):
                where = self.artifact.files["checkpoint"]
                raise UserError(f"{where}: the encoder's output holds NaN or infinity")
        return [x if isinstance(x, torch.Tensor) else None for x in encoded]
