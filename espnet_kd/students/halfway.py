"""The student between two sizes."""

from typing import Dict

from espnet_kd.spec.size_table import PerBlock
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.importance import spaced_blocks


def halfway(teacher: Architecture, goal: Architecture) -> Architecture:
    """Find the largest student in between of at most the geometric mean of both's parameters.

    Every size goes the same part of the way from the goal's to the teacher's: the student can
    be cut out of the teacher, and the goal out of the student. Heads and kernel are the
    goal's.

    Args:
        teacher: The larger sizes.
        goal: The smaller ones, none above the teacher's.
    """
    if teacher.decoder != goal.decoder:
        teacher = teacher.with_predictor(goal.decoder, context=goal.context)
    mean = (teacher.params * goal.params) ** 0.5
    for step in range(63, 0, -1):
        student = _between(teacher, goal, step / 64)
        if student.params <= mean:
            return student
    return goal


def _between(teacher: Architecture, goal: Architecture, part: float) -> Architecture:
    low, high = goal.num_blocks, teacher.num_blocks
    depth = max(low, int(low + part * (high - low)))
    # Blocks that stand at about the same height in all three.
    shallow = goal.with_blocks(spaced_blocks(low, depth))
    deep = teacher.with_blocks(spaced_blocks(high, depth))
    sizes: Dict[str, PerBlock] = {}
    for axis in goal.axes:
        if axis.field == "num_blocks" or not (axis.scaled or axis.per_block):
            continue
        grid, widths = goal.grid(axis), []
        for low, high in zip(shallow.of_blocks(axis), deep.of_blocks(axis)):
            # Rounded down: a multiple of the heads that is not above the teacher's.
            between = int((low + part * (high - low)) / grid) * grid if axis.scaled else low
            widths.append(min(high, max(low, between)))
        sizes[axis.field] = tuple(widths) if axis.per_block else widths[0]
    return shallow.resized(**sizes)
