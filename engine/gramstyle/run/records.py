"""Records of runs, as `gramstyle.run.log` writes them, read back for an image of the losses.

A record may come from anywhere, so it is taken for hostile: every number is checked before it is
used, and what does not fit is refused in one line that names the file and its line.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from gramstyle.core.objective import Weights
from gramstyle.errors import GramstyleError

# An iteration of a run with five style layers takes 350 bytes, the start of one 2,000.
MAX_BYTES, MAX_LINE, MAX_ENTRIES = 64_000_000, 1_000_000, 100_000
MAX_LAYERS = 32
# Far beyond any loss, and a logarithmic scale still holds a product of three such numbers.
MAX_NUMBER = 1e60
# What the names of a network's layers are made of.
NAME = re.compile(r"[\w.]{1,100}")


class RecordError(GramstyleError):
    """A record that cannot be read."""


@dataclass(frozen=True)
class Point:
    """The losses after one iteration, each times its weights, so that they add up.

    Attributes
    ----------
    iteration, seconds
        How many iterations, and how long, since the run began.
    total
        L_total.
    content, style
        α · L_content and β · L_style.
    layers
        β · w_l · E_l by layer.
    """

    iteration: int
    seconds: float
    total: float
    content: float
    style: float
    layers: Mapping[str, float]


def read_record(path: Path) -> tuple[Point, ...]:
    """Read a record; of a run that was stopped, the part that is whole.

    A last line without a line break may have been cut, and is left out if it has been.

    Returns
    -------
    tuple of Point
        One for each iteration, at least one.

    Raises
    ------
    RecordError
        If the file cannot be read or is no record, naming the file and the line.
    """
    points: list[Point] = []
    weights: Weights | None = None
    event: object = None
    number = 0
    try:
        for number, line in enumerate(io.BytesIO(_read(path)), start=1):
            if number > MAX_ENTRIES:
                _refuse(f"there are more than {MAX_ENTRIES} lines")
            entry = _parsed(line, may_be_cut=weights is not None)
            if entry is None:
                break
            if event == "end":
                _refuse("there is more after the end of the run; a file holds one run")
            event = entry.get("event")
            if weights is None:
                if event != "start":
                    _refuse("a record, which --log writes, begins with a start event")
                weights = _weights(entry)
            elif event == "level":  # α falls as images grow
                alpha, beta = _number(entry, "alpha"), _number(entry, "beta")
                weights = replace(weights, alpha=alpha, beta=beta)
            elif event == "iteration":
                points.append(_point(entry, weights, after=points[-1] if points else None))
            elif event != "end":
                _refuse("what follows a start are iterations and levels, then one end")
        if not points:
            _refuse("the record ends before its first iteration")
    except _RefusedError as reason:
        raise RecordError(f"{path}, line {max(number, 1)}: {reason}") from None
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from None
    return tuple(points)


class _RefusedError(Exception):
    """What is wrong with a line."""


def _refuse(problem: str) -> NoReturn:
    raise _RefusedError(problem)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)  # a device has no size to ask for
    if len(data) > MAX_BYTES:
        raise RecordError(f"{path} is larger than a record's {MAX_BYTES // 10**6} MB")
    return data


def _parsed(line: bytes, *, may_be_cut: bool) -> dict[str, Any] | None:
    """Return the object that a line holds, or None if it is a last line that was cut."""
    if len(line) > MAX_LINE:
        _refuse(f"it is longer than {MAX_LINE} bytes")
    try:
        entry = json.loads(line.decode(), parse_constant=_refuse_constant)
    except (UnicodeDecodeError, json.JSONDecodeError):
        if may_be_cut and not line.endswith(b"\n"):
            return None
        _refuse("it is not JSON")
    except (ValueError, RecursionError):  # a number of thousands of digits, or of brackets
        _refuse("it is not JSON of a sensible size")
    if not isinstance(entry, dict):
        _refuse("it is not a JSON object")
    return entry


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"it holds {name}, which is no number")


def _weights(entry: Mapping[str, Any]) -> Weights:
    """Return α, β and w_l of a start; a run without a painting has no w_l."""
    names, w = entry.get("style_layers"), entry.get("style_weights")
    if not isinstance(names, list) or not isinstance(w, list):
        _refuse("style_layers and style_weights are not lists")
    if len(names) > MAX_LAYERS or len(w) not in (0, len(names)):
        _refuse(f"style_layers and style_weights are not as long, or longer than {MAX_LAYERS}")
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        _refuse("style_layers holds something that is no layer's name")
    if len(set(names)) != len(names):
        _refuse("style_layers names a layer twice")
    return Weights(
        alpha=_number(entry, "alpha"),
        beta=_number(entry, "beta"),
        w={name: _checked(value, "style_weights") for name, value in zip(names, w, strict=False)},
    )


def _point(entry: Mapping[str, Any], weights: Weights, *, after: Point | None) -> Point:
    """Return the point of an iteration, which comes after the one before."""
    iteration, seconds = entry.get("iteration"), _number(entry, "seconds")
    if not isinstance(iteration, int) or _number(entry, "iteration") != iteration:
        _refuse("iteration is no whole number from 0 up")
    if after is not None and (iteration <= after.iteration or seconds < after.seconds):
        _refuse("iteration or seconds do not grow from line to line")
    style = entry.get("style")
    if not isinstance(style, dict) or style.keys() != weights.w.keys():
        _refuse("style does not hold a loss for each style layer of the start")
    return Point(
        iteration=iteration,
        seconds=seconds,
        total=_number(entry, "loss"),
        content=weights.alpha * _number(entry, "content"),
        style=weights.beta * _number(entry, "style_loss"),
        layers={name: weights.beta * w * _number(style, name) for name, w in weights.w.items()},
    )


def _number(entry: Mapping[str, Any], key: str) -> float:
    return _checked(entry.get(key), key)


def _checked(value: object, name: str) -> float:
    # JSON's true and false are numbers to Python.
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(f"{name} is missing or no number")
    if not 0 <= value <= MAX_NUMBER:
        _refuse(f"{name} is no number from 0 to {MAX_NUMBER:g}")
    return float(value)
