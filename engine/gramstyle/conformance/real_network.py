"""A case of the real network: the weights of a model file, at a chosen size."""

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.conformance.hashed import Numbers
from gramstyle.core.arrays import Array
from gramstyle.core.conventions import CONTENT_LAYER, PAPER, STYLE_LAYERS
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
    network = (
        model.network.until([CONTENT_LAYER, *STYLE_LAYERS]).pooled_by("avg").astype(np.float64)
    )
    network.shapes(size, size)
    numbers = Numbers(NAME)
    x, p, a = (numbers.uniform(0, 255, 3, size, size) for _ in range(3))

    def see(image: Array) -> dict[str, Array]:
        return network.forward(model.preprocessing.forward(image))

    terms = loss_terms(
        content={CONTENT_LAYER: 1.0},
        style={layer: 1 / len(STYLE_LAYERS) for layer in STYLE_LAYERS},
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
