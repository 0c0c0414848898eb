"""onnxruntime as a runtime: exported folders, decoded chunk by chunk as on a device."""

import argparse
from typing import Any, List, Optional, Sequence

from espnet_kd.cli import new_parser, positive_int
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.runtime import Runtime
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

    @classmethod
    def load(cls, artifact: Artifact, options: Sequence[str]) -> "OnnxRuntime":
        """Load a model; see `Runtime.load`.

        Of the options it takes the beam size, which 1 makes greedy search; chunks and left
        context are those of the export.
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
        return cls(artifact, Recogniser.load(artifact.files["encoder.onnx"].parent, beam))

    def decode(self, speech: Any) -> Optional[List[str]]:
        """Decode an utterance; see `Runtime.decode`."""
        recogniser = self.recogniser
        d = recogniser.description
        if len(speech) // d.hop_length < d.overlap + d.subsampling - 1:
            return None
        return [recogniser.spelling.tokens[label] for label in recogniser.decode(speech).labels]
