"""The values of options as plain Python values.

Notebooks pass NumPy scalars, arrays and text; files contain other types than the command line. If
the meaning is clear, a value is converted to the type of its option, so that records, checkpoints
and comparisons contain only this type. Any other value raises an OptionError that names the option.
"""

import re
import reprlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields
from decimal import Decimal
from functools import cache
from itertools import islice
from numbers import Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from gramstyle.errors import OptionError, suggestion

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# More items than any list of layers or weights has: an iterator may have no end.
MOST_ITEMS = 1000

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip

# The types of options, and what messages call them.
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
# NumPy's kinds of dates and periods, whose numbers mean nothing without a unit.
_TIMES = "mM"


def make_plain(options: "DataclassInstance") -> None:
    """Replace the values of a frozen dataclass of options by plain values of the annotated types.

    Raises
    ------
    OptionError
        If a value has another type, and its meaning is not clear.
    """
    kinds = _kinds(type(options))
    for each in fields(options):
        value = _plain_or_refused(each.name, getattr(options, each.name), kinds[each.name])
        object.__setattr__(options, each.name, value)


def check_bounds(options: "DataclassInstance", bounds: Mapping[str, tuple[int, int]]) -> None:
    """Refuse options beyond their least or largest value; raises OptionError."""
    for name, (least, most) in bounds.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise OptionError(f"{name} must be at least {least}, not {shown(value)}")
        if value is not None and value > most:
            raise OptionError(f"{name} must be at most {most:,}, not {shown(value)}")


def choose(options: "DataclassInstance", choices: Mapping[str, Iterable[str]]) -> None:
    """Replace the names in these options by the choices that they mean; the case is ignored.

    Raises
    ------
    OptionError
        If a name is not one of the choices; suggests the nearest one.
    """
    for name, known in choices.items():
        value, known = getattr(options, name), tuple(known)
        if value is None:
            continue
        meant = [each for each in known if each.casefold() == value.strip().casefold()]
        if not meant:
            words = " or ".join(known) if len(known) == 2 else "one of " + ", ".join(known)
            raise OptionError(
                f"{name} must be {words}, not {shown(value)}{suggestion(value, known)}"
            )
        object.__setattr__(options, name, meant[0])


def size_in_bytes(text: str) -> int:
    """Return the number of bytes of a size like 2GB, 1.5GiB or 800M; raises ValueError."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?I?)B?", text.strip().upper())
    if found is None or found[2] not in UNITS:
        raise ValueError(f"{text!r} is not a size like 2GB")
    return int(float(found[1]) * UNITS[found[2]])


def names_in(text: str) -> tuple[str, ...]:
    """Return the names of a list like conv1_1,conv2_1."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers_in(text: str) -> tuple[float, ...]:
    """Return the numbers of a list like 0.2,0.2,0.6; raises ValueError."""
    return tuple(float(number) for number in text.split(","))


def shown(value: object) -> str:
    """Return a value as a short text of one line for a message, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxstring = 200  # long enough for a path
    try:
        return " ".join(brief.repr(value).split())
    except ValueError:  # Python does not write numbers of thousands of digits
        return "a number of thousands of digits"


@cache
def _kinds(options: type) -> dict[str, Any]:
    return get_type_hints(options)


def _plain_or_refused(name: str, value: object, kind: Any) -> object:
    kinds = [part for part in _parts(kind) if part is not NoneType]
    if value is None and len(kinds) < len(_parts(kind)):
        return None
    if len(kinds) == 2 and get_args(kinds[1])[:1] == (kinds[0],):  # a number, or a list of some
        return _number_or_list(name, value, kinds[1])
    if get_origin(kinds[0]) is tuple and len(_parts(get_args(kinds[0])[0])) > 1:
        return _images(value)
    if len(kinds) > 1:  # an image, which `read_image` checks
        return str.__str__(value) if isinstance(value, str) else value
    try:
        if name == "memory" and isinstance(value, str):
            return size_in_bytes(value)
        return _plain(value, kinds[0])
    except (TypeError, ValueError, OverflowError):
        words = "a number of bytes or a size like 2GB" if name == "memory" else _words(kinds[0])
        raise OptionError(f"{name} must be {words}, not {shown(value)}") from None


def _images(value: object) -> tuple[object, ...]:
    """Return a list of images, also one that is written as on the command line; one as a list."""
    if isinstance(value, str):
        return names_in(value)
    items = value if isinstance(value, list | tuple) else (value,)
    return tuple(str.__str__(item) if isinstance(item, str) else item for item in items)


def _number_or_list(name: str, value: object, kind: Any) -> object:
    """Return a number as a list of one, and a list as it is; refuse other values."""
    try:
        value = _scalar(value)
        return _plain((value,) if isinstance(value, Real | Decimal) else value, kind)
    except (TypeError, ValueError, OverflowError):
        words = f"{_WORDS[get_args(kind)[0]]} or {_words(kind)}"
        raise OptionError(f"{name} must be {words}, not {shown(value)}") from None


def _parts(kind: Any) -> list[Any]:
    """Return the types that an annotation allows; a Literal is text."""
    if get_origin(kind) in (Union, UnionType):
        return [part for member in get_args(kind) for part in _parts(member)]
    return [str if get_origin(kind) is Literal else kind]


def _words(kind: Any) -> str:
    """Return how messages describe a type."""
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    return _WORDS[kind] if item is None else f"a list, each item {_WORDS[item]}"


def _plain(value: Any, kind: Any) -> object:
    """Return a value as a type of an option; raises TypeError, ValueError or OverflowError."""
    value = _scalar(value)
    if get_origin(kind) is tuple:
        return _items(value, get_args(kind)[0])
    if kind is int:
        number = _number(value)
        if number != int(number):
            raise ValueError
        return int(number)
    if kind is float:
        return float(_number(value))
    if not isinstance(value, kind):
        raise TypeError
    return str.__str__(value) if kind is str else value


def _scalar(value: Any) -> Any:
    """Return the Python value of an array without dimensions; other values as they are."""
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    if getattr(getattr(value, "dtype", None), "kind", "") in _TIMES:
        raise TypeError
    return value.item()


def _number(value: object) -> Any:
    """Return a real number, also one that is written as text."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return float(value)
    if isinstance(value, Decimal):
        return float(value)  # as an integer, 1E+999999999 would fill the memory
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    return value


def _items(value: Any, kind: Any) -> tuple[object, ...]:
    """Return the items of a list, also one that is written as on the command line."""
    if isinstance(value, str):
        if kind is str:
            return names_in(value)
        return tuple(_plain(number, kind) for number in numbers_in(value))
    if isinstance(value, bytes | Mapping | Set):  # a set has no order
        raise TypeError
    items = tuple(islice(value, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        raise ValueError
    return tuple(_plain(item, kind) for item in items)
