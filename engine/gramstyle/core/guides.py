"""The guidance of regions at each layer, from masks of pixels.

A mask T (H, V) holds the guidance of the pixels of an image, from 0 to 1. The poolings of a network
leave out an odd last row or column, and so does the guidance.

The generated image and the style image need different rules. In the generated image the guidance
of a position is the mean over its own pixels: regions that fill the image then fill every layer, so
that each part of the result gets a style, and T changes as softly as the mask. In the style image
the guidance is 0 unless all pixels that a position depends on belong to the region: no style then
leaks from one region into another (Gatys et al. 2017, section 4.1, discuss both rules).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.network import Convolution, Network
from gramstyle.core.term import GuidedTerm, Term

# The guidance (H, V) of each region at each layer; None where it is 0 everywhere.
Guides = Mapping[str, tuple[Array | None, ...]]


def mean_guides(network: Network, T: Array) -> dict[str, Array]:
    """Return the guidance of a region of the generated image, at every layer.

    Parameters
    ----------
    network
        The network, up to the deepest layer that is needed.
    T
        The mask (H, V), from 0 to 1.

    Returns
    -------
    dict
        The guidance (h, v) by layer: the mean of T over each position's own square of pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guides import mean_guides
    >>> from gramstyle.core.network import Convolution, Network, Pool
    >>> conv1_1 = Convolution("conv1_1", np.zeros((4, 3, 3, 3)), np.zeros(4))
    >>> T = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    >>> mean_guides(Network((conv1_1, Pool("pool1", "avg"))), T)["pool1"]
    array([[0.75, 0.  ]])
    """
    result: dict[str, Array] = {}
    for layer in network.layers:
        if not isinstance(layer, Convolution):
            T = layers.avg_pool_forward(T[np.newaxis])[0]
        result[layer.name] = T
    return result


def inside_guides(network: Network, T: Array) -> dict[str, Array]:
    """Return the guidance of a region of a style image, at every layer.

    Parameters
    ----------
    network, T
        As for `mean_guides`.

    Returns
    -------
    dict
        The guidance (h, v) by layer: the minimum of T over all pixels that a position depends on.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guides import inside_guides
    >>> from gramstyle.core.network import Convolution, Network
    >>> conv1_1 = Convolution("conv1_1", np.zeros((4, 3, 3, 3)), np.zeros(4))
    >>> inside_guides(Network((conv1_1,)), np.array([[1.0, 1.0, 1.0, 0.5, 0.0]]))["conv1_1"]
    array([[1. , 1. , 0.5, 0. , 0. ]])
    """
    result: dict[str, Array] = {}
    for layer in network.layers:
        if isinstance(layer, Convolution):
            T = eroded(T, wraps=layer.padding == "circular")
        else:
            # The minimum over each 2×2 window.
            T = -layers.max_pool_forward(-T[np.newaxis])[0]
        result[layer.name] = T
    return result


def eroded(T: Array, *, wraps: bool = False) -> Array:
    """Return the minimum of T (H, V) over the 3×3 positions around each one.

    With `wraps`, the positions around one at an edge continue at the opposite edge, as in circular
    padding. The other paddings read no position beyond the nearest ones inside.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guides import eroded
    >>> eroded(np.array([[1.0, 1.0, 1.0, 0.5]]))
    array([[1. , 1. , 0.5, 0.5]])
    >>> eroded(np.array([[1.0, 1.0, 1.0, 0.5]]), wraps=True)
    array([[0.5, 1. , 0.5, 0.5]])
    """
    for _ in range(2):  # down the columns, then, transposed, along the rows
        padded = np.pad(T, ((1, 1), (0, 0)), mode="wrap" if wraps else "edge")
        T = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:]).T
    return T


def with_guides(terms: Sequence[Term], guides: Guides | None) -> tuple[Term, ...]:
    """Return the terms, the guided ones with the guidance of a whole image if it is given.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.guides import with_guides
    >>> from gramstyle.core.terms import loss_terms
    >>> terms = loss_terms(content={}, style={"conv1_1": 1.0}, regions=(1.0,))
    >>> (term,) = with_guides(terms, {"conv1_1": (np.full((2, 3), 0.5),)})
    >>> term.m  # Σ T² of each region
    (1.5,)
    """
    if guides is None:
        return tuple(terms)
    return tuple(
        term.guided_by(guides[term.layer]) if isinstance(term, GuidedTerm) else term
        for term in terms
    )
