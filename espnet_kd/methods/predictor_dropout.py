"""Training without the predictor's output now and then: `predictor_dropout`.

    dec_b  <-  m_b dec_b,   m_b = 0 with probability p, else 1, drawn for each utterance b anew

The joint network learns to do with what the encoder says alone, as HAINAN's (Xu et al. 2024,
arXiv 2410.02597) learns to be decoded without a predictor. The output of the others is not made
larger: nobody divides by 1 - p in decoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

from espnet_kd.methods.additions import Addition
from espnet_kd.methods.protocol import Attached
from espnet_kd.spec.option import option

if TYPE_CHECKING:
    import torch


class PredictorDropout(Addition):
    """See the module."""

    name = "predictor_dropout"
    kind = float
    option = option(
        0.0,
        "probability with which the joint network does not see the predictor of an utterance in "
        "training",
        least=0,
        most=0.95,
        published=True,
    )

    def attach(self, model: torch.nn.Module, facts: float) -> Attached:
        """Mask what the joint network is given in training; an auxiliary LM loss sees it all."""

        def mask(projection: torch.nn.Module, given: Tuple[Any, ...]) -> Any:
            """Mask the predictor's output of some utterances. (B, U + 1, D)"""
            if not projection.training:
                return given
            (dec,) = given
            drawn = dec.new_empty(dec.size(0), 1, 1).uniform_() >= facts  # (B, 1, 1)
            return dec * drawn

        model.get_submodule("joint_network.lin_dec").register_forward_pre_hook(mask)
        return Attached()


ADDITION = PredictorDropout()
