"""A runtime loads a model's files and decodes: the interface, and a table of those there are.

Size, memory and speed of a report are measured through it (`speed.py`), so that ESPnet and
other ways to run a model are measured alike. Another runtime is one class, and a line here.
"""

import abc
import importlib
from typing import Any, List, Optional, Sequence, Type

from espnet_kd.cli import values_of
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.latency import Emission, Spoken, Timing
from espnet_kd.errors import UserError, check_choice

# Where the class of each is; it is imported when it is needed: ESPnet takes seconds.
RUNTIMES = {
    "espnet": "espnet_kd.espnet.espnet_runtime:EspnetRuntime",
    "onnx": "espnet_kd.device.onnx_runtime:OnnxRuntime",
}
# Those that import torch are measured last: what is imported counts as memory.
HEAVY = ("espnet",)


class Runtime(abc.ABC):
    """A model that is loaded, on one thread.

    Attributes:
        artifact: Files of the model.
        streaming: Whether it decodes chunk by chunk.
        timing: When it can compute a frame; None: when all has been heard, or unknown.
    """

    artifact: Artifact
    streaming: bool
    timing: Optional[Timing] = None

    @classmethod
    @abc.abstractmethod
    def load(cls, artifact: Artifact, options: Sequence[str]) -> "Runtime":
        """Load a model.

        Args:
            artifact: Files of the model.
            options: Words of the command line of decoding, e.g. `--beam_size 4`.

        Raises:
            UserError: a file is missing or damaged, or an option is not known.
        """

    @abc.abstractmethod
    def decode(self, speech: Any) -> Optional[List[str]]:
        """Decode an utterance as a device does: if it is streaming, as the sound comes in.

        Args:
            speech: Samples at the model's sampling rate, an array of float32. (S,)

        Returns:
            Tokens of the best hypothesis; None: the utterance is too short for the model.
        """

    def emit(self, speech: Sequence[Any]) -> List[Optional[Emission]]:
        """Decode utterances by greedy search, whose tokens stand once they are emitted.

        Args:
            speech: Samples of each utterance. (S,)

        Returns:
            Hypothesis of each utterance; None: it is too short for the model.

        Raises:
            UserError: it does not know at which frame it emits a token.
        """
        raise UserError(f"{self.artifact.runtime}: does not tell when it emits a token")

    def align(self, speech: Sequence[Any], texts: Sequence[str]) -> List[Optional[Spoken]]:
        """Find the likeliest times of the tokens of transcripts.

        Args:
            speech: Samples of each utterance. (S,)
            texts: Transcript of each.

        Returns:
            Tokens of each utterance at their times; None: it is too short for the model.

        Raises:
            UserError: it cannot do so.
        """
        raise UserError(f"{self.artifact.runtime}: cannot align a transcript")


def runtime_class(name: str) -> Type[Runtime]:
    """Import a runtime.

    Raises:
        UserError: there is none of this name.
    """
    check_choice("runtime", name, tuple(RUNTIMES))
    module, _, kind = RUNTIMES[name].partition(":")
    return getattr(importlib.import_module(module), kind)


def other_search(options: Sequence[str]) -> Optional[str]:
    """Say which search is asked for if it is not ESPnet's default; None: it is.

    Args:
        options: Words of the command line of decoding.

    Raises:
        UserError: its config cannot be read.
    """
    given = values_of(options, "--config", "--lm_file", "--lm_train_config")
    config = read_yaml(given["config"], "--config names it") if "config" in given else {}
    search = config.get("beam_search_config") or {}
    kind = search.get("search_type", "default") if isinstance(search, dict) else "default"
    if kind != "default":
        return f"search_type '{kind}' ({given['config']})"
    for name in ("lm_file", "lm_train_config"):
        value = given.get(name, config.get(name))
        if value:
            return f"{name} '{value}'"
    return None
