"""The compression plan: which student follows which teacher, and how it is distilled."""

from espnet_kd.plan.plan import CompressionPlan, StagePlan, load_plan

__all__ = ["CompressionPlan", "StagePlan", "load_plan"]
