"""The compression plan: which student follows which teacher, and how it is distilled.

In reading order:

    plan       the YAML file
    stage      one entry of it: a student
    gate       may a student become a teacher?
    effective  the plan after what its gates have found
    paths      baselines and ablations: other ways to students of the same sizes
    options    the options by which every command line finds the same students
"""

from espnet_kd.plan.plan import CompressionPlan, load_plan
from espnet_kd.plan.stage import StagePlan

__all__ = ["CompressionPlan", "StagePlan", "load_plan"]
