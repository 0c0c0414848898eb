r"""Distil torchaudio's own RNN-T model, an Emformer, without ESPnet.

    python examples/torchaudio_rnnt.py --objective full --steps 60

The example shows the call, not a recogniser: see toy_speech.py.
"""

from typing import Tuple

import torch
from torchaudio.models import RNNT, emformer_rnnt_model
from toy_speech import FEATURES, SYMBOLS, Batch, compare

from espnet_kd.lattice import Joint

STRIDE = 4  # feature frames an encoder frame


def build(width: int, layers: int) -> RNNT:
    """Build a small Emformer RNN-T whose encodings have `width` dimensions."""
    return emformer_rnnt_model(
        input_dim=FEATURES,
        encoding_dim=width,
        num_symbols=SYMBOLS,
        segment_length=16,
        right_context_length=4,
        time_reduction_input_dim=width // STRIDE,
        time_reduction_stride=STRIDE,
        transformer_num_heads=2,
        transformer_ffn_dim=2 * width,
        transformer_num_layers=layers,
        transformer_dropout=0.0,
        transformer_activation="gelu",
        transformer_left_context_length=8,
        transformer_max_memory_size=0,
        transformer_weight_init_scale_strategy="depthwise",
        transformer_tanh_on_mem=True,
        symbol_embedding_dim=width,
        num_lstm_layers=1,
        lstm_layer_norm=True,
        lstm_layer_norm_epsilon=1e-3,
        lstm_dropout=0.0,
    )


def joint_of(model: RNNT, batch: Batch) -> Tuple[Joint, torch.Tensor]:
    """Run torchaudio's transcriber and predictor; its joiner is ReLU and a linear layer."""
    feats, feats_len, labels, u_len = batch
    enc, t_len = model.transcribe(feats, feats_len)  # (B, T, D)
    history = torch.nn.functional.pad(labels, (1, 0))  # blank first, (B, U + 1)
    dec, _, _ = model.predict(history.int(), (u_len + 1).int(), None)  # (B, U + 1, D)
    linear = model.joiner.linear
    return Joint(enc, dec, linear.weight, linear.bias, torch.relu), t_len


def main(cmd=None):
    """Print and return the losses of teacher, student alone, distilled student."""
    return compare(__doc__.splitlines()[0], build, joint_of, cmd)


if __name__ == "__main__":
    main()
