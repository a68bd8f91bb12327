"""The masks among the options: their roles, their files, and checks that need no pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

from gramstyle.errors import OptionError
from gramstyle.images import Source
from gramstyle.run.options import MOST_STYLES, Options

# The options that are one mask or label map, and those with one for each style image, with the role
# of their first one.
SINGLE = ("content_labels", "protect")
SEVERAL = {"style_regions": "region", "style_labels": "style_labels"}
MASK_OPTIONS = (*SINGLE, *SEVERAL)


def roles_of(name: str, count: int) -> tuple[str, ...]:
    """Return the roles of the masks of an option: "region", "region2" and so on."""
    if name in SINGLE:
        return (name,)
    first = SEVERAL[name]
    return (first, *(f"{first}{number}" for number in range(2, count + 1)))[:count]


# All roles that a mask may have.
MASK_ROLES = tuple(role for name in MASK_OPTIONS for role in roles_of(name, MOST_STYLES))


def mask_sources(options: Options) -> dict[str, Source]:
    """Return the masks and label maps of the options by role."""
    found: dict[str, Source] = {}
    for name in MASK_OPTIONS:
        value = getattr(options, name)
        if value is not None:
            sources = value if name in SEVERAL else (value,)
            found |= dict(zip(roles_of(name, len(sources)), sources, strict=True))
    return found


def mask_values(files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options by name whose masks are these files by role; other roles are skipped."""
    values: dict[str, Any] = {}
    for name in MASK_OPTIONS:
        found = [files[role] for role in roles_of(name, MOST_STYLES) if role in files]
        if found:
            values[name] = tuple(found) if name in SEVERAL else found[0]
    return values


def check_masks(options: Options, *, content: bool, styles: int) -> None:
    """Check the masks of a run, which needs no pixels.

    Parameters
    ----------
    options
        The options.
    content, styles
        Whether there is a content image, and how many style images there are.

    Raises
    ------
    OptionError
        If masks are missing, too many, or without a meaning; names the option.
    """
    labels = options.content_labels, options.style_labels
    if (labels[0] is None) != (labels[1] is None):
        there, missing = ("content", "style") if labels[1] is None else ("style", "content")
        raise OptionError(
            f"{there}_labels needs {missing}_labels, whose colours name the same regions; give both"
        )
    if options.style_regions is not None and labels[0] is not None:
        raise OptionError(
            "style_regions and labels both say where a style applies; give style_regions, or "
            "content_labels and style_labels"
        )
    for name in SEVERAL:
        masks: Sequence[Source] | None = getattr(options, name)
        if masks is not None and len(masks) != styles:
            kind = "mask" if name == "style_regions" else "label map"
            raise OptionError(
                f"{name} has {_counted(len(masks), kind)} for {_counted(styles, 'style image')}; "
                f"give one {kind} for each style image"
            )
    if mask_sources(options) and options.style_loss != "gram":
        raise OptionError(
            f"masks guide Gram matrices, and style_loss is {options.style_loss}; leave style_loss "
            "or the masks out"
        )
    if options.protect is not None and not (content and styles):
        raise OptionError(
            "protect keeps a part of a content image from the style; it needs both images"
        )


def region_shares(options: Options, count: int) -> tuple[float, ...]:
    """Return a factor for each of so many regions; their mean is 1.

    The region of a style image has its share of `style_blend`. A label has the mean style of the
    images that contain it, and the factor 1.
    """
    if options.style_regions is None:
        return (1.0,) * count
    return tuple(count * share for share in options.style_shares(count))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
