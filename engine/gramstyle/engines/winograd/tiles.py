"""The transforms of one tile, generated from the matrices of `algorithm`.

Each transform is two one-dimensional ones, along the columns and the rows. The rows of Bᵀ at the
points ±p share their even and their odd part, and so do the columns of Aᵀ: a pair takes little more
than half of the operations of the two products.
"""

from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.engines.winograd.algorithm import matrices
from gramstyle.engines.winograd.simd import (
    INTEGER,
    WIDTH,
    Memory,
    at_index,
    intrinsic,
    plus_product,
    procedure,
    splat_constant,
)

# Coefficients below this are zeros that rounding has changed.
_NOTHING = 1e-12


def _evaluated(builder: Any, matrix: Array, d: list[Any]) -> list[Any]:
    """Emit Bᵀ d, or G g: a line of a patch or of a kernel in the transformed domain."""
    result = [_combined(builder, matrix[0], d)]
    for plus, minus in zip(matrix[1:-1:2], matrix[2:-1:2], strict=True):
        even, odd = (plus + minus) / 2, (plus - minus) / 2
        leading = odd[np.flatnonzero(abs(odd) > _NOTHING)[-1]]
        halves = _combined(builder, even, d), _combined(builder, odd / leading, d)
        result += [_plus(builder, halves[0], sign * leading, halves[1]) for sign in (1.0, -1.0)]
    return [*result, _combined(builder, matrix[-1], d)]


def _outputs(builder: Any, at: Array, q: list[Any]) -> list[Any]:
    """Emit Aᵀ q: the outputs of a line of a tile from its numbers in the transformed domain."""
    pairs = range(1, len(q) - 1, 2)
    even = [_plus(builder, q[k], 1.0, q[k + 1]) for k in pairs]
    odd = [_plus(builder, q[k], -1.0, q[k + 1]) for k in pairs]
    result = []
    for power, row in enumerate(at):
        value = _combined(builder, row[1:-1:2], odd if power % 2 else even)
        for place in (0, -1):
            value = value if row[place] == 0 else _plus(builder, value, 1.0, q[place])
        result.append(value)
    return result


def _combined(builder: Any, factors: Array, values: list[Any]) -> Any:
    """Emit the sum of factors times values, the last one first."""
    total = None
    for factor, value in zip(factors[::-1], values[::-1], strict=True):
        if abs(factor) > _NOTHING:
            total = _plus(builder, total, float(factor), value)
    return total


def _plus(builder: Any, total: Any, factor: float, value: Any) -> Any:
    """Emit total + factor · value, where no total is 0."""
    unit = abs(abs(factor) - 1) < _NOTHING
    if total is None:
        return value if unit and factor > 0 else builder.fmul(splat_constant(factor), value)
    if unit:
        add = builder.fadd if factor > 0 else builder.fsub
        return add(total, value)
    return plus_product(builder, total, splat_constant(factor), value)


def patch_transform(tile: int) -> Any:
    """Return a compiled Bᵀ d B of a patch for the channels of a register.

    It reads X from index `at`; rows and columns are `row` and `column` apart. It writes D from
    index `to`; planes are `plane` apart.
    """
    _, _, bt = matrices(tile)
    edge = len(bt)

    @intrinsic
    def transform(
        _context: Any, X: Any, at: Any, row: Any, column: Any, D: Any, to: Any, plane: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            X, at, row, column, D, to, plane = arguments
            source = Memory(context, builder, signature.args[0], X)
            target = Memory(context, builder, signature.args[4], D)
            patch = [
                [source.load(at, (row, i), (column, j)) for j in range(edge)] for i in range(edge)
            ]
            _store_planes(builder, bt, patch, target, to, plane)
            return context.get_dummy_value()

        return procedure(X, INTEGER, INTEGER, INTEGER, D, INTEGER, INTEGER), generate

    return transform


def kernel_transform(tile: int) -> Any:
    """Return a compiled G g Gᵀ of the kernels of a register.

    It reads W from index `at`; taps are `tap` apart. It writes U from index `to`; planes are
    `plane` apart.
    """
    _, g, _ = matrices(tile)

    @intrinsic
    def transform(_context: Any, W: Any, at: Any, tap: Any, U: Any, to: Any, plane: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            W, at, tap, U, to, plane = arguments
            source = Memory(context, builder, signature.args[0], W)
            target = Memory(context, builder, signature.args[3], U)
            kernel = [[source.load(at, (tap, i * 3 + j)) for j in range(3)] for i in range(3)]
            _store_planes(builder, g, kernel, target, to, plane)
            return context.get_dummy_value()

        return procedure(W, INTEGER, INTEGER, U, INTEGER, INTEGER), generate

    return transform


def _store_planes(
    builder: Any, matrix: Array, square: list[list[Any]], target: Memory, to: Any, plane: Any
) -> None:
    """Emit the transform of the rows and the columns of a square, and its stores to the planes."""
    lines = [_evaluated(builder, matrix, row) for row in square]
    for j in range(len(matrix)):
        for i, value in enumerate(_evaluated(builder, matrix, [line[j] for line in lines])):
            target.store(value, to, (plane, i * len(matrix) + j))


def tile_transform(tile: int) -> Any:
    """Return a compiled Aᵀ q A of a tile for the channels of a register.

    It reads Q from index `at`; planes are `plane` apart. It writes the rows of the tile to `out`.
    """
    at, _, _ = matrices(tile)
    edge = at.shape[1]

    @intrinsic
    def transform(_context: Any, Q: Any, start: Any, plane: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            Q, start, plane, out = arguments
            source = Memory(context, builder, signature.args[0], Q)
            target = Memory(context, builder, signature.args[3], out)
            columns = [
                _outputs(
                    builder,
                    at,
                    [source.load(start, (plane, i * edge + j)) for i in range(edge)],
                )
                for j in range(edge)
            ]
            for i in range(tile):
                values = _outputs(builder, at, [column[i] for column in columns])
                for j, value in enumerate(values):
                    target.store(value, at_index((i * tile + j) * WIDTH))
            return context.get_dummy_value()

        return procedure(Q, INTEGER, INTEGER, out), generate

    return transform
