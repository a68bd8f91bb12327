"""Read the records of runs that `gramstyle.run.records.log` writes, for a plot of the losses.

A record may come from anywhere, so it is treated as hostile: every number is checked before it is
used, and an invalid record is refused in one line that names the file and the line.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from gramstyle.errors import GramstyleError

# With five style layers, an iteration takes 350 bytes, and the start of a run takes 2,000.
MAX_BYTES, MAX_LINE, MAX_ENTRIES = 64_000_000, 1_000_000, 100_000
MAX_LAYERS = 32
# Far above any loss; the product of three such numbers still fits a logarithmic scale.
MAX_NUMBER = 1e60
# The form of a layer's name.
NAME = re.compile(r"[\w.]{1,100}")


class RecordError(GramstyleError):
    """A record that cannot be read."""


@dataclass(frozen=True)
class Point:
    """The losses after one iteration, multiplied by their weights, so that they add up.

    Attributes
    ----------
    iteration, seconds
        The number of iterations, and the time in seconds, since the start of the run.
    total
        L_total.
    terms
        α · L_content, β · L_style and so on, by the losses' names.
    layers
        The values that these are the sums of, such as β · w_l · E_l, by loss and by layer.
    """

    iteration: int
    seconds: float
    total: float
    terms: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class _Loss:
    """The weight of one loss of equation 7, and the weights of its layers."""

    weight: float
    layers: Mapping[str, float]


def read_record(path: Path) -> tuple[Point, ...]:
    """Read a record; that of a stopped run is read up to its last complete line.

    A last line without a line break is ignored if it is truncated.

    Returns
    -------
    tuple of Point
        One point for each iteration, at least one.

    Raises
    ------
    RecordError
        If the file cannot be read or is not a record; names the file and the line.
    """
    points: list[Point] = []
    losses: dict[str, _Loss] | None = None
    event: object = None
    number = 0
    try:
        for number, line in enumerate(io.BytesIO(_read(path)), start=1):
            if number > MAX_ENTRIES:
                _refuse(f"there are more than {MAX_ENTRIES} lines")
            entry = _parsed(line, may_be_cut=losses is not None)
            if entry is None:
                break
            if event == "end":
                _refuse("there is more after the end of the run; a file contains one run")
            event = entry.get("event")
            if losses is None:
                if event != "start":
                    _refuse("a record, which --log writes, begins with a start event")
                losses = _losses(entry)
            elif event == "scale":  # α falls as images grow
                weights = _table(entry, "weights", losses)
                losses = {
                    name: replace(loss, weight=_number(weights, name))
                    for name, loss in losses.items()
                }
            elif event == "iteration":
                points.append(_point(entry, losses, after=points[-1] if points else None))
            elif event != "end":
                _refuse("after the start only iterations, scales and one end may follow")
        if not points:
            _refuse("the record ends before its first iteration")
    except _RefusedError as reason:
        raise RecordError(f"{path}, line {max(number, 1)}: {reason}") from None
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from None
    return tuple(points)


def read_start(path: Path) -> dict[str, Any]:
    """Return the settings with which a record begins; raises RecordError if it has none."""
    try:
        with path.open("rb") as file:
            entry = _parsed(file.readline(MAX_LINE + 1), may_be_cut=False)
        if entry is None or entry.get("event") != "start":
            _refuse("a record, which --log writes, begins with a start event")
    except _RefusedError as reason:
        raise RecordError(f"{path}, line 1: {reason}") from None
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from None
    return entry


class _RefusedError(Exception):
    """The reason why a line is refused."""


def _refuse(problem: str) -> NoReturn:
    raise _RefusedError(problem)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)  # bounded, since a device reports no size
    if len(data) > MAX_BYTES:
        raise RecordError(f"{path} is larger than a record's {MAX_BYTES // 10**6} MB")
    return data


def _parsed(line: bytes, *, may_be_cut: bool) -> dict[str, Any] | None:
    """Return the object in a line, or None if it is a truncated last line."""
    if len(line) > MAX_LINE:
        _refuse(f"it is longer than {MAX_LINE} bytes")
    try:
        entry = json.loads(line.decode(), parse_constant=_refuse_constant)
    except (UnicodeDecodeError, json.JSONDecodeError):
        if may_be_cut and not line.endswith(b"\n"):
            return None
        _refuse("it is not JSON")
    except (ValueError, RecursionError):  # a number of thousands of digits, or deep nesting
        _refuse("it is not JSON of a reasonable size")
    if not isinstance(entry, dict):
        _refuse("it is not a JSON object")
    return entry


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"it contains {name}, which is not a number")


def _losses(entry: Mapping[str, Any]) -> dict[str, _Loss]:
    """Return the losses of a start event."""
    found: dict[str, _Loss] = {}
    for name, loss in _named(entry.get("loss"), "loss").items():
        if not isinstance(loss, dict):
            _refuse(f"loss does not describe {name}")
        layers = _named(loss.get("layers"), f"the layers of {name}")
        weights = {layer: _checked(value, f"loss of {name}") for layer, value in layers.items()}
        found[name] = _Loss(_number(loss, "weight"), weights)
    return found


def _named(value: object, what: str) -> dict[str, Any]:
    """Return a table whose keys are names, of losses or of layers."""
    if not isinstance(value, dict):
        _refuse(f"{what} is missing or no table")
    if len(value) > MAX_LAYERS:
        _refuse(f"{what} has more than {MAX_LAYERS} entries")
    if not all(NAME.fullmatch(name) for name in value):
        _refuse(f"{what} has an entry that is not the name of a loss or layer")
    return value


def _table(entry: Mapping[str, Any], key: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of an event; refuse it unless it has the names of `like`."""
    value = entry.get(key)
    if not isinstance(value, dict) or value.keys() != like.keys():
        _refuse(f"{key} does not have the names that the start event has")
    return value


def _point(entry: Mapping[str, Any], losses: Mapping[str, _Loss], *, after: Point | None) -> Point:
    """Return the point of an iteration; refuse it unless it follows the point `after`."""
    iteration, seconds = entry.get("iteration"), _number(entry, "seconds")
    if not isinstance(iteration, int) or _number(entry, "iteration") != iteration:
        _refuse("iteration is not an integer from 0 up")
    if after is not None and (iteration <= after.iteration or seconds < after.seconds):
        _refuse("iteration or seconds do not grow from line to line")
    terms, layers = _table(entry, "terms", losses), _table(entry, "layers", losses)
    weighted: dict[str, dict[str, float]] = {}
    for name, loss in losses.items():
        values = _table(layers, name, loss.layers)
        weighted[name] = {
            layer: loss.weight * w * _number(values, layer) for layer, w in loss.layers.items()
        }
    return Point(
        iteration=iteration,
        seconds=seconds,
        total=_number(entry, "loss"),
        terms={name: loss.weight * _number(terms, name) for name, loss in losses.items()},
        layers=weighted,
    )


def _number(entry: Mapping[str, Any], key: str) -> float:
    return _checked(entry.get(key), key)


def _checked(value: object, name: str) -> float:
    # In Python, JSON's true and false are integers too.
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(f"{name} is missing or not a number")
    if not 0 <= value <= MAX_NUMBER:
        _refuse(f"{name} is not a number from 0 to {MAX_NUMBER:g}")
    return float(value)
