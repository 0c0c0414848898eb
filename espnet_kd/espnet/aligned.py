"""Streaming that hears every frame, in chunks on the grid that training has.

ESPnet's streaming drops the first encoder frame of an utterance and the last, and its first
chunk is shorter, which moves all borders. Here chunk k holds the encoder frames k * C to
(k + 1) * C - 1, as under training's chunk mask; the output is that of the masked forward of the
whole utterance (`encode.encode`). A chunk can be encoded once `look_ahead` feature frames
behind it are there.
"""

from dataclasses import dataclass
from typing import Any, List, Optional

import torch
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.asr_transducer.utils import TooShortUttError, check_short_utt
from espnet2.layers.utterance_mvn import UtteranceMVN

from espnet_kd.errors import UserError
from espnet_kd.espnet.cascaded_encoder import CascadedEncoder
from espnet_kd.espnet.versions import subsampled_lengths


@dataclass(frozen=True)
class Grid:
    """Context of a frame.

    Attributes:
        chunk_size: Encoder frames of a chunk.
        left_context: Encoder frames before a chunk that its frames attend to.
    """

    chunk_size: int
    left_context: int


def grid_of(model: Any, window: float, left_context: int, rate: int) -> Grid:
    """Return the grid of a decoding window.

    Args:
        model: A transducer.
        window: Milliseconds of audio of a chunk.
        left_context: See `Grid`.
        rate: Samples a second.

    Raises:
        UserError: the model cannot be decoded like this; `--decoding stock` may do.
    """
    problem = None
    if not isinstance(model.frontend, DefaultFrontend) or not model.frontend.stft.center:
        problem = "its front end is not ESPnet's 'default'"
    elif enhances(model.frontend):
        problem = "its front end enhances the signal, which needs the whole utterance"
    elif isinstance(model.normalize, UtteranceMVN):
        problem = "normalize: utterance_mvn needs the whole utterance (global_mvn does not)"
    elif not _is_causal(model.encoder):
        problem = "it was not trained in chunks (main_conf: dynamic_chunk_training)"
    if problem:
        raise UserError(
            f"this model cannot be decoded chunk by chunk on its training's grid: {problem}; "
            "decode whole utterances (--use_streaming false), or --decoding stock"
        )
    samples = model.frontend.hop_length * stride(model.encoder.embed)
    return Grid(max(1, round(window * rate / 1000 / samples)), max(left_context, 0))


def _is_causal(encoder: torch.nn.Module) -> bool:
    """Tell whether no convolution of the blocks looks to the right, as chunks need it."""
    convolutions: List[Any] = [m for m in encoder.modules() if hasattr(m, "lorder")]
    return all(m.lorder == m.kernel_size - 1 for m in convolutions)


def enhances(frontend: DefaultFrontend) -> bool:
    """Tell whether a front end dereverberates or forms a beam, which is done per utterance."""
    inner = frontend.frontend
    return inner is not None and bool(inner.use_wpe or inner.use_beamformer)


