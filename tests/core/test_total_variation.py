"""Total variation: against a loop over the pixels, differences, and the sum over areas."""

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from gramstyle.core.arrays import Array, namespace, on_host
from gramstyle.core.kernels import Area, PlainKernels
from gramstyle.core.total_variation import (
    TotalVariationTerm,
    total_variation,
    total_variation_gradient,
)
from gramstyle.gradcheck import check_gradient

SHAPES = [(3, 7, 9), (3, 1, 9), (3, 7, 1), (3, 1, 1), (2, 2, 2)]

# Float64 sums of some hundred squares in another order.
ROUNDING = 1e-13

Rng = np.random.Generator


def by_loop(x: Array) -> float:
    """Every pair of neighbours, one after the other."""
    total, (C, H, V) = 0.0, x.shape
    for c in range(C):
        for i in range(H):
            for j in range(V):
                if i + 1 < H:
                    total += (x[c, i + 1, j] - x[c, i, j]) ** 2
                if j + 1 < V:
                    total += (x[c, i, j + 1] - x[c, i, j]) ** 2
    return float(total)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_value_is_the_sum_of_squared_differences_of_neighbours(
    shape: tuple[int, int, int], rng: Rng
) -> None:
    x = rng.uniform(0, 255, shape)
    assert total_variation(x) == pytest.approx(by_loop(x), rel=ROUNDING)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_the_derivative(shape: tuple[int, int, int], rng: Rng) -> None:
    x = rng.uniform(0, 255, shape)
    assert total_variation_gradient(x).shape == shape
    checked = check_gradient(
        lambda x: (total_variation(x), total_variation_gradient(x)), x, mode="full"
    )
    assert checked.compared == x.size


@pytest.mark.parametrize("shape", SHAPES)
def test_in_an_image_that_wraps_the_first_pixels_follow_the_last_ones(
    shape: tuple[int, int, int], rng: Rng
) -> None:
    x = rng.uniform(0, 255, shape)
    rolled = sum(np.sum((np.roll(x, -1, axis) - x) ** 2) for axis in (1, 2))
    assert total_variation(x, wraps=True) == pytest.approx(rolled, rel=ROUNDING)
    check_gradient(
        lambda x: (total_variation(x, wraps=True), total_variation_gradient(x, wraps=True)),
        x,
        mode="full",
    )


def test_an_image_of_one_colour_has_no_variation() -> None:
    x = np.full((3, 5, 4), 200.0)
    assert total_variation(x) == 0.0
    assert not total_variation_gradient(x).any()


def areas(H: int, V: int, edge: int) -> list[tuple[Area, Area]]:
    """Disjoint areas of an image, and the window of each: one pixel more on every side."""
    return [
        (
            (slice(top, min(top + edge, H)), slice(left, min(left + edge, V))),
            (
                slice(max(top - 1, 0), min(top + edge + 1, H)),
                slice(max(left - 1, 0), min(left + edge + 1, V)),
            ),
        )
        for top in range(0, H, edge)
        for left in range(0, V, edge)
    ]


@pytest.mark.parametrize("edge", [1, 2, 4, 20])
@pytest.mark.parametrize("shape", [(3, 11, 14), (3, 1, 9), (3, 9, 1)])
def test_the_areas_of_windows_sum_to_the_whole(
    shape: tuple[int, int, int], edge: int, rng: Rng
) -> None:
    # Whole numbers: their sums are exact in any order, so that nothing but equality will do.
    x = np.rint(rng.uniform(0, 255, shape))
    total, dx = 0.0, np.zeros(shape)
    for area, window in areas(*shape[1:], edge):
        here: Any = tuple(
            slice(a.start - w.start, a.stop - w.start) for a, w in zip(area, window, strict=True)
        )
        total += total_variation(x[:, *window], here)
        dx[:, *window] += total_variation_gradient(x[:, *window], here)
    assert total == by_loop(x)
    np.testing.assert_array_equal(dx, total_variation_gradient(x))


def test_the_term_is_the_variation_of_a_pixel_and_adds_its_weighted_derivative(rng: Rng) -> None:
    x, dx = rng.uniform(0, 255, (2, 3, 6, 7))
    term, kernels = TotalVariationTerm(), PlainKernels()
    sums = term.sums(x, kernels)
    assert term.value(sums, 3, 42) == pytest.approx(by_loop(x) / 42, rel=ROUNDING)
    alone = term.add_gradient(None, x, sums, 3, 42, 0.5, kernels)
    np.testing.assert_allclose(alone, 0.5 * total_variation_gradient(x) / 42, rtol=ROUNDING)
    added = term.add_gradient(dx.copy(), x, sums, 3, 42, 0.5, kernels)
    np.testing.assert_allclose(added, dx + alone, rtol=ROUNDING)
    single = term.add_gradient(dx.astype(np.float32), x, sums, 3, 42, 0.5, kernels)
    assert single.dtype == np.float32


@pytest.mark.parametrize("area", [None, (slice(1, 4), slice(0, 6))])
def test_strict_arrays_give_the_same_bits(area: Area | None, rng: Rng) -> None:
    x = rng.uniform(0, 255, (3, 6, 7))
    x_: Any = strict.asarray(x)
    assert total_variation(x_, area) == total_variation(x, area)
    found = TotalVariationTerm().add_gradient(x_, x_, 0.0, 3, 42, 0.5, PlainKernels(), area)
    expected = TotalVariationTerm().add_gradient(x, x, 0.0, 3, 42, 0.5, PlainKernels(), area)
    assert namespace(found) is strict
    np.testing.assert_array_equal(on_host(found), expected)
