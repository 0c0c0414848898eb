"""Every difference between the ESPnet versions we support, in one place.

Tested: 202511 (Python 3.11) and 202611 (Python 3.12).
"""

import contextlib
import io
from typing import Any, Iterator, Optional

import torch

TESTED = ("202511", "202611")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Import ESPnet without a word from it and without starting CUDA.

    202511 talks about nltk. The trainers of both ask the GPU at once whether it has bfloat16,
    which starts CUDA: a measurement in a forked process (`peak_memory.in_child`) could then
    no longer use it. For programs that train nothing themselves.
    """
    is_available = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        torch.cuda.is_available = is_available


def subsampled_lengths(embed: Any, lengths: torch.Tensor) -> torch.Tensor:
    """Compute how many frames `ConvInput` makes of each utterance alone.

    Up to 202511 `ConvInput` keeps the mask of the first frames, so that in a padded batch
    padding counts as speech; 202611 computes this itself.

    Args:
        embed: ESPnet's `ConvInput`.
        lengths: Feature frames. (B,)

    Returns:
        Encoder frames. (B,)
    """
    if hasattr(embed, "get_output_lengths"):
        return embed.get_output_lengths(lengths)
    if embed.vgg_like:
        # Two 3x3 convolutions a stage, one of them padded; max pooling in ceil mode.
        lengths = (lengths - 2 - embed.maxpool_kernel1 + 1) // 2 + 1
        return (lengths - 2 - 2 + 1) // 2 + 1
    lengths = (lengths - 3) // 2 + 1
    return (lengths - embed.conv_kernel2) // embed.conv_stride2 + 1


def run_blocks(
    blocks: torch.nn.Module,
    x: torch.Tensor,
    pos_enc: torch.Tensor,
    mask: torch.Tensor,
    chunk_mask: Optional[torch.Tensor],
) -> torch.Tensor:
    """Run `MultiBlocks`, which returns x up to 202511 and (x, mask) from 202611.

    Args:
        blocks: ESPnet's `MultiBlocks`.
        x: (B, T, D)
        pos_enc: (1, 2 * T - 1, D)
        mask: True where padding. (B, T)
        chunk_mask: True where attention is not allowed. (T, T) or None

    Returns:
        (B, T, D)
    """
    return hidden_of(blocks(x, pos_enc, mask, chunk_mask=chunk_mask))


def hidden_of(output: Any) -> torch.Tensor:
    """Return x of what a block, or `MultiBlocks`, returns: x or (x, mask, ...). (B, T, D)"""
    return output[0] if isinstance(output, tuple) else output
