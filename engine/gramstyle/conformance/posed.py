"""Whether every correct implementation must give the same answer to a case, up to rounding.

At a kink (ReLU at 0, equal largest values in a pooling window) the derivative is a matter of
choice, and close to one rounding decides. Where a quantity is the small difference of large
numbers, rounding becomes large. So it does where a mean is much larger than the deviation and the
variance is computed as the mean of the squares minus the square of the mean. A random case has none
of these.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gramstyle.conformance.cases import Answer, Case, answer
from gramstyle.conformance.comparing import TOLERANCES, compare
from gramstyle.conformance.derivatives import derivatives
from gramstyle.conformance.exact.hashed import Numbers
from gramstyle.core import layers
from gramstyle.core.arrays import Array
from gramstyle.core.mean_std import EPSILON
from gramstyle.core.network import Convolution, Network

# The float types for which a case can be well posed: in float16, rounding decides too often.
DTYPES = ("float64", "float32")
# The least distance from a kink, relative to the sum of the absolute values of all that is added.
DISTANCES = {"float64": 1e-9, "float32": 1e-4}
# The largest square of a mean, relative to the variance.
RATIOS = {"float64": 1e4, "float32": 1e3}
# The least norm of db relative to that of the sums of absolute values. Where a shift of responses
# changes no loss, as with covariances, db is exactly 0, and rounding decides its value.
REMAINDERS = {"float64": 1e-4, "float32": 1e-2}
# Pixels, weights and biases change by up to so many units of the last place, and no quantity may
# then change by more than this share of its tolerance.
UNITS, SHARE = 16, 0.25


def is_well_posed(case: Case, dtype: str) -> bool:
    """Return whether a case is far from all kinks, and no quantity is sensitive to rounding.

    Parameters
    ----------
    case
        The case; its truth is computed.
    dtype
        "float64" or "float32": the float type in which implementations compute.

    Examples
    --------
    >>> from gramstyle.conformance import cases
    >>> from gramstyle.conformance.posed import is_well_posed
    >>> {case.name: is_well_posed(case, "float64") for case in cases()[:3]}
    {'convolution': True, 'convolution-narrow': True, 'relu': True}
    """
    return (
        distance_from_kinks(case) > DISTANCES[dtype]
        and ratio_of_moments(case) <= RATIOS[dtype]
        and remainder_of_sums(case) >= REMAINDERS[dtype]
        and not _is_sensitive(case, dtype)
    )


def distance_from_kinks(case: Case) -> float:
    """Return how far the closest response is from a kink, relative to what is added up in it."""
    return min(_distances(case), default=1.0)


def _distances(case: Case) -> Iterator[float]:
    """Yield the least distance at each layer; windows without a positive value have no kink."""
    X = case.preprocessing.forward(case.x)
    for layer in case.layers:
        if isinstance(layer, Convolution):
            Z = layers.conv2d_forward(X, layer.W, layer.b, layer.padding)
            absolute = (np.abs(X), np.abs(layer.W), np.abs(layer.b))
            added = layers.conv2d_forward(*absolute, padding=layer.padding)
            yield float(np.min(np.abs(Z) / np.where(added > 0, added, 1.0)))
            X = layers.relu_forward(Z)
        elif layer.kind == "max":
            _, H, V = X.shape
            window = (X[:, i : H - H % 2 : 2, j : V - V % 2 : 2] for i in (0, 1) for j in (0, 1))
            *_, second, largest = np.sort(list(window), axis=0)
            positive = largest > 0
            apart = (largest[positive] - second[positive]) / largest[positive]
            yield float(np.min(apart, initial=1.0))
            X = layers.max_pool_forward(X)
        else:
            X = layers.avg_pool_forward(X)


def ratio_of_moments(case: Case) -> float:
    """Return the largest square of a mean relative to the variance, where the style is of these."""
    return max(_ratios(case), default=0.0)


def _ratios(case: Case) -> Iterator[float]:
    """Yield the ratio of each filter for means and deviations, of all filters for covariances."""
    for name, term in case.statistics.items():
        F = case.responses[name].reshape(len(case.responses[name]), -1)
        squares, variances = F.mean(axis=1) ** 2, F.var(axis=1)
        if term.statistic == "mean-std":
            yield float(np.max(squares / (variances + EPSILON)))
        elif squares.any():
            mean = float(squares.sum())
            yield mean / max(float(variances.sum()), 1e-30 * mean)


def remainder_of_sums(case: Case) -> float:
    """Return the least norm of a db, relative to that of the sums of absolute values."""
    return min(_remainders(case), default=1.0)


def _remainders(case: Case) -> Iterator[float]:
    for name, db in case.derivatives.db.items():
        dZ = layers.relu_backward(case.truth.dF[name], case.responses[name])
        added = float(np.linalg.norm(np.abs(dZ).sum(axis=(1, 2))))
        if added > 0:
            yield float(np.linalg.norm(db)) / added


def _is_sensitive(case: Case, dtype: str) -> bool:
    """Return whether changes of a few last places change a quantity by much of its tolerance."""
    numbers, unit = Numbers("last places"), UNITS * float(np.finfo(dtype).eps)

    def changed(array: Array) -> Array:
        return array * (1 + unit * numbers.uniform(-1, 1, *array.shape))

    network = Network(
        tuple(
            replace(layer, W=changed(layer.W), b=changed(layer.b))
            if isinstance(layer, Convolution)
            else layer
            for layer in case.layers
        )
    )
    objective, x = replace(case.objective, network=network, forward=None), changed(case.x)
    beside = answer(objective, x)
    more = derivatives(objective, x, case.direction)
    found = Answer(beside.loss, beside.gradient, beside.dF, more)
    limit = SHARE * TOLERANCES[dtype]
    return any(each.problem or each.relative > limit for each in compare(case, found, dtype))
