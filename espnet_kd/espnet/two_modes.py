"""Streaming and full context learnt in one update, each from the other (`two_modes`)."""

from typing import Any, Dict, NamedTuple, Tuple

import torch

from espnet_kd.errors import UserError
from espnet_kd.espnet.whole_encoder import WholeEncoder
from espnet_kd.lattice import Joint
from espnet_kd.methods.protocol import Term
from espnet_kd.objective import distillation_losses
from espnet_kd.spec.distillation import Objective

BETWEEN = Objective(objective="full", divergence="symmetric")


class ModeLosses(NamedTuple):
    """What full context costs a batch.

    Attributes:
        rnnt: -log P(y | x) with full context. (B,)
        between: Symmetric divergence of the two modes on the lattice. (B,)
    """

    rnnt: torch.Tensor
    between: torch.Tensor


def mode_losses(
    streaming: Joint,
    whole: Joint,
    labels: torch.Tensor,
    lengths: Tuple[torch.Tensor, torch.Tensor],
    fastemit_lambda: float = 0.0,
) -> ModeLosses:
    """Compare the lattices of one network in two modes.

    The divergence is symmetric, so that its gradient is what it is with respect to either side
    while the other one stands still, added up: two walks, as with two teachers.

    Args:
        streaming: The joint network behind the encoder under a chunk mask.
        whole: The same with full context.
        labels: (B, U)
        lengths: Frames and labels of each utterance. (B,), (B,)
        fastemit_lambda: Of the RNN-T loss.
    """
    arguments = labels, *lengths, BETWEEN
    of_whole, of_streaming = (
        distillation_losses(mode, other.detach(), *arguments, fastemit_lambda=fastemit_lambda,
                            measure_agreement=False)
        for mode, other in ((whole, streaming), (streaming, whole))
    )  # fmt: skip
    assert of_whole.kd is not None and of_streaming.kd is not None  # there is another mode
    # The value is in both; the second adds the gradient of the other side alone.
    between = of_whole.kd + of_streaming.kd - of_streaming.kd.detach()  # (B,)
    return ModeLosses(of_whole.rnnt, between)


class TwoModes(Term):
    """The loss with full context, and the divergence of both modes."""

    name = "loss_full_context"
    needs = ("heard",)

    def weight(self, model: Any) -> float:
        """Return 1: its parts have weights of their own."""
        return 1.0 if model.options.two_modes else 0.0

    def value(self, out: Any) -> torch.Tensor:
        """Weigh both parts. ()"""
        first, second = out.model.options.two_modes
        parts = out.modes
        return first * parts.rnnt.mean() + second * parts.between.mean()

    def beside(self, out: Any) -> Dict[str, torch.Tensor]:
        """Return the two parts."""
        parts = out.modes
        return {
            "loss_transducer_full": parts.rnnt.detach().mean(),  # ()
            "loss_between_modes": parts.between.detach().mean(),  # ()
        }


def check_modes(model: Any) -> None:
    """Refuse a second mode of a model that has one.

    Raises:
        UserError: its encoder is not trained in chunks.
    """
    encoder = model.encoder
    if isinstance(encoder, WholeEncoder) or not encoder.dynamic_chunk_training:
        raise UserError(
            "kd_conf.two_modes: the student's encoder hears the whole utterance as it is "
            "(encoder_conf.main_conf.dynamic_chunk_training is false); leave it out"
        )
