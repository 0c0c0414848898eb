"""The terms of a student's loss: what each needs, how much it counts, what it is.

    L = w L_RNNT + lambda D + ctc_weight D_CTC + encoder_weight D_enc + layer_weight D_layers
        + L_auxiliary + relation_weight L_relations + L_two_modes + w_CTC L_CTC + w_LM L_LM

The first two come from one walk over the lattice (`Outputs.lattice`). A method of compression
may add terms of its own (`methods.protocol.Attached`).
"""

import dataclasses
import functools
from typing import Any, Dict, NamedTuple, Optional, Tuple, Union

import torch

from espnet_kd.errors import UserError
from espnet_kd.espnet.auxiliary_layers import Auxiliary, CausalRelations, Heads
from espnet_kd.espnet.encode import encode, in_chunks
from espnet_kd.espnet.layers import layer_distance, layer_projections
from espnet_kd.espnet.mixed_precision import autocast
from espnet_kd.espnet.teacher import FrozenTeacher, TeacherOutput, project
from espnet_kd.espnet.two_modes import ModeLosses, TwoModes, mode_losses
from espnet_kd.lattice import Joint
from espnet_kd.losses import ctc_kl, encoder_distance
from espnet_kd.methods.cascade import stacked
from espnet_kd.methods.protocol import Term
from espnet_kd.objective import Losses, Posteriors, Teachers, distillation_losses

Blocks = Dict[int, torch.Tensor]  # number of an encoder block -> its output (B, T, D)


