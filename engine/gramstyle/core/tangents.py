"""An objective along a direction in the pixels: forward mode, then reverse over forward.

tx is a direction, of x's shape. The tangent of a quantity, such as tF, is its derivative along tx,
d/dε at x + ε tx. One forward pass computes all of them beside the quantities themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gramstyle.core.arrays import Array, cast
from gramstyle.core.evaluation import Sizes, sizes_in
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.network import AddSeed, Network, Responses
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.term import PIXELS, Sum, TangentTerm, Term
from gramstyle.errors import OptionError


@dataclass(frozen=True, eq=False)
class Tangents:
    """The responses and the terms' sums at x, each with its tangent along tx.

    Attributes
    ----------
    terms
        The terms of the loss, with their targets.
    F, tF
        The responses of every layer and, as `PIXELS`, the pixels; and their tangents.
    sums, tsums
        The sums of each term, and their tangents.
    sizes
        N and M of every layer and of the pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Network
    >>> from gramstyle.core.preprocessing import Preprocessing
    >>> from gramstyle.core.tangents import tangents_of
    >>> from gramstyle.core.terms import loss_terms
    >>> pixels = Preprocessing("RGB", mean=(0.0,) * 3, scale=(1.0,) * 3)
    >>> terms, x = loss_terms(content={}, style={}, tv=True), np.array([[[0.0, 3.0]]])
    >>> tangents = tangents_of(Network(()), pixels, terms, x, tx=np.array([[[0.0, 1.0]]]))
    >>> tangents.values()  # the derivative of 3² / 2
    [3.0]
    >>> tangents.seeds({"tv": 1.0})("pixels", None)
    array([[[-1.,  1.]]])
    """

    terms: tuple[TangentTerm, ...]
    F: Responses
    tF: Responses
    sums: tuple[Sum, ...]
    tsums: tuple[Sum, ...]
    sizes: Sizes

    def values(self) -> list[float]:
        """Return the derivative of each term's value along tx."""
        rows = zip(self.terms, self.tsums, self.sums, strict=True)
        return [term.value_jvp(tS, S, *self.sizes[term.layer]) for term, tS, S in rows]

    def seeds(self, weights: Mapping[str, float]) -> AddSeed:
        """Return a function that adds to tdF the tangents of the terms' gradients at a layer."""

        def add_seed(name: str, tdF: Array | None) -> Array:
            for term, tS, S in zip(self.terms, self.tsums, self.sums, strict=True):
                if term.layer == name:
                    weight = weights[term.name] * term.weight
                    tF, F = self.tF[name], self.F[name]
                    added = term.gradient_jvp(tF, F, tS, S, *self.sizes[name], weight)
                    tdF = cast(added, F.dtype) if tdF is None else tdF + cast(added, F.dtype)
            assert tdF is not None  # noqa: S101 - the network ends at a layer that a term uses
            return tdF

        return add_seed


def tangents_of(
    network: Network, preprocessing: Preprocessing, terms: Sequence[Term], x: Array, tx: Array
) -> Tangents:
    """Return the tangents of a network, cut off above the deepest layer in use, and its terms.

    Raises
    ------
    OptionError
        If tx has another shape or float type than x, or a term has no tangents.

    Examples
    --------
    >>> import numpy as np
    >>> from gramstyle.core.network import Network
    >>> from gramstyle.core.preprocessing import Preprocessing
    >>> from gramstyle.core.tangents import tangents_of
    >>> pixels = Preprocessing("RGB", mean=(0.0,) * 3, scale=(1.0,) * 3)
    >>> x = np.zeros((3, 2, 2))
    >>> tangents_of(Network(()), pixels, [], x, tx=x[:, 1:])
    Traceback (most recent call last):
        ...
    gramstyle.errors.OptionError: the direction is float64 of shape (3, 1, 2); expected float64 \
of shape (3, 2, 2), as the image
    """
    if tx.shape != x.shape or tx.dtype != x.dtype:
        raise OptionError(
            f"the direction is {tx.dtype} of shape {tx.shape}; expected {x.dtype} of shape "
            f"{x.shape}, as the image"
        )
    known: list[TangentTerm] = []
    for term in terms:
        if not isinstance(term, TangentTerm):
            raise OptionError(
                f"the loss {term.name} has no tangents; give its term sums_jvp, value_jvp and "
                "gradient_jvp, or leave it out"
            )
        known.append(term)
    responses: Responses = {}
    tangents: Responses = {}
    if network.layers:
        responses = network.forward(preprocessing.forward(x))
        tangents = network.jvp(responses, preprocessing.jvp(tx))
    F, tF = {**responses, PIXELS: x}, {**tangents, PIXELS: tx}
    kernels = PlainKernels()
    return Tangents(
        terms=tuple(known),
        F=F,
        tF=tF,
        sums=tuple(term.sums(F[term.layer], kernels) for term in known),
        tsums=tuple(term.sums_jvp(tF[term.layer], F[term.layer]) for term in known),
        sizes=sizes_in(x, responses),
    )
