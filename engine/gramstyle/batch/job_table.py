"""One table of a jobs file and its jobs: one for each combination of images and grid values."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gramstyle.batch import looks
from gramstyle.batch.job import Job, located
from gramstyle.batch.output_name import output_name
from gramstyle.batch.patterns import check_patterns, existing, images_of, path_in
from gramstyle.errors import OptionError
from gramstyle.run.options import MOST_STYLES, STARTS
from gramstyle.run.options.coercion import names_in
from gramstyle.run.options.masks import MASK_OPTIONS, SEVERAL, check_masks
from gramstyle.run.options.values import (
    FROM_FILES,
    check_keys,
    options_from,
    shown,
)

MAX_JOBS = 100_000

# What messages call the file.
FILE = "a jobs file"

_IMAGES = ("content", "style")
KEYS = (*_IMAGES, "output", *looks.KEYS, *FROM_FILES)


def jobs_of(
    label: str,
    table: Mapping[str, Any],
    defaults: Mapping[str, Any],
    folder: Path,
    *,
    machine: Mapping[str, Any],
    notify: Callable[[str], None],
) -> Iterator[Job]:
    """Yield the jobs of a table; paths in it are relative to the folder.

    The options of the machine do not come from the table. `notify` is called with one line about
    the files that each pattern leaves out.
    """
    check_keys(table, (*KEYS, "grid"), file=FILE)
    grid = _grid(table)
    values = {**defaults, **table}
    values.pop("grid", None)
    output = _text("output", values.pop("output", None))
    look = looks.Looks(folder, machine)
    values = {**look.images(values), **values}
    axes: dict[str, list[Any]] = {}
    patterns: list[Path] = []
    for name in _IMAGES:
        axes[name] = []
        for value in grid.get(name, [values.pop(name, None)]):
            if name == "style" and isinstance(value, list):
                axes[name].append(_blended(value, folder))
                continue
            text = _text(name, value)
            with located(name):
                found = images_of(text, folder)
            axes[name] += found.images
            patterns += [] if found.pattern is None else [found.pattern]
            if found.left_out:
                notify(found.left_out)
    axes |= {name: choices for name, choices in grid.items() if name not in _IMAGES}
    if math.prod(len(choices) for choices in axes.values()) > MAX_JOBS:
        raise OptionError(f"its grid has more than {MAX_JOBS:,} combinations; divide it")
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        content, style = chosen.pop("content"), chosen.pop("style")
        chosen = {**values, **chosen}
        options = options_from(_with_files(look.options(chosen), folder))
        styles = style if isinstance(style, tuple) else (style,)
        options.style_shares(len(styles))  # refuses another number of styles
        check_masks(options, content=True, styles=len(styles))
        name = output_name(output, content, styles, options, chosen)
        job = Job(
            label=label,
            name=name,
            content=content,
            style=style,
            output=path_in("output", name, folder),
            options=options,
        )
        check_patterns(job, patterns)
        yield job


def as_table(value: object, name: str) -> dict[str, Any]:
    """Return a value of the TOML file that must be a table."""
    if not isinstance(value, dict):
        brackets = "[[jobs]]" if name == "jobs" else f"[{name}]"
        raise OptionError(f"{name} must be a table, not {shown(value)}; write {brackets}")
    return value


def _grid(table: Mapping[str, Any]) -> dict[str, list[Any]]:
    grid = as_table(table.get("grid", {}), "grid")
    with located("grid"):
        check_keys(grid, (name for name in KEYS if name != "output"), file=FILE)
        for name, choices in grid.items():
            if not isinstance(choices, list) or not choices:
                raise OptionError(f"{name} must be a list of values, not {shown(choices)}")
            if name in table:
                raise OptionError(f"{name} is in the job and in its grid; remove one of them")
    return grid


def _text(name: str, value: object) -> str:
    if value is None:
        raise OptionError(f"it has no {name}; add a line {name} = ...")
    if not isinstance(value, str):
        raise OptionError(f"{name} must be text, not {shown(value)}")
    return value


def _blended(names: list[Any], folder: Path) -> tuple[Path, ...]:
    """Return the style images of a list, which one job blends."""
    if not 1 <= len(names) <= MOST_STYLES:
        raise OptionError(f"style must have from 1 to {MOST_STYLES} images, not {len(names)}")
    styles: list[Path] = []
    for value in names:
        text = _text("style", value)
        with located("style"):
            found = images_of(text, folder)
            if found.pattern is not None:
                raise OptionError(
                    f"{shown(text)} is a pattern, and a list is blended in one image; name its "
                    "files, or write the pattern without the list"
                )
        styles += found.images
    return tuple(styles)


def _with_files(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the options with the image to start from and masks, if any, as absolute paths."""

    def absolute(name: str, text: Any) -> Any:
        if not isinstance(text, str):  # `options_from` refuses it
            return text
        with located(name):
            return str(existing(path_in(name, text, folder)))

    found = dict(values)
    if found.get("init") not in (None, *STARTS):
        found["init"] = absolute("init", found["init"])
    for name in MASK_OPTIONS:
        value = found.get(name)
        if value is not None and name in SEVERAL:
            items = names_in(value) if isinstance(value, str) else value
            several = isinstance(items, list | tuple)
            found[name] = [absolute(name, item) for item in items] if several else items
        elif value is not None:
            found[name] = absolute(name, value)
    return found
