"""A recipe: the images and the options of a transfer, without the machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramstyle.run.options import Options
from gramstyle.run.options.precedence import combined
from gramstyle.run.options.values import FROM_FILES, fitting, options_from
from gramstyle.run.presets import preset_values
from gramstyle.run.recipes.toml_text import toml_text

# The version of the format. A new option does not change it: an older gramstyle names the key.
VERSION = 1

# The keys of a recipe besides the options.
KEYS = ("version", "preset", "content", "style", *FROM_FILES)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The images and the options of a transfer.

    Attributes
    ----------
    content
        The content image; None if the recipe does not name one.
    styles
        The style images; empty if the recipe does not name any.
    preset
        The name of the preset whose values the options replace, or None.
    values
        The values of the options by name; defaults and options of the machine are not among them.
    notes
        What a person should know, one line each. They become comments of the file.

    Examples
    --------
    >>> from gramstyle.run.recipes import Recipe
    >>> recipe = Recipe(preset="fast", values={"tv": 300.0})
    >>> recipe.options(size=512).size, recipe.options().size
    (512, 256)
    >>> print(recipe.to_toml(), end="")
    version = 1
    preset = "fast"
    tv = 300.0
    """

    content: Path | None = None
    styles: tuple[Path, ...] = ()
    preset: str | None = None
    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def options(self, *, preset: str | None = None, **given: Any) -> Options:
        """Return the options, with others in addition, which take precedence.

        Parameters
        ----------
        preset
            The name of a preset to use in place of the recipe's.
        **given
            Options by name.

        Raises
        ------
        OptionError
            If an option has a wrong value, or two contradict each other.
        """
        return options_from(self.values_with(given, preset=preset))

    def values_with(self, given: Mapping[str, Any], *, preset: str | None = None) -> dict[str, Any]:
        """Return the values of preset, recipe and given options, the later ones over the others.

        A given device replaces an engine of the recipe that does not run on it.
        """
        name, values = self.preset if preset is None else preset, self.values
        if given.get("device") is not None:
            values = fitting(values, str(given["device"]).strip().casefold())
        return combined({} if name is None else preset_values(name), values, given)

    def to_toml(self) -> str:
        """Return the text of the recipe's file."""
        table: dict[str, Any] = {"version": VERSION}
        if self.preset is not None:
            table["preset"] = self.preset
        if self.content is not None:
            table["content"] = str(self.content)
        if self.styles:
            names = [str(path) for path in self.styles]
            table["style"] = names if len(names) > 1 else names[0]
        order = {name: number for number, name in enumerate(FROM_FILES)}
        table |= sorted(self.values.items(), key=lambda item: order.get(item[0], len(order)))
        return toml_text(table, comments=self.notes)
