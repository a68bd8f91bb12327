"""The recipe of a result, from the settings in its image or in its log."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramstyle.errors import OptionError
from gramstyle.images import read_settings
from gramstyle.run.options import EARLIER_OPTIMISERS, MOST_STYLES
from gramstyle.run.options.values import (
    FROM_FILES,
    MACHINE,
    names_image,
    shown,
)
from gramstyle.run.recipes.recipe import Recipe
from gramstyle.run.recipes.toml_text import is_text
from gramstyle.run.records.reading import read_start


def recipe_of(path: str | os.PathLike[str]) -> Recipe:
    """Return the recipe of an image that gramstyle has rendered.

    A transfer with this recipe renders the same pixels, from the same images, with the same
    network, on the same machine with the same options of the machine.

    Parameters
    ----------
    path
        The image, or the log of its run (``--log``, a JSON lines file).

    Returns
    -------
    Recipe
        Its paths are the names of the image files without their folders, which the settings do not
        contain. Images that were not read from files are missing, and its notes say so.

    Raises
    ------
    GramstyleError
        If the file cannot be read, or does not contain the settings of a transfer.

    Examples
    --------
    >>> from gramstyle import Options, recipe_of, transfer
    >>> from gramstyle.images import from_pil, write_image
    >>> image, record = transfer("photo.jpg", "painting.jpg", Options(size=32, iterations=2))
    >>> write_image("small.png", from_pil(image), settings=record.settings.to_json())
    >>> recipe = recipe_of("small.png")
    >>> recipe.content.name, recipe.options().size
    ('photo.jpg', 32)
    """
    path = Path(path)
    settings = read_start(path) if _is_log(path) else read_settings(path)
    if settings is None:
        raise OptionError(f"{path} does not contain the settings of a run of gramstyle")
    given = settings.get("given")
    if not isinstance(given, dict):
        raise OptionError(
            f"{path} was written by a gramstyle that did not store the given options; render it "
            "again"
        )
    try:
        return _recipe(settings, given)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None


def _is_log(path: Path) -> bool:
    """Return whether a file begins as JSON lines do, not as an image; False if it is unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def _recipe(settings: Mapping[str, Any], given: Mapping[str, Any]) -> Recipe:
    program = _brief(settings.get("program"))
    for name in given:
        if name not in FROM_FILES:
            raise OptionError(
                f"it was made by {program}, and this gramstyle has no option {shown(name)}; use "
                "the one that made it"
            )
    content, *styles = _names(settings)
    missing = [role for role, name in (("content", content), *_numbered(styles)) if not name]
    lost = [
        name
        for name, value in given.items()
        if names_image(name, value)
        and not all(map(_is_file, value if isinstance(value, list) else [value]))
    ]
    values = {name: value for name, value in given.items() if name not in lost}
    optimiser = str(settings.get("optimiser"))
    if optimiser in EARLIER_OPTIMISERS:  # it may have been the default, which is another one now
        values["optimiser"] = EARLIER_OPTIMISERS[optimiser]
    found = Recipe(
        content=Path(content) if content else None,
        styles=tuple(Path(name) for name in styles) if all(styles) else (),
        values=values,
        notes=_notes(settings, program, missing + lost),
    )
    found.options(device="cpu")  # refuses wrong values; an engine may need the device cuda
    return found


def _names(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the content image and of the style images; "" for one without a file."""
    content, style = settings.get("content"), settings.get("style")
    styles = style if isinstance(style, list) else [style]
    described = [content, *styles[:MOST_STYLES]]
    if len(described) < 2 or not all(isinstance(each, dict) for each in described):
        raise OptionError("it is not the result of a transfer, and a recipe describes a transfer")
    names = [each.get("name") for each in described]
    return [name if _is_file(name) else "" for name in names]


def _is_file(name: object) -> bool:
    """Return whether a record's name of an image is that of a file which a recipe can name."""
    if isinstance(name, list):
        return all(map(_is_file, name))
    if not isinstance(name, str) or not name or "\0" in name or not is_text(name):
        return False
    return Path(name).name == name != ".." and not (name.startswith("(") and name.endswith(")"))


def _brief(value: object) -> str:
    return value[:100] if isinstance(value, str) else shown(value)


def _numbered(styles: list[str]) -> list[tuple[str, str]]:
    return [(f"style image {number}", name) for number, name in enumerate(styles, start=1)]


def _notes(settings: Mapping[str, Any], program: str, missing: list[str]) -> tuple[str, ...]:
    model = settings.get("model")
    sha256 = model.get("sha256") if isinstance(model, dict) else None
    machine = [
        f"{name} {_brief(settings[name])}" for name in MACHINE if settings.get(name) is not None
    ]
    notes = [f"The recipe of an image by {program}, with the network {_brief(sha256)}."]
    if machine:
        notes.append(f"A recipe does not choose the machine. This run had {', '.join(machine)}.")
    notes += [f"Not read from a file that can be named here: {role}." for role in missing]
    return tuple(notes)
