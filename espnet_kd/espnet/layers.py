"""Pairs of encoder blocks, a student's and its teacher's: distillation layer by layer."""

import contextlib
from typing import Dict, Iterable, Iterator, List, Sequence

import torch
from espnet2.asr_transducer.encoder.encoder import Encoder

from espnet_kd.errors import UserError
from espnet_kd.espnet.versions import hidden_of
from espnet_kd.espnet.whole_encoder import WholeEncoder
from espnet_kd.losses import encoder_distance

Pairs = Sequence[Sequence[int]]  # (the student's block, the teacher's), from 0


def layer_projections(student: Encoder, teacher: Encoder, pairs: Pairs) -> torch.nn.ModuleList:
    """Build what takes each of the student's blocks to the width of the teacher's.

    Args:
        student: The student's encoder.
        teacher: The teacher's.
        pairs: Blocks that are compared.

    Returns:
        A projection for each pair, the identity where the widths are the same.

    Raises:
        UserError: see `check_pairs`.
    """
    check_pairs(student, teacher, pairs, "layers")
    return torch.nn.ModuleList(
        torch.nn.Identity() if a == b else torch.nn.Linear(a, b, bias=False)
        for a, b in ((block_width(student, s), block_width(teacher, t)) for s, t in pairs)
    )


def check_pairs(student: Encoder, teacher: Encoder, pairs: Pairs, key: str) -> None:
    """Refuse pairs that cannot be compared.

    Args:
        student: The student's encoder.
        teacher: The teacher's.
        pairs: Blocks that are to be compared.
        key: Option that names them, for messages.

    Raises:
        UserError: a block that is not there, or one that training may pass over.
    """
    if getattr(student.encoders, "blockdrop_rate", 0) > 0:
        raise UserError(
            f"kd_conf.{key}: encoder_conf.main_conf.blockdrop_rate is "
            f"{student.encoders.blockdrop_rate}: a block that is dropped has no output to "
            "compare; set it to 0"
        )
    if pairs and isinstance(teacher, WholeEncoder):
        raise UserError(
            f"kd_conf.{key}: the teacher's encoder hears whole utterances, and its blocks are no "
            "partners of a student's; leave it out"
        )
    for pair in pairs:
        for who, encoder, number in zip(("student", "teacher"), (student, teacher), pair):
            count = len(encoder.encoders.blocks)
            if number >= count:
                raise UserError(
                    f"kd_conf.{key}: {list(pair)}: the {who} has {count} encoder blocks, 0 to "
                    f"{count - 1}; found {number}"
                )


def block_width(encoder: Encoder, number: int) -> int:
    """Width D of a block's output; a convolution block names it otherwise than the others."""
    block = encoder.encoders.blocks[number]
    return block.block_size if hasattr(block, "block_size") else block.output_size


@contextlib.contextmanager
def block_outputs(encoder: Encoder, numbers: Iterable[int]) -> Iterator[Dict[int, torch.Tensor]]:
    """Keep what some blocks put out while the encoder runs inside the `with`.

    Args:
        encoder: ESPnet's encoder.
        numbers: The blocks, from 0.

    Yields:
        Number of a block -> its output, once it has run. (B, T, D)
    """
    outputs: Dict[int, torch.Tensor] = {}
    with contextlib.ExitStack() as stack:
        for number in set(numbers):

            def keep(_block, _inputs, output, number=number) -> None:
                outputs[number] = hidden_of(output)

            block = encoder.encoders.blocks[number]
            stack.callback(block.register_forward_hook(keep).remove)
        yield outputs


def layer_distance(
    projections: torch.nn.ModuleList,
    student: Dict[int, torch.Tensor],
    teacher: Dict[int, torch.Tensor],
    pairs: Pairs,
    t_len: torch.Tensor,
) -> torch.Tensor:
    """Compute the mean over the pairs of the distance of their outputs.

    Args:
        projections: Modules of `layer_projections`.
        student: Outputs of the student's blocks. (B, T, D)
        teacher: Outputs of the teacher's blocks. (B, T, D of the teacher)
        pairs: Pairs of blocks that are compared.
        t_len: Frames of each utterance. (B,)

    Returns:
        See `losses.encoder.encoder_distance`. (B,)
    """
    distances: List[torch.Tensor] = [
        encoder_distance(project(student[s].float()), teacher[t].float(), t_len)
        for project, (s, t) in zip(projections, pairs)
    ]
    return torch.stack(distances).mean(0)
