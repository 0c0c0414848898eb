"""Run an ESPnet transducer encoder under a chunk mask that the caller chose."""

from typing import Optional, Tuple

import torch
from espnet2.asr_transducer.encoder.encoder import Encoder
from espnet2.asr_transducer.utils import TooShortUttError, check_short_utt

from espnet_kd.espnet.cascaded_encoder import CascadedEncoder
from espnet_kd.espnet.versions import run_blocks, subsampled_lengths
from espnet_kd.espnet.whole_encoder import WholeEncoder


def draw_chunk_size(encoder: Encoder, n_frames: int) -> Optional[int]:
    """Draw a chunk size as `Encoder.forward` does (dynamic chunk training).

    Args:
        encoder: Encoder, whose `short_chunk_threshold` and `short_chunk_size` are used.
        n_frames: Frames T of the padded batch.

    Returns:
        Frames a chunk; None if the encoder does not train with chunks.
    """
    if not encoder.dynamic_chunk_training:
        return None
    size = int(torch.randint(1, max(n_frames, 2), (1,)))
    if size > n_frames * encoder.short_chunk_threshold:
        return n_frames
    return size % encoder.short_chunk_size + 1


def chunk_mask(
    n_frames: int, chunk_size: int, left_context: Optional[int], device: torch.device
) -> torch.Tensor:
    """Forbid attention outside a frame's chunk and the frames before that chunk.

    Args:
        n_frames: T
        chunk_size: Frames a chunk.
        left_context: Frames before a chunk that can be seen; None: all.
        device: Device of the mask.

    Returns:
        True where frame i (row) must not see frame j (column). (T, T)
    """
    frame = torch.arange(n_frames, device=device)  # (T,)
    start = frame // chunk_size * chunk_size  # (T,) of the chunk
    forbidden = frame >= start[:, None] + chunk_size  # (T, T)
    if left_context is not None:
        forbidden |= frame < start[:, None] - left_context  # (T, T)
    return forbidden


def encode(
    encoder: Encoder,
    feats: torch.Tensor,
    feats_len: torch.Tensor,
    chunk_size: Optional[int],
    left_context: Optional[int] = None,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Encode features under a given chunk size; padding never counts.

    Args:
        encoder: ESPnet's encoder. A `WholeEncoder` has full context always; of a
            `CascadedEncoder` the chunks are those of the blocks below.
        feats: (B, T_in, F)
        feats_len: On a GPU the host waits for them, on the CPU it need not. (B,)
        chunk_size: Frames a chunk; None or 0: full context.
        left_context: Frames before a chunk that it can see; None: the encoder's
            `num_left_chunks`, where 0 or less stands for all.

    Returns:
        Encoder output (B, T, D) and its lengths (B,).

    Raises:
        TooShortUttError: an utterance is too short for the subsampling.
    """
    if isinstance(encoder, WholeEncoder):
        return encoder(feats, feats_len)
    shortest = int(feats_len.min())
    too_short, limit = check_short_utt(encoder.embed.subsampling_factor, shortest)
    if too_short:
        raise TooShortUttError(
            f"an utterance has {shortest} feature frames; the subsampling needs more than "
            f"{limit}: raise --min_wav_duration",
            shortest,
            limit,
        )
    x, _ = encoder.embed(feats, None)  # (B, T, D)
    t_len = subsampled_lengths(encoder.embed, feats_len)  # (B,)
    t_len = t_len.to(x.device, non_blocking=True)
    if isinstance(encoder, CascadedEncoder):
        below, above = encoder.parts()
        x = in_chunks(encoder, below, x, t_len, chunk_size, left_context)  # (B, T, D)
        longer = chunk_size and encoder.longer(chunk_size)
        return in_chunks(encoder, above, x, t_len, longer, left_context), t_len
    return in_chunks(encoder, encoder.encoders, x, t_len, chunk_size, left_context), t_len


def in_chunks(
    encoder: Encoder,
    blocks: torch.nn.Module,
    x: torch.Tensor,
    t_len: torch.Tensor,
    chunk_size: Optional[int],
    left_context: Optional[int] = None,
) -> torch.Tensor:
    """Run blocks under a chunk mask; padding never counts.

    Args:
        encoder: Encoder that they are of, or stand on.
        blocks: ESPnet's `MultiBlocks`.
        x: Their input. (B, T, D)
        t_len: Frames of each utterance. (B,)
        chunk_size: See `encode`.
        left_context: See `encode`.

    Returns:
        (B, T, D)
    """
    padding = torch.arange(x.size(1), device=x.device) >= t_len[:, None]  # (B, T)
    forbidden = None
    if chunk_size:
        if left_context is None and encoder.num_left_chunks > 0:
            left_context = encoder.num_left_chunks * chunk_size
        forbidden = chunk_mask(x.size(1), chunk_size, left_context, x.device)
    return run_blocks(blocks, x, encoder.pos_enc(x), padding, forbidden)
