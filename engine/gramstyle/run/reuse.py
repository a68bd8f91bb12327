"""Whether an image is there already, made in the same way: what a stopped figure or batch asks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramstyle.errors import ImageError
from gramstyle.images import read_image, read_settings
from gramstyle.run.prepare import Plan

# What a record says that does not change the image.
ASIDE = (
    "program", "threads", "max_pixels", "memory", "scheduler", "workers", "levels", "versions",
    "result",
)  # fmt: skip
# Where it describes images: their pixels count, not what their files are called.
IMAGES = ("content", "style", "start")


def settings_of(path: Path, mark: Mapping[str, str], *, owner: str) -> dict[str, Any]:
    """Return the settings in an image file, if the image is the owner's.

    Parameters
    ----------
    path
        The file; it exists.
    mark
        The settings by which the owner knows its image.
    owner
        What the error calls the owner, such as "this figure".

    Raises
    ------
    ImageError
        If the file has no such settings, or cannot be read; it is left alone.
    """
    settings = read_settings(path)
    if settings is None or any(settings.get(name) != value for name, value in mark.items()):
        raise ImageError(
            f"{path} is none of {owner}'s images and would be overwritten; move it away"
        )
    return settings


def find_made(
    path: Path, planned: Plan, mark: Mapping[str, str], *, owner: str
) -> dict[str, Any] | None:
    """Return the settings in an image file, if its image is what a plan would make.

    None where it was made in another way, or is torn. Takes and raises what `settings_of` does.
    """
    settings = settings_of(path, mark, owner=owner)
    if not _same(settings, {**planned.settings, **mark}):
        return None
    options = planned.options
    try:
        most = max(options.max_pixels, options.size**2)
        found = read_image(path, max_pixels=most)
    except ImageError:  # torn, by a disk or a copy
        return None
    canvas = planned.artwork if planned.photograph is None else planned.photograph
    if canvas is None or (found.width, found.height) != (canvas.width, canvas.height):
        return None
    return settings


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether two records describe the same run, as far as its image depends on it."""
    return _essence(found) == _essence(json.loads(json.dumps(dict(wanted))))


def _essence(settings: Mapping[str, Any]) -> dict[str, Any]:
    essence = {name: value for name, value in settings.items() if name not in ASIDE}
    for name in IMAGES:
        described = essence.get(name)
        if isinstance(described, dict):
            essence[name] = {key: value for key, value in described.items() if key != "name"}
    if essence.get("start") is not None:
        essence.pop("init", None)  # the name of the image to start from
    return essence
