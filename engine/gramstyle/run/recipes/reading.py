"""Read a recipe from a TOML file, which may come from anybody."""

from pathlib import Path
from typing import Any

from gramstyle.errors import GramstyleError, OptionError
from gramstyle.run.options import MOST_STYLES
from gramstyle.run.options.coercion import names_in
from gramstyle.run.options.masks import SEVERAL
from gramstyle.run.options.values import check_keys, names_image, shown
from gramstyle.run.presets import preset_values
from gramstyle.run.recipes.recipe import KEYS, VERSION, Recipe
from gramstyle.system.toml_file import read_toml

# A recipe of all options takes two thousand bytes.
MOST_BYTES = 100_000


def read_recipe(path: Path) -> Recipe:
    r"""Read a recipe, and check its keys and the values of its options.

    Parameters
    ----------
    path
        A TOML file with any of these keys: ``version``, ``preset``, ``content``, ``style`` (an
        image, or a list of some), and the options of a transfer, except those of the machine.
        Paths are relative to the folder of the file. The images are not opened.

    Raises
    ------
    GramstyleError
        If the file cannot be read or is not TOML.
    OptionError
        If a key is unknown, a value is wrong, or the recipe is of a newer version.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gramstyle import read_recipe
    >>> file = Path("recipe.toml")
    >>> _ = file.write_text('preset = "painterly"\nstyle = "painting.jpg"\nsize = 768')
    >>> recipe = read_recipe(file)
    >>> recipe.options().size, recipe.styles[0].name
    (768, 'painting.jpg')
    """
    path = Path(path)
    table = read_toml(
        path, what="a recipe", most_bytes=MOST_BYTES, remedy="a recipe has one line for each option"
    )
    try:
        _check_version(table.pop("version", VERSION))
        check_keys(table, KEYS, file="a recipe")
        return _recipe(table, path.absolute().parent)
    except GramstyleError as error:
        raise type(error)(f"{path.name}: {error}") from None


def _recipe(table: dict[str, Any], folder: Path) -> Recipe:
    preset = table.pop("preset", None)
    if preset is not None:
        preset_values(preset)  # refuses an unknown name
    content, style = table.pop("content", None), table.pop("style", None)
    if isinstance(style, list) and not 1 <= len(style) <= MOST_STYLES:
        raise OptionError(f"style must have from 1 to {MOST_STYLES} images, not {len(style)}")
    styles = [] if style is None else style if isinstance(style, list) else [style]
    found = Recipe(
        content=None if content is None else _image("content", content, folder),
        styles=tuple(_image("style", each, folder) for each in styles),
        preset=preset,
        values={name: _resolved(name, value, folder) for name, value in table.items()},
    )
    found.options(device="cpu")  # refuses wrong values; an engine may need the device cuda
    return found


def _check_version(version: object) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise OptionError(f"version must be a whole number from 1 upwards, not {shown(version)}")
    if version > VERSION:
        raise OptionError(
            f"it is a recipe of version {shown(version)}, and this gramstyle reads version "
            f"{VERSION}; update gramstyle"
        )


def _resolved(name: str, value: Any, folder: Path) -> Any:
    """Return the value of an option; names of images become absolute paths, as text."""
    if not names_image(name, value):
        return value
    if isinstance(value, str) and name in SEVERAL:  # written as on the command line
        value = list(names_in(value))
    if isinstance(value, list):
        return [str(_image(name, each, folder)) for each in value]
    return str(_image(name, value, folder))


def _image(name: str, value: object, folder: Path) -> Path:
    if not isinstance(value, str):
        raise OptionError(f"{name} must be text, not {shown(value)}")
    if not value or "\0" in value:
        raise OptionError(f"{name} is not a path: {shown(value)}")
    return folder / value
