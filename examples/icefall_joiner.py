r"""Distil a transducer with a joiner like icefall's, without icefall, k2 or ESPnet.

    python examples/icefall_joiner.py

`Joiner` and `Decoder` below have the parts and names of icefall's pruned transducers: a stateless
decoder that sees two labels through a convolution, `encoder_proj` and `decoder_proj` into the
joint space, tanh and `output_linear`; blank is symbol 0, as here.
"""

from typing import Tuple

import torch
from torch import nn
from toy_speech import FEATURES, SYMBOLS, Batch, compare

from espnet_kd import lattice

STRIDE = 4  # feature frames an encoder frame
CONTEXT = 2  # labels that the decoder sees


class Decoder(nn.Module):
    """icefall's stateless decoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, width)
        self.conv = nn.Conv1d(width, width, CONTEXT, groups=width // 4, bias=False)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Map labels with `CONTEXT` - 1 blanks before them (B, U + 2) to (B, U + 1, D)."""
        embedded = self.embedding(y).transpose(1, 2)  # (B, D, U + 2)
        return self.conv(embedded).transpose(1, 2).relu()  # (B, U + 1, D)


class Joiner(nn.Module):
    """icefall's joiner: output_linear(tanh(encoder_proj(f) + decoder_proj(g)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder_proj, self.decoder_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.output_linear = nn.Linear(width, SYMBOLS)


class Transducer(nn.Module):
    """An encoder, a stateless decoder and a joiner."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.encoder = nn.GRU(STRIDE * FEATURES, width, layers, batch_first=True)
        self.decoder, self.joiner = Decoder(width), Joiner(width)


def joint_of(model: Transducer, batch: Batch) -> Tuple[lattice.Joint, torch.Tensor]:
    """Run encoder and decoder; the lattice takes it from there."""
    feats, feats_len, labels, _ = batch
    frames = feats[:, : feats_len.max()].unflatten(1, (-1, STRIDE)).flatten(2)  # (B, T, 4 F)
    enc, _ = model.encoder(frames)  # (B, T, D)
    dec = model.decoder(nn.functional.pad(labels, (CONTEXT, 0)))  # (B, U + 1, D)
    joiner = model.joiner
    output = joiner.output_linear
    enc, dec = joiner.encoder_proj(enc), joiner.decoder_proj(dec)  # (B, T, D), (B, U + 1, D)
    return lattice.Joint(enc, dec, output.weight, output.bias, torch.tanh), feats_len // STRIDE


def main(cmd=None):
    """Print and return the losses of teacher, student alone, distilled student."""
    return compare(__doc__.splitlines()[0], Transducer, joint_of, cmd)


if __name__ == "__main__":
    main()
