"""ESPnet's transducer model with a pip-installable RNN-T loss and distillation."""

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from espnet2.asr_transducer.error_calculator import ErrorCalculator
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.torch_utils.device_funcs import force_gatherable

from espnet_kd.errors import UserError
from espnet_kd.espnet.auxiliary_layers import attention_inputs, taken_pairs
from espnet_kd.espnet.band_watch import BandWatch
from espnet_kd.espnet.encode import draw_chunk_size, encode
from espnet_kd.espnet.layers import block_outputs
from espnet_kd.espnet.mixed_precision import autocast, current_dtype
from espnet_kd.espnet.teacher import FrozenTeacher, project
from espnet_kd.espnet.terms import TERMS, Heard, Outputs
from espnet_kd.espnet.two_modes import check_modes
from espnet_kd.espnet.versions import subsampled_lengths
from espnet_kd.lattice.host_lengths import asks
from espnet_kd.methods.callbacks import Callback
from espnet_kd.methods.protocol import Term
from espnet_kd.objective import Posteriors, Teachers
from espnet_kd.spec.distillation import Distillation
from espnet_kd.teachers import DamagedEntry, unpack
from espnet_kd.teachers.archive import locate


class DistilTransducer(ESPnetASRTransducerModel):
    """ESPnet's transducer with the loss L = L_RNNT + lambda * KL(teacher || student).

    It adds no parameter and no buffer (but `kd_projection`, `kd_layers` and `kd_auxiliary`, if
    `encoder_weight`, `layers`, `auxiliary` ask for them): its checkpoints are ESPnet's own. With
    `objective: none` it is ESPnet's model with another implementation of the RNN-T loss.
    """

    options: Distillation
    terms: List[Term]  # of the loss, in the order in which they are added up
    teachers: List[Tuple[FrozenTeacher, float]]  # each with its share of the loss
    method_conf: Mapping[str, Any] = {}  # what its method was attached with
    callbacks: Sequence[Callback] = ()  # of its method
    rests: bool = False  # see `Attached`
    own_share: float = 1.0  # see `Attached`
    band_watch: BandWatch  # of `lattice: band`
    updates: int = 0  # of the student so far; the trainer counts them
    batches: int = 0  # of the epoch before this one; the trainer counts them, too
    autocast_dtype: Optional[torch.dtype] = None  # the trainer's `amp_dtype`
    batch_names: Sequence[str] = ()  # utterances whose statistics are collected
    error_calculator: Any  # of ESPnet's class

    @classmethod
    def wrap(
        cls,
        model: ESPnetASRTransducerModel,
        options: Distillation,
        teacher: Optional[FrozenTeacher] = None,
        first: Optional[FrozenTeacher] = None,
    ) -> "DistilTransducer":
        """Turn a model that ESPnet's own Task built into a student.

        The class of the object is changed rather than `build_model` copied, so that what
        ESPnet adds to its model is here too.

        Args:
            model: Built by `ASRTransducerTask.build_model`.
            options: Distillation options.
            teacher: Needed if `options.distils` without a cache.
            first: The first teacher; needed if `options.first_weight` is not 0.

        Raises:
            UserError: teacher and student have different lattices, frames or blocks, or top_k
                is not below the vocabulary.
        """
        options.check_top_k(model.vocab_size)
        m = options.first_weight
        pairs = ((teacher, 1 - m), (first, m))
        teachers = [(frozen, share) for frozen, share in pairs if frozen is not None]
        for frozen, _ in teachers:
            frozen.check_fits(model)
        model.options = options
        model.terms = [term for term in TERMS if term.wanted(model)]
        model.band_watch = BandWatch()
        if options.two_modes:
            check_modes(model)
        if teacher is not None:
            _check_warp(model, options)
            for term in model.terms:
                term.prepare(model, teacher)
        model.__class__ = cls
        # nn.Module.__setattr__ is not told: nothing of the teacher becomes the student's.
        object.__setattr__(model, "teachers", teachers)
        return model

    @property
    def teacher(self) -> Optional[FrozenTeacher]:
        """The teacher of this stage: the only one, or the one beside the first."""
        return self.teachers[0][0] if self.teachers else None

    def _apply(self, fn, *args, **kwargs):
        """Move the teachers wherever the student is moved (`to`, `cuda`, `float`)."""
        super()._apply(fn, *args, **kwargs)
        for teacher, _ in self.teachers:
            teacher.apply(fn)
        return self

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        **kwargs: Any,
    ) -> Tuple[torch.Tensor, Dict[str, torch.Tensor], torch.Tensor]:
        """Compute the loss of a batch.

        Args:
            speech: (B, S)
            speech_lengths: (B,)
            text: Label IDs padded with `ignore_id`. (B, U)
            text_lengths: (B,)
            kwargs: `utt_id`, for messages; `teacher`: entries of a teacher cache, if the
                set has one. (B, L, 1)

        Returns:
            Loss (nats an utterance), statistics, and the batch size as weight.
        """
        with autocast(speech.device.type, self.autocast_dtype):
            loss, stats = self._losses(speech, speech_lengths, text, text_lengths, **kwargs)
        # ESPnet's trainer waits for this number next, anyway.
        if not math.isfinite(loss.item()):
            with torch.no_grad():
                feats, _ = self._extract_feats(speech, speech_lengths)
            self._refuse_no_numbers(speech, feats, kwargs.get("utt_id"))
        return force_gatherable((loss, stats, speech.size(0)), loss.device)

    def collect_feats(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Dict[str, torch.Tensor]:
        """Extract features for the statistics; see ESPnet's `collect_feats`.

        Raises:
            UserError: features hold NaN or infinity.
        """
        feats = super().collect_feats(speech, speech_lengths, *args, **kwargs)
        self._refuse_no_numbers(speech, feats["feats"], self.batch_names)
        return feats

    @staticmethod
    def _refuse_no_numbers(
        speech: torch.Tensor, feats: torch.Tensor, names: Optional[Sequence[str]]
    ) -> None:
        """Name the utterance whose audio or features hold NaN or infinity, if there is one.

        Args:
            speech: (B, S)
            feats: Features of the batch. (B, T_in, F)
            names: Names of the utterances, if they are known. (B,)
        """
        if bool(torch.isfinite(feats).all()):
            return
        bad = next(b for b, x in enumerate(feats) if not bool(torch.isfinite(x).all()))
        what = "features hold" if bool(torch.isfinite(speech[bad]).all()) else "audio holds"
        name = names[bad] if names else f"number {bad + 1} of a batch"
        raise UserError(
            f"utterance {name}: its {what} NaN or infinity; repair its audio, or take it out of "
            "the data directory"
        )

    def _losses(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        **kwargs: Any,
    ) -> Tuple[torch.Tensor, Dict[str, torch.Tensor]]:
        """Compute loss and statistics; see `forward`."""
        # 1. What both models hear, under one chunk mask.
        raw, feats, feats_len = self._features(speech, speech_lengths)
        # All that the host plans by, asked for once, before the device has much to do.
        host = torch.stack([feats_len, text_lengths.to(feats_len)]).cpu()  # (2, B)
        chunk_size = self._chunk_size(host[0])
        text = text[:, : int(host[1].max())]  # (B, U)
        # As ESPnet's `get_transducer_task_io`, which waits for each utterance twice.
        text = text.masked_fill(text == self.ignore_id, 0)
        decoder_in = torch.nn.functional.pad(text, (1, 0))  # blank first, (B, U + 1)
        labels, u_len = text.int(), text_lengths.int()  # (B, U), (B,)

        # 2. The teachers first: what they need meanwhile is free when the student begins.
        options = self.options
        pairs = taken_pairs(options.layers, options.auxiliary) if self.teachers else []
        related = taken_pairs(options.relations) if self.teachers else []
        asked_of = [t for _, t in taken_pairs(related, options.auxiliary)] if self.teachers else []
        teachers: Union[Teachers, Posteriors, None] = None
        outputs, teacher_blocks, teacher_heads = [], {}, {}
        if self.teacher is not None:
            assert raw is not None  # see `_features`
            context = chunk_size if self.options.teacher_context == "shared" else None
            encoder = self.teacher.model.encoder
            with (
                block_outputs(encoder, [t for _, t in pairs]) as teacher_blocks,
                attention_inputs(encoder, asked_of) as teacher_heads,
            ):
                outputs = [t.joint(raw, feats_len, decoder_in, context) for t, _ in self.teachers]
            teachers = [(out.joint, share) for out, (_, share) in zip(outputs, self.teachers)]

        # 3. The student.
        read = [s for s, _ in pairs] + [block for term in self.terms for block in term.blocks]
        with (
            block_outputs(self.encoder, read) as blocks,
            attention_inputs(self.encoder, [s for s, _ in related]) as heads,
        ):
            enc, t_len = encode(self.encoder, feats, host[0], chunk_size)  # (B, T, D)
        feats_host = host[0].clone()  # (B,)
        host[0] = subsampled_lengths(self.encoder.embed, feats_host)
        self.decoder.set_device(enc.device)
        dec = self.decoder(decoder_in)  # (B, U + 1, D)
        joint = project(self.joint_network, enc, dec)
        for out in outputs:
            # A GPU is asked at the first updates: all others would have to wait for it.
            asked = self.updates == 0 or asks(t_len.device)
            if asked and not torch.equal(out.t_len, t_len):
                raise RuntimeError(f"frames differ: teacher {out.t_len}, student {t_len}")

        # 4. A cache in the teacher's place, if this set has one.
        if self.options.teacher_cache and "teacher" in kwargs:
            size = (joint.enc.size(1), joint.dec.size(1))
            entries, names = kwargs["teacher"], kwargs.get("utt_id")
            try:
                teachers = Posteriors(*unpack(entries, labels, t_len, u_len, size, names))
            except DamagedEntry as e:
                raise UserError(
                    f"{e}: {locate(Path(self.options.teacher_cache), e.utt)}"
                ) from None

        # 5. The terms, added up in float32.
        teacher = outputs[0] if outputs else None
        lattice = labels, t_len, u_len, (host[0], host[1])
        theirs = teacher_blocks, heads, teacher_heads
        dtype = current_dtype(enc.device.type)
        heard = Heard(raw, feats, feats_len, feats_host, decoder_in, chunk_size, dtype)
        batch = Outputs(self, *lattice, enc, dec, joint, blocks, teachers, teacher, *theirs, heard)
        stats: Dict[str, Any] = {}
        loss: Any = 0.0  # (), a tensor from the first term on
        with torch.autocast(enc.device.type, enabled=False):
            for term in self.terms:
                if any(getattr(batch, need) is None for need in term.needs):
                    continue
                value = term.value(batch)  # ()
                share = self.own_share if term in TERMS else 1.0
                loss = loss + share * term.weight(self) * value
                stats.update({term.name: value.detach(), **term.beside(batch)})

        # 6. Error rates of a validation, if ESPnet is asked for them.
        if not self.training and (self.report_cer or self.report_wer):
            stats["cer_transducer"], stats["wer_transducer"] = self._error_rates(
                enc, labels, t_len
            )
        stats["loss"] = loss.detach()
        return loss, stats

    def _features(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor
    ) -> Tuple[Optional[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Extract features, draw SpecAugment once, normalise.

        Returns:
            What the teacher hears, before normalisation (B, T_in, F) or None; what the
            student hears, normalised (B, T_in, F); lengths (B,).
        """
        with torch.autocast(speech.device.type, enabled=False):
            feats, feats_len = self._extract_feats(speech, speech_lengths)
            # ESPnet's SpecAugment and normalisation write in place: hence the clones.
            clean = self.teachers and self.options.teacher_features == "clean"
            raw = feats.clone() if clean else None
            if self.specaug is not None and self.training:
                feats, feats_len = self.specaug(feats, feats_len)
            if self.teachers and not clean:
                raw = feats.clone()
            if self.normalize is not None:
                feats, feats_len = self.normalize(feats, feats_len)
        return raw, feats, feats_len

    def _chunk_size(self, feats_len: torch.Tensor) -> Optional[int]:
        """Encoder frames a chunk for this batch: drawn in training, fixed in validation."""
        encoder = self.encoder
        if not encoder.dynamic_chunk_training:
            return None
        if self.training:
            return draw_chunk_size(
                encoder, int(feats_len.max()) // encoder.embed.subsampling_factor
            )
        fixed = self.options.valid_chunk_size
        return encoder.short_chunk_size if fixed is None else fixed

    def _error_rates(
        self, enc: torch.Tensor, labels: torch.Tensor, t_len: torch.Tensor
    ) -> Tuple[Optional[float], Optional[float]]:
        """CER and WER of a validation batch by ESPnet's own calculator."""
        if self.error_calculator is None:
            self.error_calculator = ErrorCalculator(
                self.decoder,
                self.joint_network,
                self.token_list,
                self.sym_space,
                self.sym_blank,
                nstep=self.validation_nstep,
                report_cer=self.report_cer,
                report_wer=self.report_wer,
            )
        return self.error_calculator(enc, labels, t_len)


def _check_warp(model: ESPnetASRTransducerModel, options: Distillation) -> None:
    """Refuse a warp of the student alone.

    Raises:
        UserError: the teacher hears other frames than the student.
    """
    if options.teacher_features == "clean" and getattr(model.specaug, "apply_time_warp", False):
        raise UserError(
            "kd_conf.teacher_features: 'clean' with specaug_conf.apply_time_warp: the warp moves "
            "the student's frames away from the teacher's; set apply_time_warp: false or "
            "teacher_features: shared"
        )
