"""Precisions of stored weights: lossless where possible, otherwise as good as possible."""

import numpy as np
import pytest

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError
from gramstyle.model.precision import as_float16, codebook, lossless

# A quantiser that is optimal for a normal distribution and 256 values has this mean squared error
# in units of the variance (Panter and Dite: √3 π / (2 · 256²)), exact for many values.
NORMAL_256 = np.sqrt(3) * np.pi / 2 / 256**2


def of_values(values: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return rng.choice(values.astype(np.float32), shape)


@pytest.mark.parametrize("count", [1, 2, 255, 256])
def test_a_codebook_of_few_values_is_lossless(count: int, rng: np.random.Generator) -> None:
    W = of_values(rng.standard_normal(count), (64, 8, 3, 3), rng)
    index, table = codebook(W)
    assert (index.dtype, table.dtype, index.shape) == (np.uint8, np.float32, W.shape)
    assert len(table) == count
    np.testing.assert_array_equal(table[index], W)


def test_a_codebook_distinguishes_neighbouring_floats() -> None:
    one, two = np.float32(1), np.float32(2)
    first = np.nextafter(one, two)
    # In float32 the midpoint of two neighbours is rounded to one of them.
    W = np.array([one, first, np.nextafter(first, two), 3], np.float32).reshape(1, 4, 1, 1)
    index, table = codebook(W)
    np.testing.assert_array_equal(table[index], W)


def test_each_weight_gets_the_nearest_value_of_the_table(rng: np.random.Generator) -> None:
    W = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)
    index, table = codebook(W)
    assert len(table) <= 256
    distances = np.abs(W.reshape(-1, 1).astype(np.float64) - table)
    np.testing.assert_array_equal(
        np.abs(table.astype(np.float64)[index] - W).ravel(), distances.min(axis=1)
    )


def test_each_value_of_the_table_is_the_mean_of_its_weights(rng: np.random.Generator) -> None:
    W = rng.laplace(size=(32, 32, 3, 3)).astype(np.float32)
    index, table = codebook(W)
    means = [W[index == k].mean(dtype=np.float64) for k in range(len(table))]
    # The last of Lloyd's steps still moves values by up to a tenth of their mean distance.
    spacing = np.ptp(table) / len(table)
    np.testing.assert_allclose(means, table, rtol=0, atol=0.1 * spacing)


def test_a_codebook_of_normal_weights_is_as_good_as_the_best_known_one() -> None:
    W = np.random.default_rng(0).standard_normal((256, 256, 3, 3)).astype(np.float32)
    index, table = codebook(W)
    error = np.mean((table[index].astype(np.float64) - W) ** 2)
    # A sample of 590,000 may be fitted slightly better than the distribution; Lloyd's slow last
    # steps would improve the rest, up to 3 %.
    assert 0.95 * NORMAL_256 < error < 1.03 * NORMAL_256


def test_no_values_are_spent_on_a_gap_between_weights(rng: np.random.Generator) -> None:
    W = rng.normal(rng.choice([-100, 100], (32, 32, 3, 3)), 0.01).astype(np.float32)
    index, table = codebook(W)
    assert (np.diff(table) > 0).all()
    error = np.mean((table[index].astype(np.float64) - W) ** 2)
    # Two clusters of 0.01 share 256 values: four times the error of one of them, were the start
    # not coarse (its bins are 0.05 wide), and Lloyd's steps do the rest.
    assert error < 0.01**2 / 100


def test_outliers_do_not_reduce_the_precision_of_other_weights() -> None:
    W = np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(np.float32)
    W[0, 0, 0, 0] = 1000
    index, table = codebook(W)
    error = np.mean((table[index].astype(np.float64) - W)[1:] ** 2)
    # One value represents the outlier; the initial values are coarser, since the bins span it too.
    assert error < 2 * NORMAL_256


@pytest.mark.parametrize(
    ("values", "precision"),
    [
        (np.arange(256) / 3, "codebook8"),
        (np.arange(300) / 4, "float16"),
        (np.arange(300) / 3, "float32"),
        (np.arange(300) * 1000.0, "float32"),  # beyond float16
    ],
)
def test_the_smallest_lossless_precision_is_found(values: Array, precision: str) -> None:
    few = np.ones((2, 3, 3, 3), np.float32)
    W = np.resize(values.astype(np.float32), (64, 64, 3, 3))
    assert lossless([few, W]) == precision
    assert lossless([W, few]) == precision


def test_distinct_values_beyond_the_sample_are_counted(rng: np.random.Generator) -> None:
    W = np.zeros((64, 64, 3, 3), np.float32)
    W[-1] = rng.standard_normal((64, 3, 3))
    assert lossless([W]) == "float32"


def test_the_error_for_a_weight_beyond_float16_names_layer_and_size() -> None:
    with pytest.raises(ModelError, match=r"conv3_1 reach 6.6e\+04, the limit of float16 is 65504"):
        as_float16(np.array([1.0, -66000.0], np.float32), name="conv3_1")
