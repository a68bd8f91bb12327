"""The name of a job's image, from the pattern that the jobs file has for it."""

import string
from pathlib import Path
from typing import Any

from gramstyle.batch.values import OPTIONS, check_known, shown
from gramstyle.errors import OptionError
from gramstyle.run.options import STARTS, Options

# Beside the options: the photograph's name without its ending, its folder's name, the painting's.
PLACES = ("content", "folder", "style", *OPTIONS)


def output_name(pattern: str, content: Path, style: Path, options: Options) -> str:
    """Return a pattern with its places, such as {content}, filled in.

    Raises
    ------
    OptionError
        If the pattern is not one, names what is not known, or an option that has no value here.
    """
    try:
        pieces = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise OptionError(f"output {shown(pattern)}: {error}; write {{{{ for a brace") from None
    name = ""
    for text, place, form, conversion in pieces:
        name += text
        if place is None:
            continue
        if form or conversion:
            raise OptionError(f"output {shown(pattern)}: write {{{place}}} with nothing behind it")
        try:
            check_known([place], PLACES)
        except OptionError as error:
            raise OptionError(f"output {shown(pattern)}: {error}") from None
        if place in ("content", "style"):
            name += {"content": content, "style": style}[place].stem
        elif place == "folder":
            name += content.parent.name
        else:
            name += _text(place, getattr(options, place))
    return name


def _text(name: str, value: Any) -> str:
    if value is None:
        raise OptionError(f"output has {{{name}}} in it, and the job says no {name}; give it one")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "-".join(_text(name, item) for item in value)
    if isinstance(value, float):
        return f"{value:.15g}"
    return Path(value).stem if name == "init" and value not in STARTS else str(value)
