"""Prepare the scales of a run: the targets, the objective and the start."""

from gramstyle.run.prepare.preparing import Prepared, RunResources, prepare

__all__ = ["Prepared", "RunResources", "prepare"]
