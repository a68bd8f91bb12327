"""Style losses beside Gram matrices: against loops, differences, areas and the blend."""

from collections.abc import Callable
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from gramstyle.core.arrays import Array, namespace, on_host
from gramstyle.core.blending import ReferenceSample, with_blended_targets
from gramstyle.core.covariance import CovarianceTerm
from gramstyle.core.kernels import PlainKernels
from gramstyle.core.mean_std import EPSILON, MeanStdTerm
from gramstyle.core.term import Term
from gramstyle.core.terms import with_target_arrays, with_targets
from gramstyle.errors import OptionError
from gramstyle.gradcheck import check_gradient
from gramstyle.run.options import Options

Rng = np.random.Generator

# Float64 sums of some hundred numbers in another order.
ROUNDING = 1e-12
KERNELS = PlainKernels()

both_losses = pytest.mark.parametrize("kind", [MeanStdTerm, CovarianceTerm])


def mean(responses: Any) -> float:
    return float(sum(responses) / len(responses))


def covariance(one: Any, other: Any) -> float:
    """The mean product of two filters' differences from their means, response by response."""
    pairs = zip(one, other, strict=True)
    return mean([(a - mean(one)) * (b - mean(other)) for a, b in pairs])


def mean_std_by_loop(F: Array, a: Array) -> float:
    total = 0.0
    for one, other in zip(F.reshape(len(F), -1), a.reshape(len(a), -1), strict=True):
        total += (mean(one) - mean(other)) ** 2
        deviations = [(covariance(each, each) + EPSILON) ** 0.5 for each in (one, other)]
        total += (deviations[0] - deviations[1]) ** 2
    return total / len(F)


def covariance_by_loop(F: Array, a: Array) -> float:
    rows, others, N = F.reshape(len(F), -1), a.reshape(len(a), -1), len(F)
    pairs = [(i, j) for i in range(N) for j in range(N)]
    return sum(
        (covariance(rows[i], rows[j]) - covariance(others[i], others[j])) ** 2 for i, j in pairs
    ) / (4 * N**2)


BY_LOOP: dict[Any, Callable[[Array, Array], float]] = {
    MeanStdTerm: mean_std_by_loop,
    CovarianceTerm: covariance_by_loop,
}


def compared(kind: Any, a: Array, factor: float = 1.0) -> Any:
    (found,) = with_targets(
        (kind(layer="conv1_1", weight=1.0, factor=factor),), "style", {"conv1_1": a}
    )
    return found


@both_losses
def test_the_value_is_that_of_a_loop_over_the_responses(kind: Any, rng: Rng) -> None:
    F, a = rng.uniform(0, 9, (4, 5, 7)), rng.uniform(0, 3, (4, 3, 6))
    term = compared(kind, a, factor=3.0)
    assert term.value(term.sums(F, KERNELS), 4, 35) == pytest.approx(
        3 * BY_LOOP[kind](F, a), rel=ROUNDING
    )


@both_losses
def test_the_gradient_is_the_derivative_of_the_value(kind: Any, rng: Rng) -> None:
    F, a = rng.uniform(0.1, 9, (4, 5, 7)), rng.uniform(0, 3, (4, 3, 6))
    term = compared(kind, a, factor=3.0)

    def both(F: Array) -> tuple[float, Array]:
        S = term.sums(F, KERNELS)
        gradient = term.add_gradient(None, F, S, 4, 35, 0.5, KERNELS)
        return 0.5 * term.value(S, 4, 35), gradient

    # Central differences in float64: the smooth value leaves their error near 1e-9.
    assert check_gradient(both, F, mode="full", rtol=1e-6).compared == F.size


@both_losses
def test_the_gradient_is_0_where_the_relu_is_closed_and_is_added_elsewhere(
    kind: Any, rng: Rng
) -> None:
    F, a = np.maximum(rng.normal(size=(4, 5, 7)), 0), rng.uniform(0, 3, (4, 3, 6))
    term, dF = compared(kind, a), rng.normal(size=F.shape)
    S = term.sums(F, KERNELS)
    alone = term.add_gradient(None, F, S, 4, 35, 0.5, KERNELS)
    assert np.all((alone == 0) == (F == 0))
    np.testing.assert_allclose(
        term.add_gradient(dF.copy(), F, S, 4, 35, 0.5, KERNELS), dF + alone, rtol=ROUNDING
    )


