"""A case of the real network: the weights of a model file, at a chosen size."""

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.exact.hashed import Numbers
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import PAPER
from gramstyle.core.layer_names import default_layers
from gramstyle.core.objective import Objective
from gramstyle.core.terms import loss_terms, with_targets
from gramstyle.errors import OptionError
from gramstyle.model import Model

NAME = "real-model"
LARGEST = 512


def real_case(model: Model, size: int) -> Case:
    """Return a case of the objective of a transfer on noise of `size` × `size` pixels.

    It uses the paper's formulas and average pooling. The readable engine computes its truth in
    float64.

    Raises
    ------
    OptionError
        If the size is not 16 to 512; larger sizes take minutes and gigabytes.
    ImageError
        If the size is too small for the poolings of the network.
    """
    if not 16 <= size <= LARGEST:
        raise OptionError(f"--size must be 16 to {LARGEST} for the real network, not {size}")
    content, style = default_layers(model.network.names)
    network = model.network.until([*content, *style]).pooled_by("avg").astype(np.float64)
    network.shapes(size, size)
    numbers = Numbers(NAME)
    x, p, a = (numbers.uniform(0, 255, 3, size, size) for _ in range(3))

    def see(image: Array) -> dict[str, Array]:
        return network.forward(model.preprocessing.forward(image))

    terms = loss_terms(
        content=dict.fromkeys(content, 1.0),
        style=dict.fromkeys(style, 1 / len(style)),
    )
    terms = with_targets(terms, "content", see(p))
    terms = with_targets(terms, "style", see(a))
    return Case(
        name=NAME,
        pins=f"the network of a model file at {size}×{size}, as transfer uses it",
        objective=Objective(
            network=network,
            preprocessing=model.preprocessing,
            terms=terms,
            weights={"content": PAPER.alpha_pixels / size**2, "style": 1.0},
        ),
        x=x,
        p=p,
        a=a,
    )
