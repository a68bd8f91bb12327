"""The presets and the recipes that a table of a jobs file names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramstyle.batch.patterns import path_in
from gramstyle.errors import OptionError
from gramstyle.run.options.values import shown
from gramstyle.run.presets import preset_values
from gramstyle.run.recipes import Recipe, read_recipe

# The keys that stand for options.
KEYS = ("preset", "recipe")


class Looks:
    """The looks of a table's jobs: each recipe is read once.

    Parameters
    ----------
    folder
        The folder of the jobs file, to which the paths of recipes are relative.
    machine
        The options of the machine by name. Its device replaces engines of recipes that do not run
        on it.
    """

    def __init__(self, folder: Path, machine: Mapping[str, Any]) -> None:
        self._folder, self._machine = folder, machine
        self._recipes: dict[str, Recipe] = {}

    def options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a job's options, its recipe, its preset and its machine.

        Raises a GramstyleError if there is no such preset, or the recipe cannot be used.
        """
        given = {name: value for name, value in values.items() if name not in KEYS}
        given |= self._machine
        preset = values.get("preset")
        if preset is not None:
            preset_values(preset)  # refuses an unknown name
        return self._recipe(values).values_with(given, preset=preset)

    def images(self, values: Mapping[str, Any]) -> dict[str, str | list[str]]:
        """Return the images of the table's recipe as the table would name them, by key."""
        recipe = self._recipe(values)
        found: dict[str, str | list[str]] = {}
        if recipe.content is not None:
            found["content"] = str(recipe.content)
        if recipe.styles:
            styles = [str(path) for path in recipe.styles]
            found["style"] = styles if len(styles) > 1 else styles[0]
        return found

    def _recipe(self, values: Mapping[str, Any]) -> Recipe:
        name = values.get("recipe")
        if name is None:
            return Recipe(values={})
        if not isinstance(name, str):
            raise OptionError(f"recipe must be text, not {shown(name)}")
        if name not in self._recipes:
            self._recipes[name] = read_recipe(path_in("recipe", name, self._folder))
        return self._recipes[name]
