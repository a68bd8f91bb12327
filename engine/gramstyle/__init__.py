"""gramstyle: a photograph in the style of a painting, by explicit gradients.

"A Neural Algorithm of Artistic Style" (Gatys, Ecker, Bethge, arXiv 1508.06576) without a
deep-learning framework: an engine runs VGG-19 forward, a backward pass derived by hand carries the
paper's gradients to the pixels, and L-BFGS-B updates the pixels.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gramstyle.errors import (
        GramstyleError,
        ImageError,
        ModelError,
        NonFiniteError,
        OptionError,
        RuntimeMissingError,
    )
    from gramstyle.gradcheck import (
        Checked,
        GradientCheckError,
        GradientMismatchError,
        check_gradient,
        check_hvp,
        check_jvp,
        check_vjp,
    )
    from gramstyle.run.open_model import OpenModel, open_model
    from gramstyle.run.options import Options
    from gramstyle.run.presets import preset
    from gramstyle.run.progress import Losses, Progress, Record, Result
    from gramstyle.run.recipes import Recipe, read_recipe, recipe_of
    from gramstyle.run.reconstruct import reconstruct_content, reconstruct_style
    from gramstyle.run.texture import texture
    from gramstyle.run.transfer import transfer

# The logger "gramstyle" prints nothing unless the program configures logging.
logging.getLogger("gramstyle").addHandler(logging.NullHandler())

__all__ = [
    "Checked",
    "GradientCheckError",
    "GradientMismatchError",
    "GramstyleError",
    "ImageError",
    "Losses",
    "ModelError",
    "NonFiniteError",
    "OpenModel",
    "OptionError",
    "Options",
    "Progress",
    "Recipe",
    "Record",
    "Result",
    "RuntimeMissingError",
    "check_gradient",
    "check_hvp",
    "check_jvp",
    "check_vjp",
    "open_model",
    "preset",
    "read_recipe",
    "recipe_of",
    "reconstruct_content",
    "reconstruct_style",
    "texture",
    "transfer",
]

# Where these names are defined. They are imported when they are first used, so that the command
# line program handles Ctrl-C before it imports the packages that compute.
_MODULES = (
    "errors", "gradcheck", "run.open_model", "run.options", "run.presets", "run.progress",
    "run.recipes", "run.reconstruct", "run.texture", "run.transfer",
)  # fmt: skip


def __getattr__(name: str) -> object:
    """Return a name of the interface, and import its module."""
    if name in __all__:
        for module in _MODULES:
            found: object = getattr(import_module(f"gramstyle.{module}"), name, None)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module 'gramstyle' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the interface."""
    return __all__
