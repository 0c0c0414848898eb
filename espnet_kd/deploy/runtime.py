"""A runtime loads a model's files and decodes: the interface, and a table of those there are.

Size, memory and speed of a report are measured through it (`speed.py`), so that ESPnet and
other ways to run a model are measured alike. Another runtime is one class, and a line here.
"""

import abc
import importlib
from typing import Any, List, Optional, Sequence, Type

from espnet_kd.deploy.artifact import Artifact
from espnet_kd.errors import check_choice

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
    """

    artifact: Artifact
    streaming: bool

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


def runtime_class(name: str) -> Type[Runtime]:
    """Import a runtime.

    Raises:
        UserError: there is none of this name.
    """
    check_choice("runtime", name, tuple(RUNTIMES))
    module, _, kind = RUNTIMES[name].partition(":")
    return getattr(importlib.import_module(module), kind)
