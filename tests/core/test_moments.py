"""Means far above the deviations: losses and derivatives against exact fractions."""

from collections.abc import Iterator
from fractions import Fraction
from functools import reduce
from itertools import product
from math import sqrt
from operator import add
from typing import Any

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.core.covariance import CovarianceTerm
from gramstyle.core.kernels import Area, PlainKernels
from gramstyle.core.mean_std import EPSILON, MeanStdTerm
from gramstyle.core.moments import Moments
from gramstyle.core.terms import with_targets
from gramstyle.engines.cuda.kernels import DeviceKernels
from gramstyle.engines.strips import StripKernels
from gramstyle.engines.winograd.kernels import ChannelsLastKernels
from gramstyle.engines.winograd.layout import channels_last

Exact = list[list[Fraction]]

# The mean, where the deviation is about 1.
FAR = 3000.0
# A difference of two means loses 3000 units in the last place, 7e-13. Mean of squares minus square
# of the mean would lose 3000² of them, 2e-9.
CLOSE = 1e-11
KERNELS = PlainKernels()
WHOLE = (None,)
TILES = tuple(product((slice(0, 2), slice(2, 5)), (slice(0, 3), slice(3, 7))))


def centred(F: Array) -> tuple[list[Fraction], Exact]:
    """The mean of each filter, and the differences from it, without rounding."""
    rows = [[Fraction(float(f)) for f in row] for row in F.reshape(len(F), -1)]
    means = [sum(row, Fraction(0)) / len(row) for row in rows]
    return means, [[f - mu for f in row] for row, mu in zip(rows, means, strict=True)]


def covariances(H: Exact) -> Exact:
    return [[sum(map(Fraction.__mul__, a, b), Fraction(0)) / len(a) for b in H] for a in H]


def mean_std_exactly(F: Array, a: Array) -> tuple[float, Array]:
    """The loss and its derivative; only the square roots and the last operations round."""
    N, M, loss, gradient = len(F), F[0].size, 0.0, []
    (mu, H), (mu_a, H_a) = centred(F), centred(a)
    for i in range(N):
        sigma, sigma_a = (sqrt(float(covariances([each[i]])[0][0]) + EPSILON) for each in (H, H_a))
        apart, wider = float(mu[i] - mu_a[i]), sigma - sigma_a
        loss += (apart**2 + wider**2) / N
        gradient.append([2 / (N * M) * (apart + wider * float(h) / sigma) for h in H[i]])
    return loss, np.array(gradient).reshape(F.shape)


def covariance_exactly(F: Array, a: Array) -> tuple[float, Array]:
    N, M = len(F), F[0].size
    (_, H), (_, H_a) = centred(F), centred(a)
    C, A = covariances(H), covariances(H_a)
    D = [[c - a for c, a in zip(*rows, strict=True)] for rows in zip(C, A, strict=True)]
    loss = float(sum(d**2 for row in D for d in row)) / (4 * N**2)
    sums = [[sum(map(Fraction.__mul__, row, h)) for h in zip(*H, strict=True)] for row in D]
    return loss, np.array(sums, float).reshape(F.shape) / (N**2 * M)


@pytest.fixture
def images(rng: np.random.Generator) -> tuple[Array, Array]:
    F, a = rng.normal(FAR, 1, (3, 5, 7)), rng.normal(FAR + 1, 0.5, (3, 4, 6))
    F[1] += 0.5 * (F[0] - FAR)
    return F, a


@pytest.mark.parametrize("areas", [WHOLE, TILES], ids=["whole", "in tiles"])
@pytest.mark.parametrize(
    ("kind", "exactly"), [(MeanStdTerm, mean_std_exactly), (CovarianceTerm, covariance_exactly)]
)
def test_a_mean_of_3000_deviations_costs_no_digits_of_the_square(
    images: tuple[Array, Array], rng: np.random.Generator, kind: Any, exactly: Any, areas: Any
) -> None:
    F, a = images
    (term,) = with_targets((kind(layer="conv1_1", weight=1.0),), "style", {"conv1_1": a})
    loss, gradient = exactly(F, a)
    S = reduce(add, (term.sums(F, KERNELS, area) for area in areas))
    assert term.value(S, 3, 35) == pytest.approx(loss, rel=CLOSE)
    found = term.add_gradient(None, F, S, 3, 35, 1.0, KERNELS)
    np.testing.assert_allclose(found, gradient, atol=CLOSE * abs(gradient).max())
    # Forward mode: the derivative of the loss along a direction that shifts the mean, too.
    tF = rng.normal(1, 1, F.shape)
    rise = term.value_jvp(term.sums_jvp(tF, F), S, 3, 35)
    assert rise == pytest.approx(np.vdot(gradient, tF), rel=CLOSE)


def kernels() -> Iterator[tuple[Any, Array]]:
    """The kernels in float32, with empty responses in their memory order."""
    yield PlainKernels(), np.empty((3, 90, 70), np.float32)
    yield StripKernels(2), np.empty((3, 90, 70), np.float32)
    yield ChannelsLastKernels(2), channels_last((3, 90, 70))
    yield DeviceKernels(), np.empty((3, 90, 70), np.float32)


@pytest.mark.parametrize(("step", "F"), [*kernels()], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("area", [None, (slice(1, 80), slice(3, 64))])
def test_in_float32_such_moments_are_right_to_float32(
    rng: np.random.Generator, step: Any, F: Array, pairs: bool, area: Area | None
) -> None:
    F[...] = rng.normal(FAR, 1, F.shape)
    F[1] += 0.5 * (F[0] - FAR)
    here = (F if area is None else F[:, area[0], area[1]]).astype(float).reshape(3, -1)
    means = here.mean(axis=1)
    H = here - means[:, None]
    found: Moments = step.moments(F, area, pairs=pairs)
    assert found.count == H.shape[1]
    # A mean is summed in float64; products of differences, in float32. Squares of F would round
    # to half of a variance.
    np.testing.assert_allclose(found.mean, means, rtol=1e-12)
    expected = H @ H.T if pairs else (H * H).sum(axis=1)
    np.testing.assert_allclose(found.products, expected, atol=1e-5 * H.shape[1])
