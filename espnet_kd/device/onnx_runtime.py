"""onnxruntime as a runtime: exported folders, decoded chunk by chunk as on a device."""

import argparse
from typing import Any, List, Optional, Sequence

from espnet_kd.cli import new_parser, positive_int
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.latency import Emission, Timing
from espnet_kd.deploy.runtime import Runtime, other_search
from espnet_kd.device.recogniser import Recogniser
from espnet_kd.errors import UserError

BEAM_SIZE = 5  # ESPnet's default


class OnnxRuntime(Runtime):
    """An exported folder.

    Args:
        artifact: Files of the model.
        recogniser: The model.
    """

    streaming = True

    def __init__(self, artifact: Artifact, recogniser: Recogniser) -> None:
        self.artifact, self.recogniser = artifact, recogniser
        d = recogniser.description
        self.timing = Timing(
            d.sampling_rate,
            d.hop_length,
            recogniser.front_end.after,
            d.subsampling,
            d.overlap,
            d.chunk_size,
        )

    @classmethod
    def load(cls, artifact: Artifact, options: Sequence[str]) -> "OnnxRuntime":
        """Load a model; see `Runtime.load`.

        Of the options it takes the beam size, which 1 makes greedy search; chunks and left
        context are those of the export. Another search than ESPnet's default is refused.
        """
        parser = new_parser(None)
        parser.add_argument("--config")
        parser.add_argument("--beam_size", type=positive_int)
        args, _ = parser.parse_known_args(list(options))
        config = read_yaml(args.config, "--config names it") if args.config else {}
        try:
            beam = args.beam_size or positive_int(str(config.get("beam_size", BEAM_SIZE)))
        except argparse.ArgumentTypeError as e:
            raise UserError(f"{args.config}: beam_size: {e}") from None
        other = other_search(options)
        if other:
            raise UserError(
                f"{artifact.files['encoder.onnx'].parent}: exported models are decoded by "
                f"ESPnet's default search, without a language model; found {other}"
            )
        return cls(artifact, Recogniser.load(artifact.files["encoder.onnx"].parent, beam))

    def decode(self, speech: Any) -> Optional[List[str]]:
        """Decode an utterance; see `Runtime.decode`."""
        recogniser = self.recogniser
        if self._too_short(speech):
            return None
        return [recogniser.spelling.tokens[label] for label in recogniser.decode(speech).labels]

    def emit(self, speech: Sequence[Any]) -> List[Optional[Emission]]:
        """Decode utterances by greedy search, one by one; see `Runtime.emit`."""
        spelling = self.recogniser.spelling
        greedy = OnnxRuntime(
            self.artifact, Recogniser(self.recogniser.networks, spelling.tokens, 1)
        )
        return [greedy._emission(samples) for samples in speech]

    def _emission(self, samples: Any) -> Optional[Emission]:
        if self._too_short(samples):
            return None
        spelling = self.recogniser.spelling
        try:
            text = self.recogniser.decode(samples)
        except FloatingPointError as e:
            raise UserError(f"{self.artifact.files['encoder.onnx']}: {e}") from None
        tokens = [spelling.tokens[label] for label in text.labels]
        return Emission(spelling.text(text.labels), tokens, text.frames)

    def _too_short(self, samples: Any) -> bool:
        d = self.recogniser.description
        return len(samples) // d.hop_length < d.overlap + d.subsampling - 1
