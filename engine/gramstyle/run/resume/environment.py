"""The environment of a run, which may change its result if the run is resumed elsewhere."""

from collections.abc import Mapping
from typing import Any

from gramstyle.engines import rounding
from gramstyle.run.plan import RunPlan
from gramstyle.run.settings import DISTRIBUTIONS

# If one of these changes, the optimiser's state cannot be used: its arrays have another type or
# place, or another version of the program computes another loss.
_LAYOUT = ("program", "engine", "device", "tiles")
# Everything else changes the last bits of a result. The loops over a history on disk are not the
# compiled ones.
_ROUNDING = ("python", *DISTRIBUTIONS, *rounding.NAMES, "place of the history")
NAMES = (*_LAYOUT, "cluster", *_ROUNDING)


def environment(plan: RunPlan) -> dict[str, str]:
    """Return what may change the bits of a run's result, apart from its images and options."""
    options, settings = plan.last.options, plan.settings
    return {
        "program": settings.program,
        "engine": options.runs_on,
        "device": options.device,
        "tiles": " ".join(str(scale.spec.edge or "whole") for scale in plan.scales),
        "cluster": "yes" if options.on_cluster else "",
        **settings.versions,
        "place of the history": "" if _in_memory(plan) else "disk",
        **rounding.rounding(options.runs_on, options.device, plan.last.spec.thread_count),
    }


def _in_memory(plan: RunPlan) -> bool:
    return all(scale.layout.history_in_memory for scale in plan.scales)


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of what has changed between two environments, in a fixed order."""
    return tuple(name for name in NAMES if before.get(name, "") != now.get(name, ""))


def fits(names: tuple[str, ...]) -> bool:
    """Return whether the optimiser's state can be used although these have changed."""
    return not set(names) & set(_LAYOUT)
