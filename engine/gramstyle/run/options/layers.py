"""The check of a list of layers and of their weights."""

import numpy as np

from gramstyle.errors import OptionError


def check_layers(
    name: str,
    given: tuple[str, ...] | None,
    weights: tuple[float, ...] | None,
    default: tuple[str, ...],
) -> None:
    """Check the layers of the content or of the style, and their weights; raises OptionError.

    Weights without layers are those of a VGG's default layers.
    """
    layers = default if given is None else given
    if not layers or len(set(layers)) != len(layers):
        raise OptionError(f"{name}_layers must name at least one layer, and none twice")
    if weights is not None and len(weights) != len(layers):
        raise OptionError(
            f"there are {len(weights)} {name}_weights for {len(layers)} {name}_layers; give one "
            "each"
        )
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights or ()):
        raise OptionError(f"each of {name}_weights must be a number from 0 upwards")
