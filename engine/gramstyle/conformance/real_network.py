"""A case of the real network: the weights of a model file, at any size."""

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.catalogue import Numbers
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import ALPHA_PIXELS, CONTENT_LAYER, STYLE_LAYERS
from gramstyle.core.objective import ContentTarget, Objective, Weights, style_targets
from gramstyle.errors import OptionError
from gramstyle.model import Model

NAME = "real-model"
LARGEST = 512


def real_case(model: Model, size: int) -> Case:
    """Return the objective of a transfer, paper's formulas, on noise of `size` × `size` pixels.

    Its truth is computed plainly in float64.

    Raises
    ------
    OptionError
        If the size is not 16 to 512; larger ones take minutes and gigabytes.
    ImageError
        If the network is too deep for the size.
    """
    if not 16 <= size <= LARGEST:
        raise OptionError(f"--size must be 16 to {LARGEST} for the real network, not {size}")
    content, style = CONTENT_LAYER, STYLE_LAYERS
    network = model.network.until([content, *style]).pooled_by("avg").astype(np.float64)
    network.shapes(size, size)
    numbers = Numbers(NAME)
    x, p, a = (numbers.uniform(0, 255, 3, size, size) for _ in range(3))

    def see(image: Array) -> dict[str, Array]:
        return network.forward(model.preprocessing.forward(image))

    return Case(
        name=NAME,
        pins=f"the network of a model file at {size}×{size}, as transfer uses it",
        objective=Objective(
            network=network,
            preprocessing=model.preprocessing,
            content=ContentTarget(content, see(p)[content]),
            style=style_targets(see(a), style),
            weights=Weights(
                ALPHA_PIXELS / size**2,
                1.0,
                {layer: 1 / len(style) for layer in style},
            ),
        ),
        x=x,
        p=p,
        a=a,
    )
