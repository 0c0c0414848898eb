"""Times of a transcript's tokens: a transducer's best path through the lattice of the text."""

from argparse import Namespace
from typing import Any, List, Sequence

import torch

from espnet_kd.espnet.any_transducer import DEFAULTS
from espnet_kd.espnet.batched_decoding import padded
from espnet_kd.espnet.teacher import project
from espnet_kd.lattice import node_stats
from espnet_kd.lattice.visits import best_path


@torch.no_grad()
def emission_frames(
    model: Any, encoded: Sequence[torch.Tensor], labels: Sequence[Sequence[int]]
) -> List[List[int]]:
    """Find the frame at which each label of a transcript is emitted on the likeliest path.

    Args:
        model: A transducer in eval mode.
        encoded: Encoder output of each utterance. (T, D)
        labels: Labels of each.

    Returns:
        Frames of each utterance, as many as it has labels.
    """
    enc, t_len = padded(encoded)  # (B, T, D), (B,)
    u_len = torch.tensor([len(text) for text in labels], device=enc.device)  # (B,)
    text = torch.zeros(len(enc), int(u_len.max()), dtype=torch.long, device=enc.device)  # (B, U)
    for row, of_one in zip(text, labels):
        row[: len(of_one)] = torch.tensor(of_one, dtype=torch.long)
    model.decoder.set_device(enc.device)
    dec = model.decoder(torch.nn.functional.pad(text, (1, 0)))  # (B, U + 1, D)
    stats = node_stats(project(model.joint_network, enc, dec), text, t_len, u_len)
    visited = best_path(stats[..., :2], t_len, u_len)  # (B, T, U + 1)
    # Row u is entered by the label before it.
    frames = visited.argmax(1)[:, 1:]  # (B, U)
    return [row[:n].tolist() for row, n in zip(frames, u_len.tolist())]


def labels_of(task: Any, config: Any, text: str) -> List[int]:
    """Return a transcript as labels, as training has them.

    Args:
        task: ESPnet's task.
        config: Training config of the model.
        text: The transcript.
    """
    known = Namespace(**{**DEFAULTS, **vars(config)})  # ESPnet's training writes them all
    read = task.build_preprocess_fn(known, False)
    return read("", {"text": text})["text"].tolist() if read is not None else []
