"""A first plan: geometric steps from the teacher's size to the target."""

import math
from typing import Any, List, Mapping, Optional, Sequence

from espnet_kd.errors import UserError
from espnet_kd.spec.size_table import SHAPES
from espnet_kd.spec.target import BYTES, parse_target
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.checkpoint_size import NOTHING, Beside, checkpoint_bytes, for_target

LAMBDA = 0.5  # our choice
# Share of its teacher that a student is cut to with `allocate: deep`, or less. Our rule was tried
# in smaller steps; in one large step its sizes lose more, and those of the chain whose steps were
# of a factor of 2 to 2.5 are nearly the deep ones (docs/results/progressive.md).
LARGE_STEP = 0.5
RATIO = 2.25  # a student's size to the next one's, if nobody says how many there are
# Rates of students, in their teacher's: fitted to those of noisy_digits' seven steps (a quarter of
# it at 62 % of the size, as much at 10 %, twice at 4 %), which mattered more than objectives.
# Letters of Mboshi, two epochs: as much at 48 % is better than half, four times at 4 % better than
# twice. There little survives the cut, and nothing higher was tried.
RATE, POWER = 0.17, -0.77
RATES = """#
# Rates are those that suited digits, where students begin as good as their teacher. Where
# little of it survives the cut (`before_training` in student.json), or epochs are few, 2 to
# 4 times as much was best (docs/results/progressive.md): try that on one stage first."""

EPOCHS = """#
# As many epochs for each are for who wants all sizes. For the last one alone --stages 2 with most
# epochs at the last was better than one stage, or four (docs/results/progressive.md)."""


def share_of(target: Any, params: int, size: int = 0) -> float:
    """Return a target's share of the first teacher.

    Args:
        target: The target, as a plan may say it.
        params: Parameters of the first teacher.
        size: Bytes of its checkpoint, which a target in bytes is a share of; 0: not known.
    """
    wanted = parse_target(target, "target")
    if wanted.bytes is not None and size:
        return wanted.bytes / size
    return wanted.params(params) / params


def stages_for(target: Any, params: int, size: int = 0) -> int:
    """Return a number of students, each about `RATIO` times smaller than the one before.

    Args:
        target: See `share_of`.
        params: See `share_of`.
        size: See `share_of`.
    """
    share = min(1.0, share_of(target, params, size))
    return max(1, round(-math.log(share) / math.log(RATIO)))


def rate_for(share: float, first: float) -> float:
    """Return the highest rate of a student, two digits of it.

    Args:
        share: Its parameters, in the first teacher's.
        first: The first teacher's highest rate.

    >>> rate_for(0.62, 0.002), rate_for(0.042, 0.002)
    (0.00049, 0.0039)
    """
    return float(f"{first * RATE * share**POWER:.2g}")


def geometric(target: Any, stages: int, params: int, size: int = 0) -> List[Any]:
    """Return targets that fall by one common factor, in bytes where the last one is.

    Args:
        target: The last one, as a plan may say it.
        stages: Number of students.
        params: Parameters of the first teacher.
        size: Bytes of its checkpoint; 0: not known.

    Raises:
        UserError: nothing lies between the target and the teacher.

    >>> geometric(0.35, 3, 10**6)
    [0.705, 0.497, 0.35]
    >>> geometric("2 MB", 3, 10**6, 4_100_000)
    ['3.227 MB', '2.541 MB', '2 MB']
    """
    wanted, fraction = parse_target(target, "target"), share_of(target, params, size)
    if fraction >= 1 and stages > 1:  # of one student its file decides
        has = f"{params:,} parameters" + (f" in {size:,} bytes" if size else "")
        raise UserError(
            f"--target: {wanted} is not smaller than the teacher, which has {has}; name a "
            "smaller size"
        )
    falling = [fraction ** (k / stages) for k in range(1, stages)]
    if wanted.bytes is not None and size:
        return [*(f"{share * size / BYTES['MB']:.4g} MB" for share in falling), target]
    return [*(round(share, 3) for share in falling), target]


def draft(
    teacher: str,
    first: Architecture,
    targets: Sequence[Any],
    objective: str,
    epochs: Optional[int],
    rate: Optional[float] = None,
    others: Beside = NOTHING,
) -> str:
    """Write a plan.

    Args:
        teacher: The teacher's experiment.
        first: Sizes of the teacher.
        targets: See `geometric`.
        objective: Objective of every stage.
        epochs: Epochs of every stage; None leaves the training config's.
        rate: The teacher's highest rate, from which the students' follow; None leaves the
            training config's.
        others: What a student's checkpoint holds beside, for a target in bytes.

    Raises:
        UserError: there is no student of one of the sizes.
    """
    share = share_of(targets[0], first.params, checkpoint_bytes(first, others))
    of_what = "bytes" if parse_target(targets[0], "target").bytes is not None else "parameters"
    lines = [
        f"# Made by espnet_kd.bin.plan for {teacher} ({first.params:,} parameters).",
        f"# Each target is about {100 * share:.0f} % of the {of_what} before, the most that a",
        "# student may have. Epochs, weights and objective are a beginning, to be changed.",
        *([RATES] if rate else []),
        *([EPOCHS] if len(targets) > 1 else []),
        "#",
        "# A gate keeps a student that lost too much from becoming a teacher (points of WER on",
        "# the validation set); remove the # to use it:",
        "# gate: {margin: 1.0, otherwise: longer, epochs: 2, at_most: 1}",
        "stages:",
    ]
    student, allocate = first, "deep" if share <= LARGE_STEP else "rule"
    for k, target in enumerate(targets, 1):
        where = f"--target {targets[-1]}: stage{k} of {len(targets)}"
        given = parse_target(target, where), first.params, others, where
        student = for_target(student, *given, shape=SHAPES[allocate])
        lines += [
            f"-   name: stage{k}",
            f"    # {student.params:,} parameters: {student.in_words()}",
            f"    target: {target}",
            *([f"    allocate: {allocate}"] if allocate != "rule" else []),
            f"    objective: {objective}",
        ]
        if objective != "none":
            lines.append(f"    weight: {LAMBDA:g}  # lambda of L = L_RNNT + lambda * KL")
        if epochs:
            lines.append(f"    epochs: {epochs}")
        if rate:
            highest = rate_for(student.params / first.params, rate)
            lines.append(f"    train: {{optim_conf: {{lr: {highest}}}}}")
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Format rows of equal keys: the first and the last to the left, the others to the right."""
    names = list(rows[0])
    widths = {n: max(len(n), *(len(row[n]) for row in rows)) for n in names}

    def line(row: Mapping[str, str]) -> str:
        cells = [
            row[n].ljust(widths[n]) if n in (names[0], names[-1]) else row[n].rjust(widths[n])
            for n in names
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * widths[n] for n in names)
    return "\n".join([line({n: n for n in names}), rule, *map(line, rows)])
