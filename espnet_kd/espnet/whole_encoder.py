"""Encoders without a chunk mask of ours: they hear whole utterances, each alone; their frames."""

from typing import Any, List, NamedTuple, Optional

import torch
from espnet2.asr_transducer.encoder.blocks.conv1d import Conv1d
from espnet2.asr_transducer.encoder.blocks.conv_input import ConvInput
from espnet2.asr_transducer.encoder.encoder import Encoder
from espnet2.asr_transducer.utils import TooShortUttError

from espnet_kd.errors import UserError
from espnet_kd.espnet.versions import run_blocks, subsampled_lengths

FROM = 48  # feature frames: where the number of encoder frames is known to grow evenly
LARGEST = 16  # factor of subsampling
KNOWN = ((4, False), (2, False), (6, False), (4, True), (6, True))  # factor, VGG-like
MOST_APART = 3  # frames by which teacher and student may differ, if they always do
LENGTHS = torch.arange(20, 400)  # feature frames on which frames are compared. (380,)


class Frames:
    """How many encoder frames feature frames become, as it was observed.

    Attributes:
        subsampling_factor: Feature frames that an encoder frame stands for.
        vgg_like: Whether the frames are those of ESPnet's VGG-like front end; None: of none of
            its front ends.
    """

    def __init__(self, counts: List[int]) -> None:
        """Derive the rule.

        Args:
            counts: Encoder frames of FROM feature frames, one more, two more, ....

        Raises:
            UserError: they grow by no rule.
        """
        for factor in range(1, len(counts) // 2 + 1):
            if all(b - a == 1 for a, b in zip(counts, counts[factor:])):
                break
        else:
            raise UserError(
                f"the encoder makes {counts[0]} to {counts[-1]} frames of {FROM} to "
                f"{FROM + len(counts) - 1} feature frames, by no fixed factor: it cannot teach"
            )
        self._first = torch.tensor(counts[:factor])  # (factor,)
        self.subsampling_factor, self.vgg_like = factor, None
        for known, vgg_like in KNOWN:
            if torch.equal(self(LENGTHS), _frames_of_espnet(known, vgg_like)):
                self.subsampling_factor, self.vgg_like = known, vgg_like
                break

    def __call__(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return the encoder frames of utterances. (B,) -> (B,)"""
        first = self._first.to(lengths.device)
        steps = torch.div(lengths - FROM, len(first), rounding_mode="floor")  # (B,)
        return (first[(lengths - FROM) % len(first)] + steps).clamp_min(0)


class WholeEncoder(Encoder):
    """An encoder of any kind in the place of ESPnet's standalone one.

    Each utterance is encoded alone, so that padding never counts: ESPnet's convolution modules
    let it reach the last frames of the shorter ones.

    Args:
        inner: The encoder; its names begin with `encoder.inner.` in the model.
        features: Width of its input.
        width: Width D of its output.
    """

    def __init__(self, inner: torch.nn.Module, features: int, width: int) -> None:
        torch.nn.Module.__init__(self)  # nothing of ESPnet's own encoder is built
        self.inner, self.output_size = inner.eval(), width
        self.dynamic_chunk_training = False
        self.short_chunk_size = self.num_left_chunks = 0
        self.short_chunk_threshold = 0.0
        with torch.no_grad():
            counts = [
                self._alone(torch.zeros(1, FROM + n, features)).size(1) for n in range(2 * LARGEST)
            ]
        self.embed: Any = Frames(counts)

    def forward(self, x: torch.Tensor, x_len: torch.Tensor) -> Any:
        """Encode utterances.

        Args:
            x: Normalised features. (B, T_in, F)
            x_len: (B,)

        Returns:
            Encoder output (B, T, D) and its lengths (B,).

        Raises:
            TooShortUttError: an utterance makes no frame.
        """
        t_len = self.embed(x_len)  # (B,)
        if int(t_len.min()) < 1:
            short, need = int(x_len.min()), self.embed.subsampling_factor
            raise TooShortUttError(f"an utterance has {short} feature frames", short, need)
        rows = [self._alone(row[None, :n])[0] for row, n in zip(x, x_len.tolist())]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), t_len

    def _alone(self, x: torch.Tensor) -> torch.Tensor:
        """Encode an utterance. (1, T_in, F) -> (1, T, D)"""
        if isinstance(self.inner, Encoder):
            hidden, _ = self.inner.embed(x, None)  # (1, T, D)
            padding = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=x.device)  # (1, T)
            pos_enc = self.inner.pos_enc(hidden)
            return run_blocks(self.inner.encoders, hidden, pos_enc, padding, None)
        enc = self.inner(x, torch.tensor([x.size(1)], device=x.device))[0]
        return enc[0] if isinstance(enc, tuple) else enc  # with outputs between for CTC


def is_whole(encoder: Any) -> bool:
    """Tell whether a standalone encoder must be wrapped: its blocks change the frames."""
    blocks = getattr(getattr(encoder, "encoders", None), "blocks", ())
    return any(isinstance(block, Conv1d) and block.lorder == 0 for block in blocks)


class Apart(NamedTuple):
    """How the frames of a teacher and its student differ.

    Attributes:
        offset: The teacher's frames less the student's, the same for all lengths; None: it is
            not the same.
        example: Frames of both for as many feature frames, in words.
    """

    offset: Optional[int]
    example: str


def compare_frames(teacher: Any, student: Any) -> Apart:
    """Compare the frames of two encoders.

    Args:
        teacher: The teacher's encoder.
        student: The student's.
    """
    theirs, ours = (frames_of(encoder, LENGTHS) for encoder in (teacher, student))
    apart = theirs - ours  # (380,)
    offset = int(apart[0]) if bool((apart == apart[0]).all()) else None
    if offset is not None and abs(offset) > MOST_APART:
        offset = None
    example = f"{theirs[180]} frames of {LENGTHS[180]} feature frames, the student {ours[180]}"
    return Apart(offset, example)


def frames_of(encoder: Any, lengths: torch.Tensor) -> torch.Tensor:
    """Return the encoder frames of feature frames. (B,) -> (B,)"""
    embed = encoder.embed
    return embed(lengths) if isinstance(embed, Frames) else subsampled_lengths(embed, lengths)


def _frames_of_espnet(factor: int, vgg_like: bool) -> torch.Tensor:
    """Return the frames of LENGTHS by a front end of the standalone encoder. (380,)"""
    conv_size = (1, 1) if vgg_like else 1
    embed = ConvInput(20, conv_size, factor, vgg_like, 1)
    return subsampled_lengths(embed, LENGTHS)