class Heard(NamedTuple):
    """What both encoders were given, for terms that let it be heard again.

    Attributes:
        raw: The teacher's features, before normalisation; None: nobody hears them. (B, T_in, F)
        feats: The student's, normalised. (B, T_in, F)
        feats_len: (B,)
        host_feats_len: The same on the CPU. (B,)
        decoder_in: Labels with a blank before them. (B, U + 1)
        chunk_size: Encoder frames a chunk; None or 0: full context.
        dtype: Number format of autocast, ESPnet's included; None: the weights' own.
    """

    raw: Optional[torch.Tensor]
    feats: torch.Tensor
    feats_len: torch.Tensor
    host_feats_len: torch.Tensor
    decoder_in: torch.Tensor
    chunk_size: Optional[int]
    dtype: Optional[torch.dtype] = None


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Everything that a batch's losses are made of.

    Attributes:
        model: The student, a `DistilTransducer`.
        labels: Labels. (B, U)
        t_len: Encoder frames. (B,)
        u_len: Labels of each utterance. (B,)
        host_lengths: The last two on the CPU, where nobody has to wait for them. (B,), (B,)
        enc: The student's encoder output. (B, T, D)
        dec: Output of the predictor. (B, U + 1, D)
        joint: Joint network with its projected inputs.
        blocks: Outputs of its blocks that are compared.
        teachers: Teachers on the lattice, with their shares, or a cache; None: none.
        teacher: Outputs of the teacher apart from the lattice; None: none, or a cache.
        teacher_blocks: Outputs of its blocks that are compared.
        heads: Queries, keys and values of the student's blocks that are compared.
        teacher_heads: Those of the teacher's.
        heard: Inputs of the encoders.
        whole: Whether the lattice is whole, whatever `lattice` says.
    """

    model: Any
    labels: torch.Tensor
    t_len: torch.Tensor
    u_len: torch.Tensor
    host_lengths: Tuple[torch.Tensor, torch.Tensor]
    enc: torch.Tensor
    dec: torch.Tensor
    joint: Joint
    blocks: Blocks
    teachers: Union[Teachers, Posteriors, None] = None
    teacher: Optional[TeacherOutput] = None
    teacher_blocks: Blocks = dataclasses.field(default_factory=dict)
    heads: Dict[int, Heads] = dataclasses.field(default_factory=dict)
    teacher_heads: Dict[int, Heads] = dataclasses.field(default_factory=dict)
    heard: Optional[Heard] = None
    whole: bool = False

    @functools.cached_property
    def lattice(self) -> Losses:
        """The losses on the lattice, all from one walk."""
        arguments = self.joint, self.teachers, self.labels, *self.host_lengths
        options, fastemit = self.model.options, self.model.fastemit_lambda
        due = options.measures_agreement(self.model.batches, self.model.training)
        compute = functools.partial(distillation_losses, *arguments, measure_agreement=due)
        if options.lattice == "full" or self.teachers is None:
            return compute(options, fastemit)
        # Checkpoints are chosen by the exact loss.
        if self.whole or not self.model.training:
            whole = options.changed(lattice="full", band_kept=0.999, band_rows=0)
            return compute(whole, fastemit)
        return self.model.band_watch.losses(
            lambda whole: compute(options, fastemit, measure_band=whole)
        )

    def heard_by(self, encoder: torch.nn.Module, ahead: int) -> "Outputs":
        """Return what becomes of the batch with another encoder, in longer chunks.

        Teachers that share the student's chunks share these, too; those of full context, and what
        a cache holds, are as they were.

        Args:
            encoder: Encoder of the student's width, before the same joint network.
            ahead: Frames by which chunks are longer.
        """
        assert self.heard is not None  # the model tells it
        size = self.heard.chunk_size + ahead if self.heard.chunk_size else None
        taught = self._taught_in(size)  # first: what the teachers need meanwhile is free then
        enc, joint = self.encoded_by(encoder, size)
        return dataclasses.replace(taught, enc=enc, joint=joint)

    def continued_by(self, upper: Any, block: int, chunk_size: Optional[int]) -> "Outputs":
        """Return what becomes of the batch where further blocks go on from one of the student's.

        Args:
            upper: Module with `blocks` and `norm`.
            block: Number of the block, whose output is in `blocks`.
            chunk_size: Encoder frames a chunk of theirs, and of the teachers that share the
                student's; None: full context.
        """
        assert self.heard is not None  # the model tells it
        taught, encoder = self._taught_in(chunk_size), self.model.encoder
        above = stacked(encoder.encoders, upper.blocks, upper.norm)
        with autocast(self.enc.device.type, self.heard.dtype):
            t_len = self.t_len.to(self.enc.device)
            enc = in_chunks(encoder, above, self.blocks[block], t_len, chunk_size)  # (B, T, D)
            joint = self._projected(enc)
        return dataclasses.replace(taught, enc=enc, joint=joint)

    def _taught_in(self, chunk_size: Optional[int]) -> "Outputs":
        """Return the batch with teachers that hear it in chunks of another size, on all of it."""
        assert self.heard is not None  # the model tells it
        raw, _, feats_len, _, decoder_in, _, dtype = self.heard
        model, teachers = self.model, self.teachers
        if isinstance(teachers, list) and model.options.teacher_context == "shared":
            given = raw, feats_len, decoder_in, chunk_size
            with autocast(self.enc.device.type, dtype):
                teachers = [(t.joint(*given).joint, share) for t, share in model.teachers]
        return dataclasses.replace(self, teachers=teachers, whole=True)

    def _projected(self, enc: torch.Tensor) -> Joint:
        """Return the joint network behind another encoder output (B, T, D)."""
        projected = self.model.joint_network.lin_enc(enc)  # (B, T, D)
        return self.joint._replace(enc=projected.to(self.joint.enc.dtype))

    def joint_of(self, networks: Any) -> Joint:
        """Return the joint network of other networks for the batch, in the same chunks.

        Args:
            networks: A module with `encoder`, `decoder` and `joint_network` of ESPnet.
        """
        assert self.heard is not None  # the model tells it
        _, feats, _, host, decoder_in, chunk_size, dtype = self.heard
        with autocast(self.enc.device.type, dtype):
            enc, _ = encode(networks.encoder, feats, host, chunk_size)  # (B, T, D)
            networks.decoder.set_device(enc.device)
            dec = networks.decoder(decoder_in)  # (B, U + 1, D)
            return project(networks.joint_network, enc, dec)

    def encoded_by(
        self, encoder: torch.nn.Module, chunk_size: Optional[int]
    ) -> Tuple[torch.Tensor, Joint]:
        """Return the output of an encoder in chunks of a size, and the joint network behind it.

        Args:
            encoder: See `heard_by`.
            chunk_size: Encoder frames a chunk; None: full context.

        Returns:
            (B, T, D) and the projected inputs.
        """
        assert self.heard is not None  # the model tells it
        host = self.heard.host_feats_len
        with autocast(self.enc.device.type, self.heard.dtype):
            enc, _ = encode(encoder, self.heard.feats, host, chunk_size)  # (B, T, D)
            return enc, self._projected(enc)

    @functools.cached_property
    def modes(self) -> ModeLosses:
        """The losses of full context and between the modes, from two walks."""
        _, whole = self.encoded_by(self.model.encoder, None)
        arguments = self.joint, whole, self.labels, self.host_lengths
        return mode_losses(*arguments, self.model.fastemit_lambda)


class Rnnt(Term):
    """-log P(y | x)."""

    name = "loss_transducer"

    def weight(self, model: Any) -> float:
        """Return ESPnet's `transducer_weight`."""
        return model.transducer_weight

    def wanted(self, model: Any) -> bool:
        """Say yes: checkpoints are chosen by it."""
        return True

    def value(self, out: Outputs) -> torch.Tensor:
        """Take it from the lattice. ()"""
        return out.lattice.rnnt.mean()


class LatticeDistillation(Term):
    """Divergence from the teachers on the lattice: `Objective`."""

    name = "loss_kd"
    needs = ("teachers",)

    def weight(self, model: Any) -> float:
        """Return lambda."""
        return model.options.weight_at(model.updates)

    def wanted(self, model: Any) -> bool:
        """Say yes: with lambda 0, too, it is shown how far the student is from its teacher."""
        return True

    def value(self, out: Outputs) -> torch.Tensor:
        """Take it from the lattice. ()"""
        assert out.lattice.kd is not None  # there are teachers
        return out.lattice.kd.mean()

    def beside(self, out: Outputs) -> Dict[str, torch.Tensor]:
        """Return lambda and the share of equal choices, in batches where it was measured."""
        stats = {"kd_weight": torch.tensor(self.weight(out.model))}  # ()
        if out.lattice.agreement is not None:
            stats["agreement"] = out.lattice.agreement.mean()  # ()
        if out.lattice.band is not None:
            stats.update(out.model.band_watch.stats(out.lattice.band))
        return stats


