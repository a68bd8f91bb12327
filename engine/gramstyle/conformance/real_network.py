"""A case of the real network: the weights of a model file, at any size."""

import numpy as np

from gramstyle.arrays import Array
from gramstyle.conformance.cases import Case
from gramstyle.conformance.catalogue import Numbers
from gramstyle.errors import OptionError
from gramstyle.model import Model
from gramstyle.objective import ContentTarget, Objective, Weights, style_targets
from gramstyle.options import ALPHA_PIXELS, Options

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
    options = Options()
    content, style = options.content_layer, options.style_layers
    network = model.network.until([content, *style]).pooled_by(options.pools).astype(np.float64)
    network.shapes(size, size)
    numbers = Numbers(NAME)
    x, p, a = (numbers.uniform(0, 255, 3, size, size) for _ in range(3))

    def see(picture: Array) -> dict[str, Array]:
        return network.forward(model.preprocessing.forward(picture))

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
                options.beta,
                {layer: 1 / len(style) for layer in style},
            ),
        ),
        x=x,
        p=p,
        a=a,
    )
