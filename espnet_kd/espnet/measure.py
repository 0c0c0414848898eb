"""Losses and errors of a model on a few utterances, before anything is trained."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Type

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.asr_transducer.utils import TooShortUttError, get_transducer_task_io

from espnet_kd.errors import UserError
from espnet_kd.espnet.cache_data import Utterances
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.greedy import count_errors
from espnet_kd.espnet.teacher import project
from espnet_kd.espnet.throughput import Throughput
from espnet_kd.fileio import read_table
from espnet_kd.lattice import Joint, node_stats, rnnt_loss
from espnet_kd.scoring.counts import Counts
from espnet_kd.students.importance import (
    SquaredGradients,
    TaylorScores,
    change_of_direction,
    frame_change,
)

BATCH = 8  # utterances
IGNORE = -1  # padding of labels, as ESPnet's collate function has it here


@dataclasses.dataclass(frozen=True)
class _Batch:
    feats: torch.Tensor  # normalised (B, T_in, F)
    feats_len: torch.Tensor  # (B,)
    text: torch.Tensor  # padded with IGNORE (B, U)


class Sample:
    """Utterances of a data directory, heard by a teacher's front end once.

    Its students share front end and normalisation, so they are measured on the same
    features, under the chunk size of validation if they are streaming models.

    Args:
        teacher: Model whose front end is used.
        config: The teacher's `config.yaml`: how it makes labels of text.
        data: Directory with wav.scp and text.
        utterances: Number of utterances to take, evenly spaced over the directory; all if it has
            fewer.
        chunk_size: `valid_chunk_size` of `kd_conf`: encoder frames a chunk, 0 for full
            context, None for the encoder's `short_chunk_size`.

    Raises:
        UserError: the directory is incomplete, audio cannot be read, or the teacher has no
            front end.
    """

    def __init__(
        self,
        teacher: ESPnetASRTransducerModel,
        config: Path,
        data: Path,
        utterances: int,
        chunk_size: Optional[int] = None,
    ) -> None:
        if teacher.frontend is None:
            raise UserError(f"{config}: the teacher has no front end; --data holds audio")
        files, texts = read_table(data / "wav.scp"), read_table(data / "text")
        names = [name for name in files if texts.get(name)]
        if not names:
            raise UserError(f"{data}: no utterance with audio and text to measure on")
        count = min(utterances, len(names))
        names = [names[i * len(names) // count] for i in range(count)]
        archive = files[names[0]].rpartition(":")[0].endswith(".ark")
        loader = Utterances([data], "kaldi_ark" if archive else "sound", config)
        items = [(0, name) for name in names]
        batches = [items[i : i + BATCH] for i in range(0, count, BATCH)]
        self.utterances, self.token_type = count, loader.token_type
        self.chunk_size = chunk_size
        self.work = 0  # parameters times utterances that went forward, or twice that backward
        self.batches: List[_Batch] = []
        audio = Throughput(teacher)
        teacher.eval()
        for some, batch in loader.load(batches, 0):
            audio.add(batch)
            with torch.no_grad():
                feats, feats_len = teacher._extract_feats(batch["speech"], batch["speech_lengths"])
                if teacher.normalize is not None:
                    feats, feats_len = teacher.normalize(feats, feats_len)
            text = batch["text"][:, : batch["text_lengths"].max()]
            self.batches.append(_Batch(feats, feats_len, text))
            try:
                self._encode(teacher, self.batches[-1])
            except TooShortUttError as e:
                raise UserError(f"{data}: {some[int(feats_len.argmin())][1]}: {e}") from None
        self.audio_seconds = audio.per_second(1).get("audio_seconds_per_second", 0.0)

    def loss(self, model: ESPnetASRTransducerModel) -> float:
        """Return the RNN-T loss of a model, nats an utterance."""
        model.eval()
        with torch.no_grad():
            total = sum(float(self._losses(model, batch).sum()) for batch in self.batches)
        return total / self.utterances

    def losses(self, model: ESPnetASRTransducerModel) -> Iterator[torch.Tensor]:
        """Yield the mean RNN-T loss of each batch, nats an utterance, with its gradient. ()"""
        for batch in self.batches:
            yield self._losses(model, batch).mean()

    @torch.no_grad()
    def error_rate(self, model: ESPnetASRTransducerModel) -> float:
        """Return the WER of greedy search with a model, in percent."""
        model.eval()
        counts: List[Counts] = []
        for batch in self.batches:
            labels = [text[text != IGNORE].tolist() for text in batch.text]
            encoded = self._encode(model, batch)
            counts += count_errors(model, *encoded, labels, self.token_type)
        return Counts.total(counts).error_rate

    @torch.no_grad()
    def influence(self, model: ESPnetASRTransducerModel) -> List[float]:
        """Return how far each encoder block turns its input (`change_of_direction`)."""
        model.eval()
        blocks = model.encoder.encoders.blocks
        seen: Dict[int, tuple] = {}
        hooks = [
            block.register_forward_hook(
                lambda _, given, out, i=i: seen.update({i: (given[0], out[0])})
            )
            for i, block in enumerate(blocks)
        ]
        turned: List[List[torch.Tensor]] = [[] for _ in blocks]
        try:
            for batch in self.batches:
                _, t_len = self._encode(model, batch)
                for i, (x, y) in seen.items():
                    turned[i].append(change_of_direction(x, y, t_len))
        finally:
            for hook in hooks:
                hook.remove()
        return [float(torch.cat(frames).mean()) for frames in turned]

    def skip_loss(self, model: ESPnetASRTransducerModel) -> List[float]:
        """Return by how much the loss grows without each encoder block, nats an utterance."""
        count = len(model.encoder.encoders.blocks)
        whole, growth = self.loss(model), []
        for skipped in range(count):
            with only_blocks(model, [i for i in range(count) if i != skipped]):
                growth.append(self.loss(model) - whole)
            logging.info(f"loss without block {skipped}: {growth[-1]:+.3f}")
        return growth

    def taylor(
        self, model: ESPnetASRTransducerModel, by_change: bool = False
    ) -> Dict[str, torch.Tensor]:
        """Return what the loss owes to each element of each parameter (`TaylorScores`).

        Args:
            model: The model.
            by_change: Whether the gradients of the encoder's frames are weighted by how much the
                frames change (`frame_change`). Those of the predictor are not: it has no frames.
        """
        return self._scores(model, TaylorScores, by_change)

    def curvature(self, model: ESPnetASRTransducerModel) -> Dict[str, torch.Tensor]:
        """Return the mean squared gradient of each element (`SquaredGradients`)."""
        return self._scores(model, SquaredGradients)

    def _scores(
        self,
        model: ESPnetASRTransducerModel,
        kind: Type[TaylorScores],
        by_change: bool = False,
    ) -> Dict[str, torch.Tensor]:
        """Score each element of each parameter."""
        model.eval().requires_grad_(True)
        parts = ("encoder.", "decoder.", "joint_network.")
        parameters = {k: p for k, p in model.named_parameters() if k.startswith(parts)}
        scores = kind(parameters)
        for batch in self.batches:
            scores.add(self._losses(model, batch, by_change).mean())
        return scores.mean()

    def _encode(
        self, model: ESPnetASRTransducerModel, batch: _Batch
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Encoder output (B, T, D) and its lengths (B,)."""
        passes = 3 if torch.is_grad_enabled() else 1  # a gradient takes twice a forward pass
        self.work += passes * len(batch.feats) * sum(p.numel() for p in model.parameters())
        encoder, size = model.encoder, 0
        if encoder.dynamic_chunk_training:
            size = encoder.short_chunk_size if self.chunk_size is None else self.chunk_size
        return encode(encoder, batch.feats, batch.feats_len, size)

    def lattices(
        self, *models: ESPnetASRTransducerModel
    ) -> Iterator[Tuple[List[Joint], Tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
        """Yield each model's joint network, and labels (B, U), t_len and u_len (B,), by batch."""
        for batch in self.batches:
            pairs = [self._lattice(model, batch) for model in models]
            yield [joint for joint, _ in pairs], pairs[0][1]

    def _lattice(
        self, model: ESPnetASRTransducerModel, batch: _Batch, by_change: bool = False
    ) -> Tuple[Joint, Tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """The joint network, and labels (B, U), t_len and u_len (B,)."""
        enc, t_len = self._encode(model, batch)  # (B, T, D)
        if by_change:
            weights = frame_change(enc, t_len)[..., None]  # (B, T, 1)
            enc.register_hook(lambda grad: grad * weights)
        decoder_in, labels, _, u_len = get_transducer_task_io(batch.text, t_len, ignore_id=IGNORE)
        model.decoder.set_device(enc.device)
        dec = model.decoder(decoder_in)  # (B, U + 1, D)
        return project(model.joint_network, enc, dec), (labels, t_len, u_len)

    def _losses(
        self, model: ESPnetASRTransducerModel, batch: _Batch, by_change: bool = False
    ) -> torch.Tensor:
        """RNN-T loss of each utterance, nats; `by_change` as in `taylor`. (B,)"""
        joint, lattice = self._lattice(model, batch, by_change)
        return rnnt_loss(node_stats(joint, *lattice)[..., :2], *lattice[1:])


@contextlib.contextmanager
def only_blocks(model: ESPnetASRTransducerModel, kept: Sequence[int]) -> Iterator[None]:
    """Leave out all other encoder blocks for a while."""
    encoders = model.encoder.encoders
    whole = encoders.blocks
    encoders.blocks = torch.nn.ModuleList(whole[i] for i in kept)
    try:
        yield
    finally:
        encoders.blocks = whole
