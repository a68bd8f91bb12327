"""What a jobs file says of the options, as `Options`."""

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gramstyle.errors import OptionError
from gramstyle.run.options import Options

OPTIONS = tuple(field.name for field in fields(Options))

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_MISFIT = object()


def options_from(table: Mapping[str, Any]) -> Options:
    """Return the options that a table of plain values describes.

    Raises
    ------
    OptionError
        If a value is not of the option's type, or makes no sense.
    """
    return Options(**{name: _typed(name, value) for name, value in table.items()})


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is none of those known, and suggest the nearest.

    Raises
    ------
    OptionError
        With the name.
    """
    known = sorted(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise OptionError(f"unknown key {shown(name)}; {remedy}")


def shown(value: object) -> str:
    """Return a value as part of a line, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxstring = 200  # a path should be seen whole
    try:
        return brief.repr(value)
    except ValueError:  # Python does not write numbers of thousands of digits
        return "a number of thousands of digits"


def _typed(name: str, value: object) -> Any:
    kind = _kinds()[name]
    fitted = _fitted(value, kind)
    if fitted is _MISFIT:
        words = " or ".join(dict.fromkeys(_words(kind)))
        raise OptionError(f"{name} must be {words}, not {shown(value)}")
    return fitted


@cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(Options)


def _fitted(value: object, kind: Any) -> object:
    """Return a value of TOML as an annotation of `Options` has it, or `_MISFIT`."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        fitting = (_fitted(value, part) for part in get_args(kind))
        return next((fitted for fitted in fitting if fitted is not _MISFIT), _MISFIT)
    if origin is tuple and isinstance(value, list):
        items = [_fitted(item, get_args(kind)[0]) for item in value]
        return _MISFIT if any(item is _MISFIT for item in items) else tuple(items)
    if origin is Literal:
        kind = str
    if type(value) is int and abs(value) >= 2**63:  # TOML has no larger ones, its reader does
        return _MISFIT
    if kind is float and type(value) is int:
        return float(value)
    # By the type itself: True is an int too.
    return value if kind in _WORDS and type(value) is kind else _MISFIT


def _words(kind: Any) -> list[str]:
    """Return what to call the values of TOML that an annotation takes."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return [word for part in get_args(kind) for word in _words(part)]
    if origin is tuple:
        return [f"a list, each item {word}" for word in _words(get_args(kind)[0])]
    return (
        [_WORDS[str if origin is Literal else kind]] if origin is Literal or kind in _WORDS else []
    )
