"""The plan of a run: all inputs read and checked, nothing computed yet."""

from gramstyle.run.plan.planning import RunPlan, ScalePlan, check_packages, plan_run

__all__ = ["RunPlan", "ScalePlan", "check_packages", "plan_run"]