@both_losses
def test_the_sums_and_gradients_of_areas_add_up_to_those_of_the_whole(kind: Any, rng: Rng) -> None:
    F, term = rng.uniform(0, 9, (4, 5, 7)), compared(kind, rng.uniform(0, 3, (4, 3, 6)))
    areas = [(rows, columns) for rows in (slice(0, 2), slice(2, 5)) for columns in
             (slice(0, 3), slice(3, 7))]  # fmt: skip
    # An area of no position counts nothing, on either side.
    empty = term.sums(F, KERNELS, (slice(2, 2), slice(0, 7)))
    S = sum((term.sums(F, KERNELS, area) for area in areas), start=empty) + empty
    whole = term.sums(F, KERNELS)
    assert S.count == whole.count
    np.testing.assert_allclose(S.mean, whole.mean, rtol=ROUNDING)
    np.testing.assert_allclose(S.products, whole.products, rtol=ROUNDING, atol=ROUNDING)
    dF = np.zeros_like(F)
    for area in areas:
        dF = term.add_gradient(dF, F, S, 4, 35, 1.0, KERNELS, area)
    np.testing.assert_allclose(
        dF, term.add_gradient(None, F, S, 4, 35, 1.0, KERNELS), rtol=ROUNDING
    )


@both_losses
def test_filters_that_never_respond_have_a_finite_gradient(kind: Any) -> None:
    F = np.zeros((2, 3, 4))
    term = compared(kind, np.ones((2, 3, 4)))
    gradient = term.add_gradient(None, F, term.sums(F, KERNELS), 2, 12, 1.0, KERNELS)
    assert not gradient.any()


@both_losses
def test_the_blend_of_two_images_has_the_gradient_of_the_weighted_losses(
    kind: Any, rng: Rng
) -> None:
    F, images = rng.uniform(0.1, 9, (4, 5, 7)), rng.uniform(0, 3, (2, 4, 3, 6))
    samples = [ReferenceSample(a, share) for a, share in zip(images, (0.75, 0.25), strict=True)]
    plain: tuple[Term, ...] = (kind(layer="conv1_1", weight=1.0),)
    (blend,) = with_blended_targets(
        plain, "style", samples, lambda terms, a: with_targets(terms, "style", {"conv1_1": a})
    )
    S = blend.sums(F, KERNELS)

    def gradient(term: Any) -> Array:
        found: Array = term.add_gradient(None, F, S, 4, 35, 1.0, KERNELS)
        return found

    first, second = (gradient(compared(kind, a)) for a in images)
    expected = 0.75 * first + 0.25 * second
    np.testing.assert_allclose(gradient(blend), expected, atol=ROUNDING * abs(expected).max())


@both_losses
def test_targets_are_converted_and_removed_like_those_of_gram_matrices(kind: Any, rng: Rng) -> None:
    term = compared(kind, rng.uniform(0, 3, (4, 3, 6)))
    (single,) = with_target_arrays((term,), lambda array: array.astype(np.float32))
    assert isinstance(single, kind)
    assert single.A.dtype == np.float32
    assert term.compared_with(None, 0).A is None


@both_losses
def test_strict_arrays_give_the_same_numbers(kind: Any, rng: Rng) -> None:
    F, a = rng.uniform(0, 9, (4, 5, 7)), rng.uniform(0, 3, (4, 3, 6))
    F_, a_ = (strict.asarray(each) for each in (F, a))
    expected, found = compared(kind, a), compared(kind, a_)
    S, S_ = expected.sums(F, KERNELS), found.sums(F_, KERNELS)
    # The order of the sums may differ.
    assert found.value(S_, 4, 35) == pytest.approx(expected.value(S, 4, 35), rel=ROUNDING)
    gradient = found.add_gradient(None, F_, S_, 4, 35, 0.5, KERNELS)
    assert namespace(gradient) is strict
    np.testing.assert_allclose(
        on_host(gradient), expected.add_gradient(None, F, S, 4, 35, 0.5, KERNELS), rtol=ROUNDING
    )


def test_the_author_convention_compares_gram_matrices_only() -> None:
    with pytest.raises(OptionError, match="author compares Gram matrices; leave --convention"):
        Options(style_loss="mean-std", convention="author")
