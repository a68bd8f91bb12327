"""The options of a job: which ones a client may give, what they mean, and their limits."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gramstyle.errors import OptionError
from gramstyle.run.options import BOUNDS, CHOICES, GROUPS, STYLE_BOUNDS, Options
from gramstyle.run.options.masks import SEVERAL, check_masks
from gramstyle.run.options.precedence import combined
from gramstyle.run.options.values import (
    FROM_FILES,
    MACHINE,
    check_known,
    names_image,
    options_from,
    shown,
)
from gramstyle.run.presets import preset_values
from gramstyle.serve.job import Request
from gramstyle.serve.limits import Limits

# The service chooses how it computes. SciPy's optimiser has no state that can be saved.
_NOT_OF_A_JOB = ("engine", "tf32", "tile", "history", "optimiser", "content_layer")

# The options of a job, with those first that people use most.
_FIRST = (
    "size", "iterations", "content_strength", "style_scale", "style_blend", "colours", "style_loss",
    "tv", "scales", "pooling",
)  # fmt: skip
JOB_OPTIONS = (
    *_FIRST,
    *(name for name in FROM_FILES if name not in _FIRST and name not in _NOT_OF_A_JOB),
)

# For artists: a label, and what the option does to the image.
_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "size": ("Size", "The longer edge of the result, in pixels. Twice the size takes four "
                 "times as long."),
        "iterations": ("Iterations", "How often the image is refined. After about 100, little "
                       "changes."),
        "content_strength": ("Content strength", "2 keeps more of the photograph, 0.5 gives the "
                             "painting more room."),
        "style_scale": ("Stroke size", "The size of the strokes: 2 doubles it, 0.5 halves it."),
        "style_blend": ("Shares of the paintings", "How much of each painting the result gets; "
                        "3,1 is three quarters of the first one."),
        "colours": ("Colours", "style: those of the painting. content: those of the photograph. "
                    "match: those of the painting, shifted towards the photograph."),
        "style_loss": ("Style by", "gram: textures, as in the paper. mean-std: a softer, simpler "
                       "style. covariance: keeps more of the photograph's colours."),
        "tv": ("Smoothness", "0 leaves every detail; 100 or more smooths grain away."),
        "scales": ("Scales", "How many sizes the image passes through, from coarse to fine; "
                   "empty: as many as its size needs."),
        "pooling": ("Pooling", "avg gives softer strokes, max crisper ones."),
        "seed": ("Seed", "The number from which noise is made, for runs that start from noise."),
    }
)  # fmt: skip


@dataclass(frozen=True)
class OptionDescription:
    """An option as a page or a program shows it.

    Attributes
    ----------
    name, label, description
        The option, what a form calls it, and what it does.
    type
        "number", "integer", "choice", "text", or "list" of numbers or names.
    default
        Its default; None where it depends on other options.
    minimum, maximum
        The least and the largest value of a number; None where there is no limit.
    choices
        The values of a choice.
    """

    name: str
    label: str
    description: str
    type: Literal["number", "integer", "choice", "text", "list"]
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...] | None


def described_options(limits: Limits) -> tuple[OptionDescription, ...]:
    """Return the options of a job with their defaults and limits, the most used ones first."""
    return tuple(_described(name, limits) for name in JOB_OPTIONS)


def uploads_of(request: Request) -> tuple[str, ...]:
    """Return the ids of all uploads that a request names: its images, a start, and masks."""
    named = [
        value
        for name, value in request.options.items()
        if names_image(name, value) and value is not None
    ]
    masks = [each for value in named for each in (value if isinstance(value, list) else [value])]
    return (request.content, *request.styles, *masks)


def check_request(request: Request, limits: Limits) -> Options:
    """Check the options of a request, as the command line does, and the limits of the service.

    Returns
    -------
    Options
        The options, in which images are ids of uploads.

    Raises
    ------
    OptionError
        If an option is unknown, has a wrong value, contradicts another one or is above a limit.
    """
    _check_names(request.options)
    if not 1 <= len(request.styles) <= limits.styles:
        raise OptionError(f"give from 1 to {limits.styles} style images, not {len(request.styles)}")
    options = job_options(request)
    options.style_shares(len(request.styles))  # refuses another number of styles
    check_masks(options, content=True, styles=len(request.styles))
    for name in ("size", "iterations"):
        most, value = getattr(limits, name), getattr(options, name)
        if value > most:
            raise OptionError(f"{name} must be at most {most} on this server, not {value}")
    largest = round(max(options.style_scales) * options.size)
    if largest > 2 * limits.size:
        raise OptionError(
            f"the style images would have edges of {largest} pixels, and this server computes "
            f"{2 * limits.size} at most; choose a smaller style_scale or style_size"
        )
    return options


def job_options(request: Request, machine: Mapping[str, Any] | None = None) -> Options:
    """Return the options of a request over those of its preset; raises OptionError."""
    preset = {} if request.preset is None else preset_values(request.preset)
    return options_from(combined(preset, request.options, machine or {}))


def _check_names(options: Mapping[str, Any]) -> None:
    for name in options:
        if name in MACHINE or name in _NOT_OF_A_JOB:
            raise OptionError(f"{name} is not an option of a job, the server chooses it; remove it")
    check_known(options, JOB_OPTIONS)
    for name, value in options.items():
        items = value if isinstance(value, list) and name in SEVERAL else [value]
        if names_image(name, value) and value is not None:
            for item in items:
                if not isinstance(item, str) or "," in item:
                    raise OptionError(f"{name} must be the id of an upload, not {shown(item)}")


def _described(name: str, limits: Limits) -> OptionDescription:
    label, description = _WORDS.get(name, (name.replace("_", " "), _documented()[name]))
    default = getattr(Options(), name)
    minimum, maximum = _bounds(name, limits)
    choices = CHOICES.get(name)
    return OptionDescription(
        name=name,
        label=label,
        description=description,
        type=_type(name),
        default=list(default) if isinstance(default, tuple) else default,
        minimum=minimum,
        maximum=maximum,
        choices=None if choices is None else tuple(choices),
    )


def _bounds(name: str, limits: Limits) -> tuple[float | None, float | None]:
    if name in ("size", "iterations"):
        return BOUNDS[name][0], getattr(limits, name)
    if name in BOUNDS:
        return BOUNDS[name]
    if name in STYLE_BOUNDS:
        return 0, STYLE_BOUNDS[name]
    return (0, None) if _type(name) == "number" else (None, None)


@cache
def _type(name: str) -> Literal["number", "integer", "choice", "text", "list"]:
    if name in CHOICES:
        return "choice"
    kinds = [each for each in _parts(get_type_hints(Options)[name]) if each is not NoneType]
    if int in kinds and not any(get_origin(each) is tuple for each in kinds):
        return "integer"
    if float in kinds and len(kinds) == 1:
        return "number"
    return "list" if any(get_origin(each) is tuple for each in kinds) else "text"


def _parts(kind: Any) -> tuple[Any, ...]:
    return (kind,) if get_origin(kind) is tuple or not get_args(kind) else get_args(kind)


@cache
def _documented() -> Mapping[str, str]:
    """Return the description of each option from the docstrings of the groups of options."""
    found: dict[str, str] = {}
    for group in GROUPS:
        text = inspect.getdoc(group) or ""
        section = text.partition("Attributes\n----------\n")[2].partition("\nExamples\n")[0]
        for entry in re.finditer(r"^(\w+)\n((?:    .*\n?)+)", section, re.MULTILINE):
            found[entry[1]] = " ".join(entry[2].split()).replace("`", "")
    return found


def with_files(request: Request, files: Mapping[str, str]) -> Request:
    """Return a request in which images among the options are files, by the ids of uploads."""
    options = dict(request.options)
    for name, value in options.items():
        if isinstance(value, list) and names_image(name, value):
            options[name] = [files[each] for each in value]
        elif isinstance(value, str) and names_image(name, value):
            options[name] = [files[value]] if name in SEVERAL else files[value]
    return Request(
        content=files[request.content],
        styles=tuple(files[each] for each in request.styles),
        preset=request.preset,
        options=options,
    )
