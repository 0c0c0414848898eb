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

from espnet_kd.espnet.aligned import Grid, enhances, frames_of
from espnet_kd.espnet.batched_search import BatchedBeamSearch
from espnet_kd.espnet.bounded_search import BoundedBeamSearch
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.whole_encoder import WholeEncoder

MOST = 64  # utterances of a batch
PAIRS = 4_000_000  # of frames that attend to each other, of a batch: what memory it takes
# Encoder frames, padding included, that a CPU computes at once: what its cache holds. Twice as
# many take twice the time.
AT_ONCE = 1000

Decoded = Tuple[List[Hypothesis], bool]  # the best hypotheses; whether the limit was reached


class BatchedDecoding:
    """A model that decodes many utterances at once.

    Args:
        model: A transducer in eval mode.
        search: Search of the decoder.
        grid: Context of a frame; None: the whole utterance.
    """

    def __init__(self, model: Any, search: BoundedBeamSearch, grid: Optional[Grid]) -> None:
        self.model, self.search, self.grid = model, search, grid
        known = BatchedBeamSearch.knows(search)
        self.batched_search = BatchedBeamSearch(search, model) if known else None
        encoder = model.encoder
        # Padding would reach the last frames of shorter utterances, unless each is heard alone.
        self.pads = isinstance(encoder, WholeEncoder) or not (
            encoder.embed.vgg_like or any(isinstance(b, Conv1d) for b in encoder.encoders.blocks)
        )

    def batches(self, samples: Sequence[int]) -> Iterator[List[int]]:
        """Yield the numbers of the utterances of each batch, of similar length.

        Args:
            samples: Length of each utterance.
        """
        batch: List[int] = []
        for k in sorted(range(len(samples)), key=lambda k: samples[k]):
            pairs = (len(batch) + 1) * self._frames(samples[k]) ** 2
            if batch and (len(batch) == MOST or pairs > PAIRS):
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
        outcomes: List[Any] = self.encoded(speech)
        rows = [k for k, x in enumerate(outcomes) if isinstance(x, torch.Tensor)]
        for k in list(rows):
            if not bool(torch.isfinite(outcomes[k]).all()):
                problem = "the encoder's output holds NaN or infinity"
                outcomes[k] = FloatingPointError(problem)
                rows.remove(k)
        if rows:
            for k, decoded in zip(rows, self._search(*padded([outcomes[k] for k in rows]))):
                outcomes[k] = decoded
        return outcomes

    @torch.no_grad()
    def encode(self, speech: Sequence[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Encode utterances (S,), but those that are too short: (B, T, D) and lengths (B,)."""
        return padded([x for x in self.encoded(speech) if isinstance(x, torch.Tensor)])

    def encoded(
        self, speech: Sequence[torch.Tensor]
    ) -> List[Union[torch.Tensor, TooShortUttError]]:
        """Encode utterances.

        Args:
            speech: Samples of each utterance. (S,)

        Returns:
            Encoder output of each (T, D), or that it is too short.
        """
        out: List[Any] = []
        for part in self._parts(speech):
            feats = self._features(part)
            heard = [x for x in feats if isinstance(x, torch.Tensor)]
            rows: Iterator[torch.Tensor] = iter(())
            if heard:
                enc, t_len = self._encode(heard)  # (B, T, D)
                rows = iter(x[:n] for x, n in zip(enc, t_len.tolist()))
            out += [next(rows) if isinstance(x, torch.Tensor) else x for x in feats]
        return out

    def _parts(self, speech: Sequence[torch.Tensor]) -> Iterator[Sequence[torch.Tensor]]:
        """Cut a batch into what is computed at once."""
        if speech[0].device.type != "cpu":
            yield speech
            return
        start = 0
        for end in range(1, len(speech) + 1):
            longest = max(map(len, speech[start : end + 1]))
            if end == len(speech) or (end + 1 - start) * self._frames(longest) > AT_ONCE:
                yield speech[start:end]
                start = end

    def _frames(self, samples: int) -> float:
        """Estimate the encoder frames of an utterance."""
        hop = getattr(self.model.frontend, "hop_length", 1)
        return samples / hop / self.model.encoder.embed.subsampling_factor

    def _search(
        self, enc: torch.Tensor, t_len: torch.Tensor
    ) -> List[Union[Decoded, FloatingPointError]]:
        if self.batched_search is not None:
            return self.batched_search(enc, t_len)
        decoded: List[Union[Decoded, FloatingPointError]] = []
        for x, n in zip(enc, t_len.tolist()):
            try:
                hyps = self.search(x[:n])
                decoded.append((hyps, self.search.hit_limit))
            except FloatingPointError as e:
                self.search.reset_cache()
                decoded.append(e)
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
            try:
                check_mirrored(frontend, len(x))
            except TooShortUttError as e:
                out.append(e)
                continue
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
        if model.normalize is not None:
            feats, _ = model.normalize(feats.clone(), feats_len)  # (B, T, F)
        return [y[:n] for y, n in zip(feats, feats_len.tolist())]

    def _encode(self, feats: Sequence[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Encode features (T, F) of utterances: (B, T, D) and its lengths (B,)."""
        encoder = self.model.encoder
        size, left = (self.grid.chunk_size, self.grid.left_context) if self.grid else (None, None)
        device = feats[0].device
        if self.pads:
            return encode(encoder, *padded(feats), size, left)  # (B, T, F) in
        parts = []
        for x in feats:
            length = torch.tensor([len(x)], device=device)  # (1,)
            parts.append(encode(encoder, x[None], length, size, left)[0][0])  # (T, D)
        return padded(parts)


def check_mirrored(frontend: Any, samples: int) -> None:
    """Refuse an utterance whose ends PyTorch cannot mirror.

    Args:
        frontend: Front end of the model.
        samples: Length of the utterance.

    Raises:
        TooShortUttError: it is no longer than half a window.
    """
    stft = getattr(frontend, "stft", None)
    if stft is not None and samples <= stft.n_fft // 2:
        limit = stft.n_fft // 2
        raise TooShortUttError(f"has {samples} samples, needs more than {limit}", samples, limit)


def padded(rows: Sequence[torch.Tensor]) -> Tuple[torch.Tensor, torch.Tensor]:
    """Pad rows (T, D): (B, T, D) and their lengths (B,)."""
    lengths = torch.tensor([len(x) for x in rows], device=rows[0].device)  # (B,)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths  # (B, T, D)


def _too_short(frames: int, limit: int) -> TooShortUttError:
    message = f"has {frames} frames and is too short for subsampling (it needs more than {limit})"
    return TooShortUttError(message, frames, limit)
