"""The values of a file as `Options`: their types checked, errors in one line."""

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gramstyle.errors import OptionError
from gramstyle.run.options import MACHINE, Options

OPTIONS = tuple(field.name for field in fields(Options))
# The options that a file may give; the command line gives the machine's.
FROM_FILES = tuple(name for name in OPTIONS if name not in MACHINE)

# The types of TOML's and JSON's values that options have, and what messages call them.
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def options_from(table: Mapping[str, Any]) -> Options:
    """Return the options that a table of TOML or JSON values describes, or raise an OptionError."""
    return Options(**{name: _typed(name, value) for name, value in table.items()})


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is not known, and suggest the nearest one that is."""
    known = sorted(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise OptionError(f"unknown key {shown(name)}; {remedy}")


def shown(value: object) -> str:
    """Return a value as a short text for a message, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxstring = 200  # long enough for a path
    try:
        return brief.repr(value)
    except ValueError:  # Python does not write numbers of thousands of digits
        return "a number of thousands of digits"


@cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(Options)


def _typed(name: str, value: object) -> Any:
    """Return a value as the option's type."""
    parts = _parts(_kinds()[name])
    for part in parts:
        with suppress(TypeError):
            return _fitted(value, part)
    words = " or ".join(dict.fromkeys(filter(None, map(_words, parts))))
    raise OptionError(f"{name} must be {words}, not {shown(value)}")


def _parts(kind: Any) -> list[Any]:
    """Return the types that an annotation of `Options` allows; a Literal is text."""
    if get_origin(kind) in (Union, UnionType):
        return [part for member in get_args(kind) for part in _parts(member)]
    return [str if get_origin(kind) is Literal else kind]


def _fitted(value: object, kind: Any) -> object:
    """Return a value as one of these types; raise TypeError if it is of another one."""
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_fitted(item, get_args(kind)[0]) for item in value)
    if kind is float and type(value) is int and _fitted(value, int) is value:
        return float(value)
    # The exact type: isinstance(True, int) holds.
    if type(value) is not kind or kind not in _WORDS:
        raise TypeError
    if isinstance(value, int) and abs(value) >= 2**63:  # TOML forbids them, tomllib reads them
        raise TypeError
    return value


def _words(kind: Any) -> str | None:
    """Return how messages describe a type, None if TOML has no values of it."""
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    return _WORDS.get(kind) if item is None else f"a list, each item {_WORDS[item]}"
