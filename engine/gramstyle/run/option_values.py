"""The values of a file as `Options`: errors in one line."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from gramstyle.errors import OptionError, suggestion
from gramstyle.run.coercion import shown
from gramstyle.run.mask_options import MASK_OPTIONS, SEVERAL
from gramstyle.run.options import MACHINE, Options

__all__ = ["FROM_FILES", "MACHINE", "OPTIONS", "check_known", "options_from", "shown"]

OPTIONS = tuple(field.name for field in fields(Options))
# A file may come from somebody else: it does not choose the machine.
FROM_FILES = tuple(name for name in OPTIONS if name not in MACHINE)


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
    return Options(**table)


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is not known, and suggest the nearest one that is."""
    known = sorted(known)
    for name in names:
        if name not in known:
            remedy = suggestion(name, known) or f"; known are {', '.join(known)}"
            raise OptionError(f"unknown key {shown(name)}{remedy}")
