"""The readable engine, `layers` and `losses`, in any float type."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gramstyle.conformance.adapters import cpu_only
from gramstyle.conformance.cases import Answer, Case, answer
from gramstyle.conformance.comparing import Adapter, FourParts, ThreeParts
from gramstyle.conformance.derivatives import derivatives
from gramstyle.core.arrays import Array
from gramstyle.core.kernels import Area, PlainKernels
from gramstyle.core.moments import Moments
from gramstyle.core.network import Convolution, Network
from gramstyle.core.objective import Objective
from gramstyle.core.terms import with_target_arrays


def adapter(device: str) -> Adapter:
    """Return the adapter; raises OptionError if the device is not the CPU."""
    cpu_only("numpy_plain", device)
    return every_derivative


def every_derivative(
    image: Array, case: Case, place: Callable[[Array], Array] = np.asarray
) -> FourParts | ThreeParts:
    """Return loss, gradient and dF of a case, and its further derivatives.

    In float16, where the tangents of Gram matrices overflow, there are none. `place` moves an
    array to the device, on which the arrays of the answer stay.
    """
    found = plainly(image, case, place)
    three = found.loss, found.gradient, dict(found.dF)
    if image.dtype == np.float16:
        return three
    placed = _placed(case, image.dtype, place)
    more = derivatives(placed, place(image), place(case.direction.astype(image.dtype)))
    return (*three, vars(more))


def value_and_grad(image: Array, case: Case) -> ThreeParts:
    """Return loss, gradient and dF of a case."""
    found = plainly(image, case, np.asarray)
    return found.loss, found.gradient, dict(found.dF)


def plainly(image: Array, case: Case, place: Callable[[Array], Array]) -> Answer:
    """Return the answer to a case by the readable layers.

    Parameters
    ----------
    image
        The image, in the float type in which to compute.
    case
        The case to evaluate.
    place
        Moves an array to the device, on which the arrays of the answer stay.
    """
    return answer(_placed(case, image.dtype, place), place(image))


def _placed(case: Case, dtype: Any, place: Callable[[Array], Array]) -> Objective:
    """Return the objective of a case in a float type and on a device."""
    objective = case.objective
    wide = np.result_type(dtype, np.float32)
    network = Network(
        tuple(
            replace(layer, W=place(layer.W), b=place(layer.b))
            if isinstance(layer, Convolution)
            else layer
            for layer in case.network.astype(dtype).layers
        )
    )
    return replace(
        objective,
        network=network,
        terms=with_target_arrays(objective.terms, lambda array: place(array.astype(wide))),
        forward=None,
        kernels=_WideTerms(),
    )


class _WideTerms(PlainKernels):
    """Plain kernels that compute loss terms in float32 or wider: in float16 they overflow."""

    def gram(self, F: Array, owned: Area | None = None, T: Array | None = None) -> Array:
        """Equation 3."""
        return super().gram(_wide(F), owned, T)

    def add_style_gradient(
        self,
        dF: Array | None,
        F: Array,
        G: Array,
        A: Array,
        M: float,
        weight: float,
        owned: Area | None = None,
        T: Array | None = None,
    ) -> Array:
        """dF + weight · equation 6."""
        return super().add_style_gradient(dF, _wide(F), G, A, M, weight, owned, T).astype(F.dtype)

    def add_content_gradient(
        self, dF: Array | None, F: Array, P: Array, weight: float, owned: Area | None = None
    ) -> Array:
        """dF + weight · equation 2."""
        return super().add_content_gradient(dF, _wide(F), P, weight, owned).astype(F.dtype)

    def moments(self, F: Array, owned: Area | None = None, *, pairs: bool = False) -> Moments:
        """Return the moments of F."""
        return super().moments(_wide(F), owned, pairs=pairs)

    def add_affine_gradient(
        self, dF: Array | None, F: Array, D: Array, d: Array, owned: Area | None = None
    ) -> Array:
        """Return dF + (D F + d, where F > 0, else 0)."""
        return super().add_affine_gradient(dF, _wide(F), D, d, owned).astype(F.dtype)


def _wide(F: Array) -> Array:
    return F.astype(np.result_type(F.dtype, np.float32))
