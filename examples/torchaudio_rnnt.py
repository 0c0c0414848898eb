r"""Distil torchaudio's own RNN-T model, without ESPnet.

    python examples/torchaudio_rnnt.py --objective full --steps 60

A toy language (each symbol is a fixed spectrum, held for some frames, in noise) stands for
speech: the example shows the call, not a recogniser. The teacher learns it first; then two
equal students train for the same number of steps, one with the teacher and one without.
"""

import argparse
from typing import Tuple

import torch
from torchaudio.models import RNNT, emformer_rnnt_model

from espnet_kd.lattice import Joint
from espnet_kd.objective import Objective, distillation_losses
from espnet_kd.spec.distillation import OBJECTIVES

FEATURES, SYMBOLS = 16, 8  # symbol 0 is blank
STRIDE = 4  # feature frames an encoder frame
COLLAPSED = Objective("collapsed")


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


def toy_batch(size: int, generator: torch.Generator) -> Tuple[torch.Tensor, ...]:
    """Draw features (B, T_in, F), their lengths, labels (B, U) and their lengths."""
    spectra = torch.randn(SYMBOLS, FEATURES, generator=torch.Generator().manual_seed(0))
    u_len = torch.randint(2, 6, (size,), generator=generator)
    labels = torch.randint(1, SYMBOLS, (size, 5), generator=generator)
    feats = torch.zeros(size, 5 * 16 + 4, FEATURES)  # the last four are right context
    for b in range(size):
        for u in range(u_len[b]):
            feats[b, 16 * u + 2 : 16 * u + 14] = spectra[labels[b, u]]
    feats += 0.5 * torch.randn(feats.shape, generator=generator)
    return feats, 16 * u_len, labels, u_len


def joint_of(model: RNNT, batch: Tuple[torch.Tensor, ...]) -> Tuple[Joint, torch.Tensor]:
    """Run torchaudio's transcriber and predictor; its joiner is ReLU and a linear layer."""
    feats, feats_len, labels, u_len = batch
    enc, t_len = model.transcribe(feats, feats_len)  # (B, T, D)
    history = torch.nn.functional.pad(labels, (1, 0))  # blank first, (B, U + 1)
    dec, _, _ = model.predict(history.int(), (u_len + 1).int(), None)  # (B, U + 1, D)
    linear = model.joiner.linear
    return Joint(enc, dec, linear.weight, linear.bias, torch.relu), t_len


def train(
    model: RNNT, steps: int, seed: int, teacher: RNNT = None, objective: Objective = COLLAPSED
) -> float:
    """Train and return the RNN-T loss on a batch that was never trained on."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        batch = toy_batch(16, generator)
        student, t_len = joint_of(model, batch)
        target = None
        if teacher is not None:
            with torch.no_grad():
                target, _ = joint_of(teacher, batch)
        losses = distillation_losses(student, target, *batch[2:3], t_len, batch[3], objective)
        loss = losses.rnnt.mean() + (0.0 if losses.kd is None else losses.kd.mean())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        batch = toy_batch(64, torch.Generator().manual_seed(12345))
        student, t_len = joint_of(model.eval(), batch)
        return distillation_losses(student, None, batch[2], t_len, batch[3]).rnnt.mean().item()


def main(cmd=None) -> Tuple[float, float, float]:
    """Print and return the losses of teacher, student alone, distilled student."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="collapsed", help="what is matched"
    )
    parser.add_argument("--teacher_steps", type=int, default=300, help="updates of the teacher")
    parser.add_argument("--steps", type=int, default=60, help="updates of each student")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data")
    args = parser.parse_args(cmd)
    torch.manual_seed(args.seed)
    teacher = build(width=64, layers=2)
    large = train(teacher, args.teacher_steps, args.seed)
    results = []
    for with_teacher in (None, teacher):
        torch.manual_seed(args.seed + 1)
        student = build(width=32, layers=1)
        objective = Objective(args.objective)
        results.append(train(student, args.steps, args.seed + 2, with_teacher, objective))
    print(
        f"RNN-T loss on unseen utterances, nats: teacher {large:.2f} "
        f"({args.teacher_steps} updates)"
    )
    print(f"student, {args.steps} updates: alone {results[0]:.2f}, distilled {results[1]:.2f}")
    return large, *results


if __name__ == "__main__":
    main()
