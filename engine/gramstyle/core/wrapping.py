"""The sizes at which a network with circular padding continues an image without a seam.

A pooling leaves out an odd last row or column. The next convolution then continues a shorter map at
the opposite edge, and two copies of the image side by side do not have the responses of the image.
So both edges must be multiples of 2 to the power of the number of poolings.
"""

from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.errors import ImageError


def is_circular(network: Network) -> bool:
    """Return whether a network has a convolution with circular padding.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution, Network
    >>> from gramstyle.core.wrapping import is_circular
    >>> network = Network((Convolution("conv1_1", np.zeros((4, 3, 3, 3)), np.zeros(4)),))
    >>> is_circular(network), is_circular(network.padded_by("circular"))
    (False, True)
    """
    return any(
        isinstance(layer, Convolution) and layer.padding == "circular" for layer in network.layers
    )


def wrapping_multiple(network: Network) -> int:
    """Return the number of pixels that both edges of an image that wraps are multiples of.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution, Network, Pool
    >>> from gramstyle.core.wrapping import wrapping_multiple
    >>> conv = Convolution("conv1_1", np.zeros((4, 3, 3, 3)), np.zeros(4), padding="circular")
    >>> wrapping_multiple(Network((conv, Pool("pool1", "avg"), Pool("pool2", "avg"))))
    4
    """
    return 1 << sum(isinstance(layer, Pool) for layer in network.layers)


def check_wraps(network: Network, height: int, width: int) -> None:
    """Check that an image of this size, in pixels, wraps at every layer of a network.

    Raises
    ------
    ImageError
        If it does not; names the next size that does.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution, Network, Pool
    >>> from gramstyle.core.wrapping import check_wraps
    >>> conv = Convolution("conv1_1", np.zeros((4, 3, 3, 3)), np.zeros(4), padding="circular")
    >>> network = Network((conv, Pool("pool1", "avg")))
    >>> check_wraps(network, height=8, width=6)
    >>> check_wraps(network, height=8, width=5)
    Traceback (most recent call last):
        ...
    gramstyle.errors.ImageError: an image of 5×8 pixels does not wrap at layer pool1: both edges \
must be multiples of 2 pixels; the next such size is 6×8
    """
    multiple = wrapping_multiple(network)
    if height % multiple or width % multiple:
        raise ImageError(
            f"an image of {width}×{height} pixels does not wrap at layer {network.names[-1]}: both "
            f"edges must be multiples of {multiple} pixels; the next such size is "
            f"{-(-width // multiple) * multiple}×{-(-height // multiple) * multiple}"
        )
