"""The values of a file as `Options`: errors in one line."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from gramstyle.engines.registry import ENGINES
from gramstyle.errors import OptionError, suggestion
from gramstyle.run.options import EARLIER_OPTIMISERS, MACHINE, Options, is_named_start
from gramstyle.run.options.coercion import shown
from gramstyle.run.options.masks import MASK_OPTIONS, SEVERAL

__all__ = [
    "FROM_FILES",
    "IMAGE_OPTIONS",
    "MACHINE",
    "OPTIONS",
    "check_keys",
    "check_known",
    "fitting",
    "names_image",
    "options_from",
    "shown",
    "with_present_names",
]

OPTIONS = tuple(field.name for field in fields(Options))
# A file may come from somebody else: it does not choose the machine.
FROM_FILES = tuple(name for name in OPTIONS if name not in MACHINE)


def _may_be_path(kind: object) -> bool:
    return get_origin(kind) is os.PathLike or any(map(_may_be_path, get_args(kind)))


# The options whose values are images, which a file names by their paths.
IMAGE_OPTIONS = tuple(name for name, kind in get_type_hints(Options).items() if _may_be_path(kind))


def names_image(name: str, value: object) -> bool:
    """Return whether the value of an option is an image, and not one of the words for a start."""
    return name in IMAGE_OPTIONS and not (name == "init" and is_named_start(value))


def fitting(values: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return values of options without an engine and a TF32 that the device does not have."""
    engine = ENGINES.get(str(values.get("engine")))
    dropped = {"engine"} if engine is not None and device not in engine.devices else set[str]()
    if device == "cpu":
        dropped.add("tf32")
    return {name: value for name, value in values.items() if name not in dropped}


def options_from(table: Mapping[str, Any]) -> Options:
    """Return the options that a table of TOML or JSON values describes, or raise an OptionError."""
    if not isinstance(table.get("init", ""), str):  # only Python has images that are not files
        raise OptionError(f"init must be text, not {shown(table['init'])}")
    for name in MASK_OPTIONS:
        value = table.get(name)
        items = value if isinstance(value, list | tuple) and name in SEVERAL else [value or ""]
        if not all(isinstance(item, str) for item in items):
            words = "a list of text" if name in SEVERAL else "text"
            raise OptionError(f"{name} must be {words}, not {shown(value)}")
    return Options(**with_present_names(table))


def with_present_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of options in which names that earlier versions wrote are the present ones."""
    optimiser = EARLIER_OPTIMISERS.get(str(values.get("optimiser")))
    return {**values, **({} if optimiser is None else {"optimiser": optimiser})}


def check_keys(names: Iterable[str], known: Iterable[str], *, file: str) -> None:
    """Refuse an unknown key, and an option that only the command line gives; raises OptionError.

    Messages call the kind of file `file`: "a jobs file".
    """
    names = list(names)
    for name in names:
        if name in MACHINE:
            raise OptionError(
                f"{name} is not an option of {file}, which may come from somebody else; "
                f"remove it, and give --{name.replace('_', '-')} on the command line"
            )
    check_known(names, known)


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is not known, and suggest the nearest one that is."""
    known = sorted(known)
    for name in names:
        if name not in known:
            remedy = suggestion(name, known) or f"; known are {', '.join(known)}"
            raise OptionError(f"unknown key {shown(name)}{remedy}")
