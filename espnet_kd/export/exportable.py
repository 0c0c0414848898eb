"""A streaming transducer that can be exported, and its chunks."""

import dataclasses
import functools
from typing import Any, Dict, List, NamedTuple, Optional

import torch

from espnet_kd.device.description import Source
from espnet_kd.students.grid import grid_of


class Chunks(NamedTuple):
    """The context that a frame may see.

    Attributes:
        chunk_size: Encoder frames of a chunk.
        left_context: Encoder frames before a chunk.
    """

    chunk_size: int
    left_context: int


@dataclasses.dataclass(frozen=True)
class Exportable:
    """A streaming conformer transducer.

    Attributes:
        model: ESPnet's, in eval mode.
        tokens: Blank first.
        token_type: One of `TOKEN_TYPES`.
        front: Fields of `device.description.Description` that say what its features are.
        mean: Subtracted from features; None: nothing. (F,)
        scale: Factors of features then; None: ones. (F,)
        source: Origin of the weights.
        left_chunks: Chunks to the left that it was trained to see; 0: all.
    """

    model: Any
    tokens: List[str]
    token_type: str
    front: Dict[str, Any]
    mean: Optional[torch.Tensor]
    scale: Optional[torch.Tensor]
    source: Source
    left_chunks: int

    @property
    def subsampling(self) -> int:
        """Feature frames of an encoder frame."""
        return self.model.encoder.embed.subsampling_factor

    @functools.cached_property
    def rounded(self) -> bool:
        """Whether weights lie on a grid, as `quantise` trains them."""
        weights = (w for w in self.model.parameters() if w.dim() > 1)
        # All zeros lie on any grid.
        return any(bool(w.any()) and grid_of(w) is not None for w in weights)

    @property
    def predictor(self) -> str:
        """Kind of the predictor, one of `device.description.PREDICTOR_STATES`."""
        if hasattr(self.model.decoder, "rnn"):
            return "lstm"
        return "averaged" if hasattr(self.model.decoder, "position") else "stateless"
