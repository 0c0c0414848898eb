"""The student between two sizes."""

import dataclasses

from espnet_kd.students.architecture import Architecture

# Fields that are scaled, and what they are rounded to; `heads` stands for twice the heads.
ROUNDED = {
    "num_blocks": 1,
    "hidden_size": "heads",
    "linear_size": 8,
    "conv_size": 4,
    "embed_size": 8,
    "decoder_size": 8,
    "joint_size": 8,
}


def halfway(teacher: Architecture, goal: Architecture) -> Architecture:
    """Find the largest student in between of at most the geometric mean of both's parameters.

    Every size goes the same part of the way from the goal's to the teacher's: the student can
    be cut out of the teacher, and the goal out of the student. Heads and kernel are the
    goal's.

    Args:
        teacher: The larger sizes.
        goal: The smaller ones, none above the teacher's.
    """
    if (teacher.decoder, goal.decoder) == ("rnn", "stateless"):
        # What becomes the table of a stateless predictor is as wide as the LSTM.
        teacher = dataclasses.replace(
            teacher, decoder="stateless", embed_size=teacher.decoder_size
        )
    mean = (teacher.params * goal.params) ** 0.5
    for step in range(63, 0, -1):
        student = _between(teacher, goal, step / 64)
        if student.params <= mean:
            return student
    return goal


def _between(teacher: Architecture, goal: Architecture, part: float) -> Architecture:
    sizes = {}
    for name, multiple in ROUNDED.items():
        low, high = getattr(goal, name), getattr(teacher, name)
        multiple = 2 * goal.heads if multiple == "heads" else multiple
        # Rounded down: a multiple of the heads that is not above the teacher's.
        size = int((low + part * (high - low)) / multiple) * multiple
        sizes[name] = max(low, size)
    if goal.decoder == "stateless":
        sizes["decoder_size"] = sizes["embed_size"]
    return dataclasses.replace(goal, **sizes)
