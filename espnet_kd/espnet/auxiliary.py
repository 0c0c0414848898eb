"""The losses that take a teacher's encoder and CTC head into account."""

from typing import Dict, Iterator, Tuple

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.errors import UserError
from espnet_kd.espnet.layers import layer_distance
from espnet_kd.espnet.teacher import FrozenTeacher, TeacherOutput
from espnet_kd.losses import ctc_kl, encoder_distance
from espnet_kd.spec.distillation import Distillation


def check_auxiliary(
    model: ESPnetASRTransducerModel, teacher: FrozenTeacher, options: Distillation
) -> None:
    """Refuse options that these two models cannot serve.

    Raises:
        UserError: a warp of the student alone, or a CTC head that is not there.
    """
    if options.teacher_features == "clean" and getattr(model.specaug, "apply_time_warp", False):
        raise UserError(
            "kd_conf.teacher_features: 'clean' with specaug_conf.apply_time_warp: the warp moves "
            "the student's frames away from the teacher's; set apply_time_warp: false or "
            "teacher_features: shared"
        )
    if options.ctc_weight > 0:
        for who, m in (("teacher", teacher.model), ("student", model)):
            if not m.use_auxiliary_ctc:
                raise UserError(
                    f"kd_conf.ctc_weight: the {who} has no CTC head "
                    "(model_conf.auxiliary_ctc_weight is 0)"
                )


def encoder_losses(
    model: ESPnetASRTransducerModel,
    enc: torch.Tensor,
    said: TeacherOutput,
    blocks: Tuple[Dict[int, torch.Tensor], Dict[int, torch.Tensor]],
    t_len: torch.Tensor,
) -> Iterator[Tuple[str, float, torch.Tensor]]:
    """Yield name, weight and value of each auxiliary loss; means over utterances.

    Args:
        model: The student, a `DistilTransducer`.
        enc: Its encoder output. (B, T, D)
        said: What the teacher says of the batch.
        blocks: Outputs of the student's and the teacher's blocks. (B, T, D)
        t_len: (B,)
    """
    options = model.options
    with torch.autocast(enc.device.type, enabled=False):
        if options.ctc_weight > 0:
            logits = model.ctc_lin(enc.float())  # (B, T, V)
            value = ctc_kl(logits, said.ctc.float(), t_len, options.divergence).mean()
            yield "loss_kd_ctc", options.ctc_weight, value
        if options.encoder_weight > 0:
            projected = model.kd_projection(enc.float())  # (B, T, D of the teacher)
            value = encoder_distance(projected, said.enc.float(), t_len).mean()
            yield "loss_kd_encoder", options.encoder_weight, value
        if options.layers:
            value = layer_distance(model.kd_layers, *blocks, options.layers, t_len).mean()
            yield "loss_kd_layers", options.layer_weight, value
