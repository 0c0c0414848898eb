"""What the examples train on and how: a toy language that stands for speech.

Each symbol is a fixed spectrum, held for some frames, in noise. A teacher learns it first; then
two equal students train for the same number of updates, one with the teacher and one without.
"""

import argparse
import copy
from typing import Callable, List, NamedTuple, Optional, Tuple

import torch

from espnet_kd.lattice import Joint
from espnet_kd.objective import Objective, distillation_losses
from espnet_kd.spec.distillation import OBJECTIVES

FEATURES, SYMBOLS = 16, 8  # symbol 0 is blank
Batch = Tuple[torch.Tensor, ...]
# A model of a batch: its joint network, and the frames that its encoder makes of each utterance.
JointOf = Callable[[torch.nn.Module, Batch], Tuple[Joint, torch.Tensor]]
COLLAPSED = Objective("collapsed")


class Run(NamedTuple):
    """One training.

    Attributes:
        loss: RNN-T loss in nats of a batch that was never trained on.
        curve: RNN-T losses in nats of the batches, update by update.
    """

    loss: float
    curve: List[float]


def toy_batch(size: int, generator: torch.Generator) -> Batch:
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


def train(
    model: torch.nn.Module,
    joint_of: JointOf,
    steps: int,
    seed: int,
    teacher: Optional[torch.nn.Module] = None,
    objective: Objective = COLLAPSED,
) -> Run:
    """Train a model, with a teacher or without."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    curve = []
    for _ in range(steps):
        batch = toy_batch(16, generator)
        student, t_len = joint_of(model, batch)
        target = None
        if teacher is not None:
            with torch.no_grad():
                target, _ = joint_of(teacher, batch)
        losses = distillation_losses(student, target, batch[2], t_len, batch[3], objective)
        loss = losses.rnnt.mean() + (0.0 if losses.kd is None else losses.kd.mean())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        curve.append(losses.rnnt.mean().item())
    with torch.no_grad():
        batch = toy_batch(64, torch.Generator().manual_seed(12345))
        student, t_len = joint_of(model.eval(), batch)
        loss = distillation_losses(student, None, batch[2], t_len, batch[3]).rnnt.mean()
    return Run(loss.item(), curve)


def compare(
    description: str,
    build: Callable[[int, int], torch.nn.Module],
    joint_of: JointOf,
    cmd: Optional[List[str]] = None,
) -> Tuple[Run, Run, Run]:
    """Train a teacher, a student alone and a distilled one; print their losses.

    Args:
        description: First line of the help.
        build: Builds a model of a width and a number of layers.
        joint_of: Runs a model.
        cmd: Words of the command line; None: those of the process.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="collapsed", help="what is matched"
    )
    parser.add_argument("--teacher_steps", type=int, default=300, help="updates of the teacher")
    parser.add_argument("--steps", type=int, default=60, help="updates of each student")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data")
    args = parser.parse_args(cmd)
    objective = Objective(args.objective)
    torch.manual_seed(args.seed)
    teacher = build(64, 2)
    large = train(teacher, joint_of, args.teacher_steps, args.seed)
    torch.manual_seed(args.seed + 1)
    student = build(32, 1)
    alone, distilled = (
        train(copy.deepcopy(student), joint_of, args.steps, args.seed + 2, with_teacher, objective)
        for with_teacher in (None, teacher)
    )
    for name, run in (("teacher", large), ("alone", alone), ("distilled", distilled)):
        points = run.curve[:: max(1, len(run.curve) // 8)]
        print(f"{name:>9}, RNN-T loss in nats: {' '.join(f'{x:.1f}' for x in points)}", end="")
        print(f"; on unseen utterances {run.loss:.2f} after {len(run.curve)} updates")
    return large, alone, distilled
