"""An encoder whose last blocks go on from what a streaming student has made: `cascade`, strict.

    y = blocks 0 to L_c - 1 in chunks of C frames, as the streaming student has them
    z = norm(blocks from L_c on, of y, in chunks of C + ceil(A / C) C frames)

C is drawn in training and chosen in decoding, A is the look-ahead: chunks above are whole chunks
of those below, so that a frame below is computed once for both exits. This is the cascade of
causal and look-ahead blocks of arXiv 2312.09842 (abstract); chunks in place of a window of
future frames are ours: what a frame waits for does not grow with the blocks above.
ESPnet has one mask for all blocks: importing this module makes it know the encoder, by the key
`cascade` of `encoder_conf`, which its own refuses.
"""

from typing import Any, Tuple

import torch
from espnet2.asr_transducer.encoder.encoder import Encoder
from espnet2.tasks import asr_transducer as task

from espnet_kd.errors import UserError
from espnet_kd.methods.cascade import longer_chunk, stacked
from espnet_kd.spec.not_stock import CASCADE, read_cascade_of


class CascadedEncoder(Encoder):
    """See the module; parameters have the names that they have in ESPnet's encoder.

    Args:
        input_size: Features F.
        conf: The other arguments of ESPnet's encoder.
        cascade: `{causal_blocks: L_c, lookahead: A}`.

    Attributes:
        causal_blocks: Blocks L_c below.
        lookahead: Frames A that chunks above are longer at least.

    Raises:
        UserError: `cascade` is something else, or leaves no block above.
    """

    def __init__(self, input_size: int, cascade: Any, **conf: Any) -> None:
        super().__init__(input_size, **conf)
        count = len(self.encoders.blocks)
        self.causal_blocks, self.lookahead = read_cascade_of(cascade, count)

    def longer(self, chunk_size: int) -> int:
        """Return the frames of a chunk above; see `longer_chunk`."""
        return longer_chunk(chunk_size, self.lookahead)

    def parts(self) -> Tuple[Any, Any]:
        """Return the blocks below, without a norm, and those above with theirs: no copies."""
        blocks, n = list(self.encoders.blocks), self.causal_blocks
        below = stacked(self.encoders, blocks[:n], torch.nn.Identity())
        return below, stacked(self.encoders, blocks[n:], self.encoders.norm_blocks)

    def forward(self, x: torch.Tensor, x_len: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Encode whole utterances, with full context in all blocks.

        Args:
            x: (B, T_in, F)
            x_len: (B,)

        Returns:
            Encoder output (B, T, D) and its lengths (B,).
        """
        from espnet_kd.espnet.encode import encode  # which asks for this class

        return encode(self, x, x_len, None)

    def chunk_forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Refuse ESPnet's streaming, which has one chunk for all blocks.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"encoder_conf.{CASCADE}: ESPnet's own streaming has one chunk for all blocks; decode "
            "with python -m espnet_kd.bin.decode --decoding aligned, or whole utterances"
        )


def encoder_of(input_size: int, **conf: Any) -> Encoder:
    """Build ESPnet's encoder, or ours where its options name `cascade`.

    Args:
        input_size: Features F.
        conf: `encoder_conf`.
    """
    kind = CascadedEncoder if conf.get(CASCADE) is not None else Encoder
    return kind(input_size, **{k: x for k, x in conf.items() if k != CASCADE or x is not None})


task.Encoder = encoder_of
