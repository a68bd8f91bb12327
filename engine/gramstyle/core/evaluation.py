"""The result of an evaluation, and the sizes and sums that it is computed from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gramstyle.core.arrays import Array, all_finite
from gramstyle.core.moments import Moments
from gramstyle.core.network import Network, Responses
from gramstyle.core.term import PIXELS, Sum
from gramstyle.core.terms import positions


class Size(NamedTuple):
    """The size of a layer's responses: N filters at M positions.

    Examples
    --------
    >>> from gramstyle.core.evaluation import Size
    >>> Size(N=64, M=1024).M
    1024
    """

    N: int
    M: int


# The sizes of the whole image's responses, by layer.
Sizes = Mapping[str, Size]


def sizes_of(network: Network, height: int, width: int) -> dict[str, Size]:
    """Return N and M of every layer and of the pixels, for an image of this size in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Convolution, Network
    >>> from gramstyle.core.evaluation import sizes_of
    >>> network = Network((Convolution("conv1_1", np.zeros((64, 3, 3, 3)), np.zeros(64)),))
    >>> sizes_of(network, height=4, width=6)
    {'conv1_1': Size(N=64, M=24), 'pixels': Size(N=3, M=24)}
    """
    shapes = {**network.shapes(height, width), PIXELS: (3, height, width)}
    return {name: Size(N, h * v) for name, (N, h, v) in shapes.items()}


def sizes_in(x: Array, responses: Responses) -> dict[str, Size]:
    """Return N and M of all responses (N, H, V), by layer, and of the pixels x (3, H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.evaluation import sizes_in
    >>> sizes_in(np.zeros((3, 4, 6)), {"conv1_1": np.zeros((64, 4, 6))})
    {'conv1_1': Size(N=64, M=24), 'pixels': Size(N=3, M=24)}
    """
    arrays = {**responses, PIXELS: x}
    return {name: Size(F.shape[0], positions(F)) for name, F in arrays.items()}


@dataclass(frozen=True)
class Sums:
    """The terms' sums over the positions of an image, or of a part of one.

    The sums of disjoint parts of an image add up to the sums of the image.

    Attributes
    ----------
    parts
        One sum for each term, in the order of the terms.

    Examples
    --------
    >>> from gramstyle.core.evaluation import Sums
    >>> left, right = Sums((1.0, 5.0)), Sums((2.0, 7.0))  # of two terms, in two halves of an image
    >>> left + right
    Sums(parts=(3.0, 12.0))
    """

    parts: tuple[Sum, ...]

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    @property
    def finite(self) -> bool:
        """Whether no sum is NaN or infinite."""
        return all_finite(array for part in self.parts for array in _arrays(part))


def _arrays(part: Sum) -> tuple[Any, ...]:
    return (part.mean, part.products) if isinstance(part, Moments) else (part,)


@dataclass(frozen=True)
class LossValues:
    """The losses at one image.

    Attributes
    ----------
    loss
        L_total, such as α L_content + β L_style (equation 7).
    terms
        The losses whose weighted sum is L_total, by name: L_content (equation 1), L_style
        (equation 5), as the convention scales them, without α and β.
    layers
        The values whose weighted sum is each of these losses, by its name and by layer, such as
        E_l (equation 4) without w_l.

    Examples
    --------
    >>> from gramstyle.core.evaluation import LossValues
    >>> values = LossValues(4.0, terms={"tv": 2.0}, layers={"tv": {"pixels": 2.0}})
    >>> values.terms["tv"]
    2.0
    """

    loss: float
    terms: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Evaluation(LossValues):
    """The objective at one image: its losses and their derivative.

    Attributes
    ----------
    gradient
        ∂L_total/∂x, shape (3, H, W): the derivative by each pixel value on the scale 0..255.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.evaluation import Evaluation, LossValues
    >>> values = LossValues(5.0, terms={"tv": 5.0}, layers={"tv": {"pixels": 5.0}})
    >>> Evaluation.of(values, gradient=np.zeros((3, 4, 6))).gradient.shape
    (3, 4, 6)
    """

    gradient: Array

    @classmethod
    def of(cls, values: LossValues, gradient: Array) -> "Evaluation":
        """Return the evaluation with these losses and this gradient."""
        return cls(values.loss, values.terms, values.layers, gradient)
