"""One table of a jobs file: its jobs, one for each combination of images and grid."""

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gramstyle.batch.checking import check_patterns
from gramstyle.batch.finding import existing, images_of, path_in
from gramstyle.batch.jobs import Job, saying
from gramstyle.batch.naming import output_name
from gramstyle.batch.values import OPTIONS, check_known, options_from, shown
from gramstyle.errors import OptionError
from gramstyle.run.options import STARTS

MAX_JOBS = 100_000

_IMAGES = ("content", "style")
KEYS = (*_IMAGES, "output", *OPTIONS)


def expanded(
    number: int, table: Mapping[str, Any], defaults: Mapping[str, Any], folder: Path
) -> Iterator[Job]:
    """Yield a table's jobs: every combination of its images and its grid."""
    check_known(table, (*KEYS, "grid"))
    grid = _grid(table)
    same = {**defaults, **table}
    same.pop("grid", None)
    output = same.pop("output", None)
    if not isinstance(output, str):
        raise OptionError(_lacks("output", output))
    axes: dict[str, list[Any]] = {}
    patterns: list[str] = []
    for name in _IMAGES:
        single = [same.pop(name)] if name in same else [None]
        axes[name] = []
        for written in grid.get(name, single):
            if not isinstance(written, str):
                raise OptionError(_lacks(name, written))
            with saying(name):
                axes[name] += images_of(written, folder, patterns)
    axes |= {name: values for name, values in grid.items() if name not in _IMAGES}
    if math.prod(len(values) for values in axes.values()) > MAX_JOBS:
        raise OptionError(f"its grid has more than {MAX_JOBS:,} combinations; divide it")
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        content, style = chosen.pop("content"), chosen.pop("style")
        options = options_from(_with_start({**same, **chosen}, folder))
        name = output_name(output, content, style, options)
        job = Job(
            table=number,
            name=name,
            content=content,
            style=style,
            output=path_in("output", name, folder),
            options=options,
        )
        check_patterns(job, patterns)
        yield job


def _grid(table: Mapping[str, Any]) -> dict[str, list[Any]]:
    grid = as_table(table.get("grid", {}), "grid")
    with saying("grid"):
        check_known(grid, (name for name in KEYS if name != "output"))
        for name, values in grid.items():
            if not isinstance(values, list) or not values:
                raise OptionError(f"{name} must be a list of values, not {shown(values)}")
            if name in table:
                raise OptionError(f"{name} stands in the job and in its grid; take one away")
    return grid


def _lacks(name: str, value: object) -> str:
    if value is None:
        return f"it has no {name}; add a line {name} = ..."
    return f"{name} must be text, not {shown(value)}"


def _with_start(chosen: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the options with the image to start from, if there is one, as a path."""
    start = chosen.get("init")
    if not isinstance(start, str) or start in STARTS:
        return chosen
    with saying("init"):
        return {**chosen, "init": str(existing(path_in("init", start, folder)))}


def as_table(value: object, name: str) -> dict[str, Any]:
    """Return a value of TOML that must be a table."""
    if not isinstance(value, dict):
        brackets = "[[jobs]]" if name == "jobs" else f"[{name}]"
        raise OptionError(f"{name} must be a table, not {shown(value)}; write {brackets}")
    return value
