"""A predictor that averages the embeddings of the last labels, made of another one.

`espnet.averaged_decoder` has its formula. The embeddings are the teacher's. Position vectors are
those with which all labels weigh alike: 1 for the last one, half of that for each one before (of a
stateless teacher, which hears one label, 0). The layer behind the average is drawn. What reads the
predictor gets the least squares of what the teacher's predictor says of the same labels: of all
sequences of up to `context` of them, as if speech began there, or of some that are drawn.
"""

import itertools
import logging
from typing import Dict, List, Mapping, Tuple

import torch

from espnet_kd.students.architecture import Architecture
from espnet_kd.students.factors import narrow_product
from espnet_kd.students.stateless import EMBED, recurrent_outputs

SEQUENCES = 8192  # that are regressed on, at most
RIDGE = 1e-6  # of the mean square of an output, which keeps weights small
READERS = ("joint_network.lin_dec", "lm_lin")


@torch.no_grad()
def averaged_teacher(
    state: Mapping[str, torch.Tensor], teacher: Architecture, student: Architecture
) -> Tuple[Dict[str, torch.Tensor], Architecture]:
    """Replace a teacher's predictor by one that averages embeddings.

    Args:
        state: State dict of the teacher.
        teacher: Sizes of the teacher, with a recurrent or stateless predictor.
        student: Sizes of the student, whose embedding and predictor output may be narrower.

    Returns:
        State dict and sizes of the same model with a predictor of the student's sizes.
    """
    sizes = teacher.with_predictor(student.decoder, context=student.context)
    sizes = sizes.resized(embed_size=student.embed_size, decoder_size=student.decoder_size)
    kept = {name: t for name, t in state.items() if not name.startswith("decoder.")}
    embed = state[EMBED].clone()  # (V, E)
    embed[0] = 0  # blank is no label
    if sizes.embed_size < embed.size(1):
        eye = torch.eye(embed.size(1)).to(embed)  # (E, E)
        embed, _ = narrow_product(embed, eye, sizes.embed_size)
    decoder = _drawn(embed, sizes, teacher.decoder == "stateless")
    labels = sequences(sizes.vocab, sizes.context)
    heard = torch.cat([averaged(decoder, x) for x in labels]).double()  # (sequences, D)
    told = torch.cat([_outputs(state, teacher, x) for x in labels]).double()  # (sequences, D')
    bias = all(f"{name}.bias" in kept for name in READERS if f"{name}.weight" in kept)
    fold, constant = _least_squares(heard, told, bias)
    for name in READERS:
        weight = kept.get(f"{name}.weight")
        if weight is None:
            continue
        kept[f"{name}.weight"] = (weight.double() @ fold.T).to(weight.dtype)  # (outputs, D)
        if f"{name}.bias" in kept:
            kept[f"{name}.bias"] = (kept[f"{name}.bias"] + weight.double() @ constant).to(weight)
    lost = heard @ fold + constant - told
    spread = (told - told.mean(0)).norm().clamp_min(1e-30)
    logging.info(
        f"an average of {sizes.context} labels leaves {float(lost.norm() / spread):.1%} of what "
        f"the predictor says of {len(told)} label sequences (root mean square)"
    )
    return {**kept, **{f"decoder.{name}": t for name, t in decoder.items()}}, sizes


def sequences(vocab: int, context: int) -> List[torch.Tensor]:
    """Return label sequences: all of up to `context` labels, or some of them.

    Args:
        vocab: Vocabulary V; blank, 0, is no label.
        context: Largest number of labels.

    Returns:
        Sequences of each length from 0 on. (sequences, length)
    """
    draw = torch.Generator().manual_seed(0)
    lengths, room = [torch.zeros(1, 0, dtype=torch.long)], SEQUENCES
    for length in range(1, context + 1):
        if (vocab - 1) ** length <= room:
            every = list(itertools.product(range(1, vocab), repeat=length))
            lengths.append(torch.tensor(every).view(len(every), length))
        else:
            lengths.append(torch.randint(1, vocab, (room, length), generator=draw))
    return lengths


def averaged(decoder: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Say what the predictor says after whole sequences.

    Args:
        decoder: Its tensors.
        labels: The last labels, no more than the predictor hears. (sequences, length)

    Returns:
        (sequences, D)
    """
    embed, position = decoder["embed.weight"], decoder["position.weight"]  # (V, E), (N, E)
    x = embed.new_zeros(len(labels), embed.size(1))  # (sequences, E)
    for n in range(labels.size(1)):
        e = embed[labels[:, -1 - n]]  # (sequences, E)
        x += (e @ position[n])[:, None] * e / len(position)
    x = x @ decoder["output.weight"].T + decoder["output.bias"]  # (sequences, D)
    norm = torch.nn.functional.layer_norm(
        x, x.shape[1:], decoder["norm.weight"], decoder["norm.bias"]
    )
    return torch.nn.functional.silu(norm)


def _drawn(embed: torch.Tensor, sizes: Architecture, last_alone: bool) -> Dict[str, torch.Tensor]:
    """Return a predictor that nothing reads yet; embed: (V, E)."""
    alike = torch.linalg.pinv(embed[1:].double()).sum(1)  # (E,), with which e.p is 1
    shares = [float(n == 0) if last_alone else 0.5**n for n in range(sizes.context)]
    draw = torch.Generator().manual_seed(0)
    shape = sizes.decoder_size, sizes.embed_size
    output = (torch.randn(*shape, generator=draw) / shape[1] ** 0.5).to(embed)  # (D, E)
    # As large as what a label adds: the norm of zeros, before the first label, has no slope.
    size = float((embed @ output.T).square().mean().sqrt()) / sizes.context
    return {
        "embed.weight": embed,
        "position.weight": torch.stack([alike * share for share in shares]).to(embed),  # (N, E)
        "output.weight": output,
        "output.bias": (torch.randn(shape[0], generator=draw) * size).to(embed),  # (D,)
        "norm.weight": embed.new_ones(shape[0]),  # (D,)
        "norm.bias": embed.new_zeros(shape[0]),  # (D,)
    }


def _outputs(
    state: Mapping[str, torch.Tensor], teacher: Architecture, labels: torch.Tensor
) -> torch.Tensor:
    """Say what the teacher's predictor says after blank and labels. (sequences, D')"""
    labels = torch.cat([labels.new_zeros(len(labels), 1), labels], dim=1)
    if teacher.decoder == "stateless":
        return state[EMBED][labels[:, -1]]
    return recurrent_outputs(state, teacher, labels)[:, -1]


def _least_squares(
    heard: torch.Tensor, told: torch.Tensor, bias: bool
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Regress outputs on outputs.

    Args:
        heard: (sequences, D)
        told: (sequences, D')
        bias: Whether a constant may be added.

    Returns:
        Matrix (D, D') and constant (D',).
    """
    means = [x.mean(0) if bias else torch.zeros_like(x[0]) for x in (heard, told)]
    x, y = heard - means[0], told - means[1]
    ridge = RIDGE * x.square().sum() / x.size(1)
    gram = x.T @ x + ridge * torch.eye(x.size(1)).to(x)  # (D, D)
    fold = torch.linalg.solve(gram, x.T @ y)
    return fold, means[1] - means[0] @ fold
