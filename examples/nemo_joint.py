r"""Distil a transducer with a joint network like NeMo's, without NeMo or ESPnet.

    python examples/nemo_joint.py

`Joint` below has the parts and names of NeMo's `RNNTJoint`: `enc` and `pred` project into the
joint space, `joint_net` is an activation, dropout and the output layer. NeMo's blank is the last
symbol, ours the first: rows of the output layer are turned by one, and labels counted from 1.
"""

from typing import Tuple

import torch
from torch import nn
from toy_speech import FEATURES, SYMBOLS, Batch, compare

from espnet_kd import lattice

STRIDE = 4  # feature frames an encoder frame


class Joint(nn.Module):
    """NeMo's `RNNTJoint`: joint_net(enc(f) + pred(g)), blank last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enc, self.pred = nn.Linear(width, width), nn.Linear(width, width)
        layers = nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(width, SYMBOLS)
        self.joint_net = nn.Sequential(*layers)


class Transducer(nn.Module):
    """An encoder, NeMo's `RNNTDecoder` (embedding and LSTM) and a joint network."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.encoder = nn.GRU(STRIDE * FEATURES, width, layers, batch_first=True)
        self.embed = nn.Embedding(SYMBOLS, width, padding_idx=SYMBOLS - 1)  # of blank: zeros
        self.dec_rnn = nn.LSTM(width, width, batch_first=True)
        self.joint = Joint(width)


def joint_of(model: Transducer, batch: Batch) -> Tuple[lattice.Joint, torch.Tensor]:
    """Run encoder and decoder; the lattice takes it from there."""
    feats, feats_len, labels, _ = batch
    frames = feats[:, : feats_len.max()].unflatten(1, (-1, STRIDE)).flatten(2)  # (B, T, 4 F)
    enc, _ = model.encoder(frames)  # (B, T, D)
    theirs = labels - 1  # NeMo's numbers of the labels, (B, U)
    history = nn.functional.pad(theirs, (1, 0), value=SYMBOLS - 1)  # blank first, (B, U + 1)
    dec, _ = model.dec_rnn(model.embed(history))  # (B, U + 1, D)
    joint, output = model.joint, model.joint.joint_net[-1]
    weight, bias = output.weight.roll(1, 0), output.bias.roll(1, 0)  # (V, D), (V,): blank first
    activation = joint.joint_net[0]  # without dropout: the lattice is walked over twice
    enc, dec = joint.enc(enc), joint.pred(dec)  # (B, T, D), (B, U + 1, D)
    return lattice.Joint(enc, dec, weight, bias, activation), feats_len // STRIDE


def main(cmd=None):
    """Print and return the losses of teacher, student alone, distilled student."""
    return compare(__doc__.splitlines()[0], Transducer, joint_of, cmd)


if __name__ == "__main__":
    main()
