"""The compression plan: which student follows which teacher, and how it is distilled.

In reading order:

    plan       the YAML file
    stage      one entry of it: a student
    gate       may a student become a teacher?
    contradictions  names and sizes that exclude one another
    effective  the plan after what its gates have found
    paths      baselines and ablations: other ways to students of the same sizes
    cacheable  which of them a teacher cache can serve
    sizes      sizes of planned students; needs torch
    draft      a first plan for a teacher; needs torch
    manifest   what a student was made from
    options    the options by which every command line finds the same students
"""

from espnet_kd.plan.plan import CompressionPlan, load_plan
from espnet_kd.plan.stage import StagePlan

__all__ = ["CompressionPlan", "StagePlan", "load_plan"]
