"""Precisions of stored weights: float32, float16, or a codebook of 256 values per layer."""

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.errors import ModelError

Precision = Literal["float32", "float16", "codebook8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

CODES = 256
# On VGG-19's largest layers, further steps of Lloyd's algorithm change the error by under 0.1 %.
STEPS = 60
BINS = 4096
# Size of the sample that rules out a codebook early: most layers have more values than that in it.
SAMPLE = 4096


def lossless(weights: Iterable[Array]) -> Precision:
    """Return the smallest precision that stores all these weights (float32) exactly."""
    arrays = list(weights)
    if all(_has_few_values(W) for W in arrays):
        return "codebook8"
    with np.errstate(over="ignore"):
        halves = all(np.array_equal(W.astype(np.float16), W) for W in arrays)
    return "float16" if halves else "float32"


def as_float16(W: Array, *, name: str) -> Array:
    """Return weights rounded to float16; raise ModelError if one exceeds its range."""
    with np.errstate(over="ignore"):
        half: Array = W.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(
            f"the weights of {name} reach {np.abs(W).max():.3g}, the limit of float16 is 65504; "
            "choose another --precision"
        )
    return half


def codebook(W: Array) -> tuple[Array, Array]:
    """Replace each weight by the nearest of at most 256 values.

    If the weights have at most 256 distinct values, these are used and nothing is lost.
    Otherwise the values minimise the mean squared error (Lloyd's algorithm, which is k-means in
    one dimension). Their initial density is the cube root of the weights' density, which is
    optimal for many values.

    Parameters
    ----------
    W
        Weights, float32, any shape.

    Returns
    -------
    index
        uint8, W's shape.
    table
        float32, at most 256 values, ascending.

    References
    ----------
    Panter, Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of
    levels", 1951. Lloyd, "Least squares quantization in PCM", 1982.
    """
    ordered = np.sort(W, axis=None)
    table = _distinct(ordered)
    if len(table) > CODES:
        table = _distinct(_lloyd(ordered.astype(np.float64)).astype(np.float32))
    index = np.searchsorted(_borders(table.astype(np.float64)), W).astype(np.uint8)
    return index, table


def _has_few_values(W: Array) -> bool:
    flat = W.reshape(-1)
    few = len(_distinct(np.sort(flat[:SAMPLE]))) <= CODES
    return few and len(_distinct(np.sort(flat))) <= CODES


def _distinct(ordered: Array) -> Array:
    """Return the distinct values of an ascending vector."""
    distinct: Array = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    return distinct


def _borders(centres: Array) -> Array:
    return (centres[1:] + centres[:-1]) / 2


def _lloyd(ordered: Array) -> Array:
    """Return 256 centres; on an ascending vector one step is a search and two differences."""
    density, edges = np.histogram(ordered, BINS)
    cumulative = np.append(0.0, np.cumsum(np.cbrt(density)))
    centres: Array = np.interp((np.arange(CODES) + 0.5) / CODES, cumulative / cumulative[-1], edges)
    sums = np.append(0.0, np.cumsum(ordered))
    for _ in range(STEPS):
        ends = np.searchsorted(ordered, _borders(centres), side="right")
        ends = np.concatenate(([0], ends, [len(ordered)]))
        counts = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(counts, 1)
        centres = np.where(counts > 0, means, centres)
    return centres
