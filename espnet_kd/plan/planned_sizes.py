"""The sizes of planned students, as arithmetic: no training is needed to know them."""

import functools
from pathlib import Path
from typing import Any, List, Optional, Sequence

from espnet_kd.common.json_file import check_shape
from espnet_kd.common.records import STUDENT
from espnet_kd.errors import UserError
from espnet_kd.plan.student import Student
from espnet_kd.spec.size_table import SHAPES
from espnet_kd.spec.stage import Stage
from espnet_kd.students.architecture import Architecture, Chooser
from espnet_kd.students.checkpoint_size import NOTHING, Beside, for_target
from espnet_kd.students.halfway import halfway
from espnet_kd.students.nested_units import check_nests


class NotMeasured(UserError):
    """Sizes that are known only once the student is derived."""


def sizes_of_way(
    stages: Sequence[Stage],
    first: Architecture,
    out: Optional[Path] = None,
    name: str = "",
    others: Beside = NOTHING,
) -> List[Architecture]:
    """Return the sizes of stages that follow one another.

    Args:
        way: The stages.
        first: Sizes of the run's first teacher.
        out: A student's experiment, beside which those of the way are: sizes that were
            measured (`allocate: sensitivity`) are read there.
        name: Name of that student.
        others: What a checkpoint of the first teacher holds beside, trained as students are.

    Raises:
        UserError: a size that cannot be, or a measured one that is not known yet.
    """
    sizes = [first]
    for step in stages:
        others = others.trained_with(step.train.options)
        kept: Optional[Chooser] = None
        blocks = sizes[-1].num_blocks
        cascade = getattr(step.method_conf, "cascade", None)
        if cascade is not None:
            kept = functools.partial(cascade.spaced_below, blocks, step.where)
        if step.method_conf.keeps_sizes:
            sizes.append(sizes[-1])
        elif _chosen_by_measure(step, sizes[-1]):
            sizes.append(_derived(step, "blocks", out, name))
        elif step.sizes is not None:
            sizes.append(sizes[-1].with_sizes(step.sizes, step.at("student"), kept))
        elif step.target is not None and step.allocate in SHAPES:
            of_plan = step.target, first.params, others, step.at("target"), kept
            inside = step.method_conf.made_of is not None
            sizes.append(
                for_target(sizes[-1], *of_plan, inside=inside, shape=SHAPES[step.allocate])
            )
        else:
            sizes.append(_derived(step, "allocate", out, name))
        if cascade is not None:
            cascade.check_blocks(blocks, sizes[-1].num_blocks, step.where)
        if step.method_conf.made_of is not None:
            check_nests(sizes[-2], sizes[-1], step.where)
        if getattr(step.method_conf, "tied", False):
            sizes[-1] = sizes[-1].resized(embed_size=sizes[-1].joint_size)
    return sizes[1:]


def sizes_by_way(
    stage: Student, first: Architecture, out: Path, others: Beside = NOTHING
) -> Architecture:
    """Return the sizes of a student whose stage has a `way`.

    Args:
        stage: The student.
        first: Sizes of the run's first teacher.
        out: The student's experiment.
        others: See `sizes_of_way`.

    Raises:
        UserError: see `sizes_of_way`.
    """
    above = sizes_of_way(stage.stages_above, first, out, stage.name, others)
    before, goal = [first, *above][-2:]
    return halfway(before, goal) if stage.half else goal


def _chosen_by_measure(step: Stage, teacher: Architecture) -> bool:
    """Return whether a student's sizes hang on which of its teacher's blocks matter."""
    if step.blocks == "spaced" or not teacher.blocks_differ:
        return False
    return step.sizes is None or step.sizes.encoder.num_blocks not in (None, teacher.num_blocks)


def _derived(step: Stage, key: str, out: Optional[Path], name: str) -> Architecture:
    """Read the sizes of a student that was derived."""
    if out is not None:
        exp = out.with_name(out.name.removesuffix(name) + step.name)
        student = STUDENT.read_if_there(exp)
        if student is not None:
            return _architecture(student.get("sizes"), f"{exp}/{STUDENT.file}")
    what = "derive it before a student of its size on another path"
    if out is None:
        plain = {"allocate": "'rule' or 'deep'", "blocks": "'spaced'"}[key]
        what = f"for an estimate before that say {plain}"
    raise NotMeasured(
        f"{step.at(key)}: the sizes of '{step.name}' are measured when it is derived; {what}"
    )


def _architecture(sizes: Any, where: str) -> Architecture:
    """Read the sizes in a student's record."""
    try:
        check_shape(sizes, Architecture, "sizes")
        student = Architecture(**sizes)
        student.check("sizes")
    except UserError as e:
        raise UserError(f"{where}: {e}; {STUDENT.remake}") from None
    return student
