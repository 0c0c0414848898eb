"""Students from teachers: architecture arithmetic and inherited weights. Torch only.

In reading order:

    architecture   what can shrink, exact parameter counts, sizes for a target
    axes           what every axis of every parameter means
    inherit        the student's first weights, cut out of the teacher's
"""

from espnet_kd.students.architecture import Architecture
from espnet_kd.students.inherit import inherit, spaced_blocks

__all__ = ["Architecture", "inherit", "spaced_blocks"]
