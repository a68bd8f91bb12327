"""Recipes: the options of a transfer in a TOML file, written by hand or taken from a result."""

from gramstyle.run.recipes.reading import read_recipe
from gramstyle.run.recipes.recipe import KEYS, VERSION, Recipe
from gramstyle.run.recipes.recorded import recipe_of

__all__ = ["KEYS", "VERSION", "Recipe", "read_recipe", "recipe_of"]