def frames_of(frontend: DefaultFrontend, samples: int) -> int:
    """Count the feature frames of an utterance of so many samples."""
    stft = frontend.stft
    return (samples + 2 * (stft.n_fft // 2) - stft.n_fft) // stft.hop_length + 1


def stride(embed: Any) -> int:
    """Feature frames from one encoder frame to the next; the VGG-like stack has always 4."""
    return 4 if embed.vgg_like else embed.subsampling_factor


class OnlineFeatures:
    """Features of audio that comes in pieces: those of the whole utterance, frame by frame.

    Args:
        model: A transducer whose front end is ESPnet's `default`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.hop, self.half = model.frontend.hop_length, model.frontend.stft.n_fft // 2
        # Frames at the beginning of a piece that lack the samples before it.
        self.margin = -(-self.half // self.hop)
        self.samples = torch.zeros(0)
        self.first = self.next = 0

    def accept(self, samples: torch.Tensor, is_final: bool) -> torch.Tensor:
        """Return the features that are known now and were not before.

        Args:
            samples: Samples that have come in. (S,)
            is_final: Whether it is the last.

        Returns:
            Normalised. (T, F), T may be 0
        """
        # Frame `first` stands at the first sample that is kept.
        self.samples = torch.cat([self.samples.to(samples), samples])  # (S,)
        total = self.first * self.hop + len(self.samples)
        if is_final:
            end = frames_of(self.model.frontend, total)
        else:
            end = (total - self.half - 1) // self.hop + 1
        if end <= self.next or len(self.samples) <= self.half:
            return samples.new_zeros(0, self.model.frontend.output_size())  # (0, F)
        length = torch.tensor([len(self.samples)], device=samples.device)  # (1,)
        feats, length = self.model._extract_feats(self.samples[None], length)  # (1, T, F)
        feats = feats[:, self.next - self.first : end - self.first]  # (1, T, F)
        if self.model.normalize is not None:
            feats, _ = self.model.normalize(feats.clone(), length.fill_(feats.size(1)))
        passed = max(0, end - self.margin - self.first)
        self.samples = self.samples[passed * self.hop :]  # (S,)
        self.first, self.next = self.first + passed, end
        return feats[0]


class _Blocks:
    """Blocks that are given encoder frames in chunks, and remember what is to the left.

    Args:
        encoder: ESPnet's encoder.
        blocks: `MultiBlocks`, of the encoder.
        left: Frames before a chunk that its frames attend to.
    """

    def __init__(self, encoder: Any, blocks: Any, left: int) -> None:
        self.encoder, self.blocks, self.left = encoder, blocks, left
        self.done = 0  # frames of the utterance

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Run over the next chunk. (1, T, D) -> (1, T, D)"""
        left, size = self.left, x.size(1)
        pos_enc = self.encoder.pos_enc(x, left_context=left)  # (1, left + 2 * size - 1, D)
        seen = torch.arange(left - 1, -1, -1, device=x.device)[None] < self.done  # (1, left)
        mask = torch.cat([~seen, seen.new_zeros(1, size)], dim=1)  # (1, left + size)
        self.done += size
        return self.blocks.chunk_forward(x, pos_enc, mask, left_context=left)


class _Above:
    """Blocks that go on in longer chunks, of a `CascadedEncoder`.

    Args:
        blocks: The blocks.
        size: Frames of a chunk.
    """

    def __init__(self, blocks: _Blocks, size: int) -> None:
        self.blocks, self.size = blocks, size
        self.waiting: List[torch.Tensor] = []

    def accept(self, x: torch.Tensor, is_final: bool) -> torch.Tensor:
        """Return the frames (T, D) that are known now, of those (T, D) that are known below."""
        x = torch.cat([*self.waiting, x])  # (T, D)
        end = len(x) if is_final else len(x) // self.size * self.size
        chunks = x[:end].split(self.size) if end else ()
        self.waiting = [x[end:]]
        return torch.cat([self.blocks(chunk[None])[0] for chunk in chunks] or [x[:0]])


class AlignedStream:
    """An encoder that is given audio piece by piece.

    Args:
        model: A transducer in eval mode.
        grid: Context of a frame; of a `CascadedEncoder` below.

    Attributes:
        at_once: Encoder frames that are known at once.
    """

    def __init__(self, model: Any, grid: Grid) -> None:
        self.model, self.encoder, self.grid = model, model.encoder, grid
        self.at_once, embed = grid.chunk_size, model.encoder.embed
        if isinstance(self.encoder, CascadedEncoder):
            self.at_once = self.encoder.longer(grid.chunk_size)
        self.stride = stride(embed)
        # Encoder frames before a chunk that padding would reach, and feature frames behind it.
        if embed.vgg_like:
            self.before, self.look_ahead = 1, 7 + embed.maxpool_kernel1
        else:
            self.before, self.look_ahead = 0, 3 + 2 * (embed.conv_kernel2 - 1) - self.stride
        self.reset()

    def reset(self) -> None:
        """Forget the utterance."""
        self.device = next(self.model.parameters()).device
        self.front = OnlineFeatures(self.model)
        self.encoder.reset_cache(self.grid.left_context, self.device)
        self.feats = torch.zeros(0)
        self.first = self.heard = 0
        encoder, left = self.encoder, self.grid.left_context
        self.above: Optional[_Above] = None
        if isinstance(encoder, CascadedEncoder):
            below, above = encoder.parts()
            self.below = _Blocks(encoder, below, left)
            self.above = _Above(_Blocks(encoder, above, left), self.at_once)
        else:
            self.below = _Blocks(encoder, encoder.encoders, left)

    @torch.no_grad()
    def accept(self, samples: torch.Tensor, is_final: bool) -> torch.Tensor:
        """Return the encoder frames that are known now and were not before.

        Args:
            samples: Samples that have come in. (S,)
            is_final: Whether it is the last; then the next call begins an utterance.

        Returns:
            (T, D), T may be 0

        Raises:
            TooShortUttError: the utterance ends before a frame of it can be encoded.
        """
        new = self.front.accept(samples.to(self.device), is_final)  # (T, F)
        # Feature frame `first` is the first that is kept, `heard` have come in.
        self.feats = torch.cat([self.feats.to(new), new]) if len(self.feats) else new
        self.heard += len(new)
        size, out = self.grid.chunk_size, []
        while self.heard >= self.stride * (self.below.done + size) + self.look_ahead:
            out.append(self._chunk(size))
        if is_final:
            rest = self._frames() - self.below.done
            if rest > 0:
                out.append(self._chunk(rest))
        x = torch.cat(out) if out else new.new_zeros(0, self.encoder.output_size)  # (T, D)
        if self.above is not None:
            x = self.above.accept(x, is_final)
        if is_final:
            self.reset()
        return x

    def _frames(self) -> int:
        """Count the encoder frames of the utterance, which has ended."""
        too_short, limit = check_short_utt(self.encoder.embed.subsampling_factor, self.heard)
        if too_short:
            frames = self.heard
            self.reset()
            raise TooShortUttError(f"has {frames} frames, needs more than {limit}", frames, limit)
        return int(subsampled_lengths(self.encoder.embed, torch.tensor([self.heard])))

    def _chunk(self, size: int) -> torch.Tensor:
        """Encode the next `size` frames. (size, D)"""
        before = min(self.before, self.below.done)
        start = self.stride * (self.below.done - before) - self.first
        x, _ = self.encoder.embed(self.feats[None, start:], None)  # (1, T, D)
        x = self.below(x[:, before : before + size])  # (1, size, D)
        kept = self.stride * max(0, self.below.done - self.before) - self.first
        self.feats, self.first = self.feats[kept:], self.first + kept  # (T, F)
        return x[0]
