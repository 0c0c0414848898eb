"""A predictor that sees one label, made of a recurrent one."""

from typing import Dict, Mapping, Tuple

import torch

from espnet_kd.students.architecture import Architecture

EMBED = "decoder.embed.weight"


def stateless_teacher(
    state: Mapping[str, torch.Tensor], teacher: Architecture, student: Architecture
) -> Tuple[Dict[str, torch.Tensor], Architecture]:
    """Replace a teacher's recurrent predictor by a table of what it says of each label.

    A row holds the teacher's predictor output after the blank it starts with and that label;
    the blank's row its output after the blank alone. The result computes what the teacher
    does as long as no more than one label precedes.

    Args:
        state: State dict of the teacher.
        teacher: Sizes of the teacher, with a recurrent predictor.
        student: Sizes of the student, which may be narrower.

    Returns:
        State dict and sizes of the same model with a stateless predictor as wide as the
        recurrent one's output.
    """
    kept = {name: t for name, t in state.items() if not name.startswith("decoder.")}
    sizes = teacher.with_predictor(student.decoder)
    kept[EMBED] = _one_label_outputs(state, teacher)
    return kept, sizes


@torch.no_grad()
def _one_label_outputs(state: Mapping[str, torch.Tensor], teacher: Architecture) -> torch.Tensor:
    """Run the recurrent layers over (blank, v) for every v. (V, D)"""
    labels = torch.arange(teacher.vocab)
    x = recurrent_outputs(
        state, teacher, torch.stack([torch.zeros_like(labels), labels], dim=1)
    )  # (V, 2, D)
    return torch.cat([x[:1, 0], x[1:, 1]])


@torch.no_grad()
def recurrent_outputs(
    state: Mapping[str, torch.Tensor], teacher: Architecture, labels: torch.Tensor
) -> torch.Tensor:
    """Run a recurrent predictor.

    Args:
        state: State dict of the teacher.
        teacher: Sizes of the teacher.
        labels: Label sequences. (B, U)

    Returns:
        Output after each label. (B, U, D)
    """
    x = state[EMBED][labels]  # (B, U, E)
    layer_class = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[teacher.rnn_type]
    for n in range(teacher.rnn_layers):
        prefix = f"decoder.rnn.{n}."
        layer_state = {k[len(prefix) :]: t for k, t in state.items() if k.startswith(prefix)}
        layer = layer_class(x.size(-1), teacher.decoder_size, batch_first=True)
        layer.load_state_dict(layer_state)
        x, _ = layer.to(x)(x)  # (B, U, D)
    return x
