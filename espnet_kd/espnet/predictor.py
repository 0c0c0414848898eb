"""A predictor, projected into the joint space, for many label sequences at once."""

import math
from typing import Any, Tuple

import torch
from espnet2.asr_transducer.decoder.rnn_decoder import RNNDecoder
from espnet2.asr_transducer.decoder.stateless_decoder import StatelessDecoder

from espnet_kd.espnet.averaged_decoder import AveragedDecoder


def is_batchable(decoder: Any) -> bool:
    """Tell whether `Predictor` knows this kind of predictor."""
    return isinstance(decoder, (RNNDecoder, StatelessDecoder, AveragedDecoder))


class Predictor:
    """An LSTM, GRU, stateless or averaged decoder, a label a step; a state is a row of a tensor.

    Args:
        model: A transducer in eval mode.
        device: Device on which it computes.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.decoder, self.joint, self.device = model.decoder, model.joint_network, device
        self.decoder.set_device(device)
        layers = getattr(self.decoder, "dlayers", 0)  # a stateless decoder has none
        parts = 2 if getattr(self.decoder, "dtype", "") == "lstm" else 1
        self.shape = parts, layers, self.decoder.output_size
        self.averages = isinstance(self.decoder, AveragedDecoder)
        if self.averages:
            self.shape = 1, *self.decoder.waiting
        self.state_size = math.prod(self.shape)

    def start(self, n: int) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return what `n` empty label sequences give; see `step`."""
        labels = torch.zeros(n, dtype=torch.long, device=self.device)  # (n,) blank
        dtype = next(self.joint.parameters()).dtype  # whose matrices may be factors
        return self.step(labels, labels.new_zeros(n, self.state_size, dtype=dtype))

    def step(self, labels: torch.Tensor, state: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Go on by a label.

        Args:
            labels: (n,)
            state: States of the sequences before. (n, state_size)

        Returns:
            Projected output (n, J) and the state after it (n, state_size).
        """
        x = self.decoder.embed(labels[:, None])  # (n, 1, D)
        if self.averages:
            waiting = state.view(-1, *self.decoder.waiting)  # (n, N - 1, E)
            y, waiting = self.decoder.step(x[:, 0], waiting)  # (n, D), (n, N - 1, E)
            return self.joint.lin_dec(y), waiting.flatten(1)
        if self.state_size:
            parts, layers, size = self.shape
            rows = state.view(-1, parts, layers, size).permute(1, 2, 0, 3).contiguous()
            before = (rows[0], rows[1] if parts == 2 else None)  # (layers, n, D) each
            x, after = self.decoder.rnn_forward(x, before)
            rows = torch.stack([part for part in after if part is not None])
            state = rows.permute(2, 0, 1, 3).reshape(-1, self.state_size)  # (n, state_size)
        return self.joint.lin_dec(x[:, 0]), state
