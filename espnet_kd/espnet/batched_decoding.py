"""Utterances decoded in batches: what chunk by chunk, or one by one, would give.

The encoder runs over whole utterances, padded, under the chunk mask that stands for streaming
(`aligned.py`) or without one; features are those that each utterance has alone.
"""

from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.asr_transducer.beam_search_transducer import Hypothesis
from espnet2.asr_transducer.encoder.blocks.conv1d import Conv1d
from espnet2.asr_transducer.utils import TooShortUttError, check_short_utt
from espnet2.layers.utterance_mvn import UtteranceMVN

from espnet_kd.espnet.aligned import Grid, enhances, frames_of
from espnet_kd.espnet.batched_search import BatchedBeamSearch
from espnet_kd.espnet.bounded_search import BoundedBeamSearch
from espnet_kd.espnet.encode import encode

MOST = 64  # utterances of a batch
PAIRS = 4_000_000  # of frames that attend to each other, of a batch: what memory it takes

Decoded = Tuple[List[Hypothesis], bool]  # the best hypotheses; whether the limit was reached


class BatchedDecoding:
    """A model that decodes many utterances at once.

    Args:
        model: A transducer in eval mode.
        search: Its search.
        grid: What a frame can hear; None: the whole utterance.
    """

    def __init__(self, model: Any, search: BoundedBeamSearch, grid: Optional[Grid]) -> None:
        self.model, self.search, self.grid = model, search, grid
        known = BatchedBeamSearch.knows(search)
        self.batched_search = BatchedBeamSearch(search, model) if known else None
        encoder = model.encoder
        blocks = encoder.encoders.blocks
        # Padding would reach the last frames of shorter utterances.
        self.pads = not encoder.embed.vgg_like and not any(isinstance(b, Conv1d) for b in blocks)

    def batches(self, samples: Sequence[int]) -> Iterator[List[int]]:
        """Yield the numbers of the utterances of each batch, of similar length.

        Args:
            samples: Length of each utterance.
        """
        batch: List[int] = []
        hop = getattr(self.model.frontend, "hop_length", 1)
        for k in sorted(range(len(samples)), key=lambda k: samples[k]):
            frames = samples[k] / hop / self.model.encoder.embed.subsampling_factor
            if batch and (len(batch) == MOST or (len(batch) + 1) * frames**2 > PAIRS):
                yield batch
                batch = []
            batch.append(k)
        if batch:
            yield batch

    @torch.no_grad()
    def decode(
        self, speech: Sequence[torch.Tensor]
    ) -> List[Union[Decoded, TooShortUttError, FloatingPointError]]:
        """Decode a batch.

        Args:
            speech: Samples of each utterance. (S,)

        Returns:
            What came of each utterance; what is wrong with it is returned, not raised.
        """
        outcomes: List[Any] = [None] * len(speech)
        feats: List[torch.Tensor] = []
        kept = []
        for k, x in enumerate(self._features(speech)):
            if isinstance(x, TooShortUttError):
                outcomes[k] = x
            else:
                kept.append(k)
                feats.append(x)
        if not kept:
            return outcomes
        enc, t_len = self._encode(feats)  # (B, T, D)
        sound = [bool(torch.isfinite(x[:n]).all()) for x, n in zip(enc, t_len.tolist())]
        rows = [row for row, is_sound in enumerate(sound) if is_sound]
        for k, decoded in zip([kept[row] for row in rows], self._search(enc[rows], t_len[rows])):
            outcomes[k] = decoded
        for row, is_sound in enumerate(sound):
            if not is_sound:
                problem = "the encoder's output holds NaN or infinity"
                outcomes[kept[row]] = FloatingPointError(problem)
        return outcomes

    @torch.no_grad()
    def encode(self, speech: Sequence[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Encode utterances (S,), none of them too short: (B, T, D) and its lengths (B,)."""
        feats = [x for x in self._features(speech) if isinstance(x, torch.Tensor)]
        return self._encode(feats)

    def _search(self, enc: torch.Tensor, t_len: torch.Tensor) -> List[Decoded]:
        if self.batched_search is not None:
            return self.batched_search(enc, t_len)
        decoded = []
        for x, n in zip(enc, t_len.tolist()):
            hyps = self.search(x[:n])
            decoded.append((hyps, self.search.hit_limit))
        return decoded

    def _features(
        self, speech: Sequence[torch.Tensor]
    ) -> List[Union[torch.Tensor, TooShortUttError]]:
        """Return the features of each utterance (T, F), or that it is too short."""
        model, factor = self.model, self.model.encoder.embed.subsampling_factor
        frontend = model.frontend
        alike = isinstance(frontend, DefaultFrontend) and not enhances(frontend)
        alike = alike and frontend.stft.center and all(x.dim() == 1 for x in speech)
        out: List[Any] = []
        if alike:
            half = frontend.stft.n_fft // 2
            frames = [frames_of(frontend, len(x)) for x in speech]
            short = [check_short_utt(factor, n) for n in frames]
            whole = [x for x, (too_short, _) in zip(speech, short) if not too_short]
            feats = iter(self._alike(whole, half) if whole else ())
            for n, (too_short, limit) in zip(frames, short):
                out.append(_too_short(n, limit) if too_short else next(feats))
            return out
        for x in speech:
            length = torch.tensor([len(x)], device=x.device)  # (1,)
            feats_, feats_len = model._extract_feats(x[None], length)  # (1, T, F)
            too_short, limit = check_short_utt(factor, feats_.size(1))
            if too_short:
                out.append(_too_short(feats_.size(1), limit))
                continue
            if model.normalize is not None:
                feats_, _ = model.normalize(feats_.clone(), feats_len)
            out.append(feats_[0])
        return out

    def _alike(self, speech: Sequence[torch.Tensor], half: int) -> List[torch.Tensor]:
        """Compute features of padded utterances, each with its end mirrored as it is alone.

        Args:
            speech: Samples. (S,)
            half: Samples that are mirrored.

        Returns:
            Features of each utterance. (T, F)
        """
        model = self.model
        padded = [
            x if len(x) <= half else torch.cat([x, x[-half - 1 : -1].flip(0)]) for x in speech
        ]
        x = torch.nn.utils.rnn.pad_sequence(padded, batch_first=True)  # (B, S)
        lengths = torch.tensor([len(x) for x in speech], device=x.device)  # (B,)
        feats, feats_len = model.frontend(x, lengths)  # (B, T, F)
        if isinstance(model.normalize, UtteranceMVN) or model.normalize is None:
            parts = [y[:n] for y, n in zip(feats, feats_len.tolist())]
            if model.normalize is None:
                return parts
            return [
                model.normalize(y[None].clone(), n[None])[0][0] for y, n in zip(parts, feats_len)
            ]
        feats, _ = model.normalize(feats.clone(), feats_len)  # (B, T, F)
        return [y[:n] for y, n in zip(feats, feats_len.tolist())]

    def _encode(self, feats: Sequence[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Encode features (T, F) of utterances: (B, T, D) and its lengths (B,)."""
        encoder = self.model.encoder
        size, left = (self.grid.chunk_size, self.grid.left_context) if self.grid else (None, None)
        device = feats[0].device
        if self.pads:
            lengths = torch.tensor([len(x) for x in feats], device=device)  # (B,)
            x = torch.nn.utils.rnn.pad_sequence(list(feats), batch_first=True)  # (B, T, F)
            return encode(encoder, x, lengths, size, left)
        parts = []
        for x in feats:
            length = torch.tensor([len(x)], device=device)  # (1,)
            parts.append(encode(encoder, x[None], length, size, left)[0][0])  # (T, D)
        t_len = torch.tensor([len(x) for x in parts], device=device)  # (B,)
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), t_len


def _too_short(frames: int, limit: int) -> TooShortUttError:
    message = f"has {frames} frames and is too short for subsampling (it needs more than {limit})"
    return TooShortUttError(message, frames, limit)