class CtcDistillation(Term):
    """Divergence of the student's CTC head from the teacher's: `losses.encoder.ctc_kl`."""

    name = "loss_kd_ctc"
    needs = ("teacher",)

    def prepare(self, model: Any, teacher: FrozenTeacher) -> None:
        """Refuse models without a CTC head."""
        for who, m in (("teacher", teacher.model), ("student", model)):
            if not m.use_auxiliary_ctc:
                raise UserError(
                    f"kd_conf.ctc_weight: the {who} has no CTC head "
                    "(model_conf.auxiliary_ctc_weight is 0)"
                )

    def weight(self, model: Any) -> float:
        """Return `ctc_weight`."""
        return model.options.ctc_weight

    def value(self, out: Outputs) -> torch.Tensor:
        """Compare the heads. ()"""
        assert out.teacher is not None and out.teacher.ctc is not None  # see `prepare`
        logits = out.model.ctc_lin(out.enc.float())  # (B, T, V)
        divergence = out.model.options.divergence
        return ctc_kl(logits, out.teacher.ctc.float(), out.t_len, divergence).mean()


class EncoderDistance(Term):
    """Distance of the encoder outputs, the student's projected to the teacher's width."""

    name = "loss_kd_encoder"
    needs = ("teacher",)

    def prepare(self, model: Any, teacher: FrozenTeacher) -> None:
        """Add `kd_projection`, saved with the student; decoding passes over it."""
        widths = model.encoder.output_size, teacher.model.encoder.output_size
        model.kd_projection = torch.nn.Linear(*widths, bias=False)

    def weight(self, model: Any) -> float:
        """Return `encoder_weight`."""
        return model.options.encoder_weight

    def value(self, out: Outputs) -> torch.Tensor:
        """Compare the outputs. ()"""
        assert out.teacher is not None  # it is needed
        projected = out.model.kd_projection(out.enc.float())  # (B, T, D of the teacher)
        return encoder_distance(projected, out.teacher.enc.float(), out.t_len).mean()


class LayerDistance(Term):
    """Mean distance of the outputs of some pairs of blocks."""

    name = "loss_kd_layers"
    needs = ("teacher",)

    def prepare(self, model: Any, teacher: FrozenTeacher) -> None:
        """Add `kd_layers`, saved with the student; decoding passes over them."""
        pairs = model.options.layers
        model.kd_layers = layer_projections(model.encoder, teacher.model.encoder, pairs)

    def weight(self, model: Any) -> float:
        """Return `layer_weight`."""
        return model.options.layer_weight

    def wanted(self, model: Any) -> bool:
        """Tell whether there are pairs."""
        return bool(model.options.layers)

    def value(self, out: Outputs) -> torch.Tensor:
        """Compare the pairs. ()"""
        both, pairs = (out.blocks, out.teacher_blocks), out.model.options.layers
        return layer_distance(out.model.kd_layers, *both, pairs, out.t_len).mean()


class AuxiliaryCtc(Term):
    """ESPnet's auxiliary CTC loss of the encoder."""

    name = "loss_aux_ctc"

    def weight(self, model: Any) -> float:
        """Return ESPnet's `auxiliary_ctc_weight`."""
        return model.auxiliary_ctc_weight if model.use_auxiliary_ctc else 0.0

    def value(self, out: Outputs) -> torch.Tensor:
        """Compute it as ESPnet does. ()"""
        enc = out.enc.to(out.model.ctc_lin.weight.dtype)  # (B, T, D)
        return out.model._calc_ctc_loss(enc, out.labels, out.t_len.int(), out.u_len)


class AuxiliaryLm(Term):
    """ESPnet's auxiliary language model loss of the predictor."""

    name = "loss_aux_lm"

    def weight(self, model: Any) -> float:
        """Return ESPnet's `auxiliary_lm_loss_weight`."""
        return model.auxiliary_lm_loss_weight if model.use_auxiliary_lm_loss else 0.0

    def value(self, out: Outputs) -> torch.Tensor:
        """Compute it as ESPnet does. ()"""
        dec = out.dec.to(out.model.lm_lin.weight.dtype)  # (B, U + 1, D)
        return out.model._calc_lm_loss(dec, out.labels)


TERMS = (
    Rnnt(),
    LatticeDistillation(),
    CtcDistillation(),
    EncoderDistance(),
    LayerDistance(),
    Auxiliary(),
    CausalRelations(),
    TwoModes(),
    AuxiliaryCtc(),
    AuxiliaryLm(),
)
