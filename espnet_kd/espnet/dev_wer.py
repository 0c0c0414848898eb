"""WER on a part of the validation set, each epoch: of the student, and of its teacher once."""

from argparse import Namespace
from typing import Any, Dict, Iterator, List, Mapping, Optional

import torch

from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.greedy import count_errors
from espnet_kd.espnet.mixed_precision import autocast
from espnet_kd.espnet.reading import DataBatches, in_one_line
from espnet_kd.espnet.teacher import FrozenTeacher, load_transducer
from espnet_kd.scoring.counts import Counts


class DevWer:
    """Decodes the same few utterances in every validation, greedily and in float32.

    They are spread evenly over the validation set, as the batches are sorted by length. The
    figures are there to watch: stages 12 and 13 decode whole sets, with beam search. The
    teacher decodes under the chunk mask that it teaches under; one that is not in memory (a
    cache has taken its place) is loaded for the first validation.

    Args:
        utterances: Number of utterances, over all processes; 0: none.
        processes: Number of processes that share a validation.
        token_type: `char`, `bpe` or `word`: what of the tokens is a word.
    """

    def __init__(self, utterances: int, processes: int = 1, token_type: str = "bpe") -> None:
        self.wanted = -(-utterances // processes)
        self.token_type = token_type
        self.student = Counts(sentences=0)
        self.teacher: Optional[Counts] = None

    def watch(self, batches: DataBatches, model: Any) -> Iterator:
        """Yield the batches of a validation, and decode a part of them.

        Args:
            batches: Names and arguments of `forward`, on the CPU.
            model: A `DistilTransducer` in eval mode.
        """
        teacher = _teacher_of(model) if self.wanted and self.teacher is None else None
        student, taught = [], []  # Counts of utterances
        count = len(batches)
        try:
            for i, batch in enumerate(in_one_line(batches)):
                yield batch
                some = self._chosen(i, count, len(batch[0]))
                if some:
                    part = _Part(batch[1], some, model, self.token_type)
                    student += part.counts(model)
                    taught += part.counts_of_teacher(teacher) if teacher is not None else []
        finally:  # another process may have had a batch less, which ends this one's loop, too
            self.student = Counts.total(student)
            if teacher is not None:
                self.teacher = Counts.total(taught)

    def figures(self, distributed: bool, ngpu: int) -> Dict[str, float]:
        """Return `wer` and, if there is one, `wer_teacher`, in percent.

        Args:
            distributed: Add up what all processes have counted; all of them must call this.
            ngpu: 0: on the CPU.
        """
        counted = {"wer": self.student, "wer_teacher": self.teacher}
        both = [(c.errors, c.ref_words) if c else (0, 0) for c in counted.values()]
        if distributed and self.wanted:
            sums = torch.tensor(both, dtype=torch.int64, device="cuda" if ngpu > 0 else "cpu")
            torch.distributed.all_reduce(sums)
            both = sums.tolist()
        return {key: 100 * e / words for key, (e, words) in zip(counted, both) if words}

    def _chosen(self, i: int, count: int, size: int) -> List[int]:
        """Which utterances of batch i of `count` are decoded."""
        before, after = (n * self.wanted // count for n in (i, i + 1))
        some = min(after - before, size)
        return [k * size // some for k in range(some)]


class _Part:
    """Some utterances of a batch, heard by the front end.

    Args:
        batch: Arguments of `forward`.
        some: Numbers of the utterances.
        model: The student.
        token_type: See `DevWer`.
    """

    def __init__(
        self, batch: Mapping[str, torch.Tensor], some: List[int], model: Any, token_type: str
    ) -> None:
        device = next(model.parameters()).device
        names = "speech", "speech_lengths", "text", "text_lengths"
        part = Namespace(**{name: batch[name][some].to(device) for name in names})
        speech = part.speech[:, : part.speech_lengths.max()]
        self.feats, self.feats_len = model._extract_feats(speech, part.speech_lengths)
        self.labels = [x[:n].tolist() for x, n in zip(part.text, part.text_lengths)]
        self.chunk_size = model._chunk_size(self.feats_len)
        self.options, self.token_type = model.options, token_type

    def counts(self, model: Any) -> List[Counts]:
        """Decode with the student."""
        feats, feats_len = self.feats.clone(), self.feats_len
        if model.normalize is not None:
            feats, feats_len = model.normalize(feats, feats_len)  # writes in place
        enc, t_len = encode(model.encoder, feats, feats_len, self.chunk_size)  # (B, T, D)
        return count_errors(model, enc, t_len, self.labels, self.token_type)

    def counts_of_teacher(self, teacher: FrozenTeacher) -> List[Counts]:
        """Decode with the teacher."""
        chunk_size = self.chunk_size if self.options.teacher_context == "shared" else None
        enc, t_len = teacher.encode(self.feats, self.feats_len, chunk_size)  # (B, T, D)
        lowered = teacher.dtype != torch.float32
        with autocast(enc.device.type, torch.bfloat16, enabled=lowered):
            return count_errors(teacher.model, enc, t_len, self.labels, self.token_type)


def _teacher_of(model: Any) -> Optional[FrozenTeacher]:
    """The student's teacher; from its files if a cache has taken its place."""
    options = model.options
    if model.teacher is not None or not options.distils:
        return model.teacher
    if not (options.teacher_config and options.teacher_model):
        return None
    device = next(model.parameters()).device
    files = options.teacher_config, options.teacher_model
    dtype = getattr(torch, options.teacher_dtype)
    return FrozenTeacher(load_transducer(*files).to(device), dtype=dtype)
