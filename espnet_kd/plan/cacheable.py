"""Whether a teacher cache can serve a plan's students: asked before the teacher is trained."""

from typing import Any, Mapping, Sequence

from espnet_kd.kd_options import DistillOptions, check_band
from espnet_kd.plan.paths import PATHS
from espnet_kd.plan.stage import StagePlan


def check_cacheable(students: Sequence[StagePlan], base: Mapping[str, Any], band: int) -> None:
    """Check the options of all students that would be trained from a cache.

    Args:
        students: Of all paths.
        base: The recipe's training config for students.
        band: Rows of the cache, 0: all.

    Raises:
        UserError: one cannot be trained from a cache (naming its stage and the option).
    """
    for student in students:
        conf = student.kd_conf(base)
        online = student.path in PATHS and not PATHS[student.path].cached
        if online or conf.get("objective", "none") == "none":
            continue
        options = DistillOptions.from_dict({**conf, "teacher_cache": "to be made"}, student.where)
        check_band(band, options, f"{student.where}: ")
