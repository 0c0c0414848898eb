"""ESPnet as a runtime: its `Speech2Text`, as decoding uses it."""

import contextlib
import io
from typing import Any, List, Optional, Sequence

import torch
from espnet2.bin import asr_transducer_inference as stock

from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.runtime import Runtime
from espnet_kd.errors import UserError
from espnet_kd.espnet.timed_inference import (
    TimedSpeech2Text,
    check_numbers,
    decode,
    get_parser,
    options_of,
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
