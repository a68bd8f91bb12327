"""The loops over all entries that an iteration consists of, in two forms with the same result.

`PlainLoops` works in any array namespace and with any storage of the pairs. `CompiledLoops` needs
Numba and `PairsInRows`; it computes on several threads and in fewer passes.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from gramstyle.core.arrays import Array, cast
from gramstyle.optimise.lbfgsb import blocks
from gramstyle.optimise.lbfgsb import direction as plain
from gramstyle.optimise.lbfgsb.blocks import Gradient
from gramstyle.optimise.lbfgsb.direction import Direction
from gramstyle.optimise.lbfgsb.model import Model, complete, new_rows
from gramstyle.optimise.lbfgsb.pairs import Pairs, PairsInMemory
from gramstyle.optimise.lbfgsb.rows import PairsInRows

# The entries are divided into so many parts, for any number of threads, each of whole tiles.
PARTS = 32

# The compiled loops store a tile of all pairs in float64: half a megabyte for this many.
MOST_PAIRS = 64

# A history of no pairs.
_NO_ROWS, _NO_ORDER, _NO_WEIGHTS = np.empty((0, 0), np.float32), np.empty(0, np.int64), np.empty(0)


class Loops(Protocol):
    """The loops over all entries; all vectors are (n,)."""

    def find_direction(self, x: Array, g: Gradient, products: Array) -> Direction | None:
        """Return a direction of descent, or None: see `direction.find_direction`."""

    def clipped_step(self, x: Array, d: Array, t: float) -> Array:
        """Return x + t d clipped to the bounds."""

    def slope(self, g: Gradient, d: Array) -> float:
        """Return gᵀd; not finite if an entry of g is not."""

    def append_pair(self, x: Array, after: Array, g: Gradient, g_after: Gradient) -> None:
        """Append the pair of a step from x to `after`."""


def loops_over(pairs: Pairs) -> Loops:
    """Return the loops for a storage of pairs."""
    return CompiledLoops(pairs) if isinstance(pairs, PairsInRows) else PlainLoops(pairs)


def pairs_on_host(history: int, *, threads: int) -> Pairs:
    """Return an empty history in the host's memory, in float32, with the fastest loops there are.

    Without Numba, and for a long history, these are the plain ones.
    """
    try:
        from gramstyle.optimise.lbfgsb import compiled  # noqa: F401 - imports Numba
    except ImportError:
        return PairsInMemory(history)
    return (
        PairsInRows(history, threads=threads) if history <= MOST_PAIRS else PairsInMemory(history)
    )


class PlainLoops:
    """Loops in the array namespace."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def find_direction(self, x: Array, g: Gradient, products: Array) -> Direction | None:
        """Return a direction of descent, or None."""
        return plain.find_direction(x, g, self._pairs, products)

    def clipped_step(self, x: Array, d: Array, t: float) -> Array:
        """Return x + t d clipped to the bounds."""
        return blocks.clipped_step(x, d, t)

    def slope(self, g: Gradient, d: Array) -> float:
        """Return gᵀd."""
        return blocks.slope(g, d)

    def append_pair(self, x: Array, after: Array, g: Gradient, g_after: Gradient) -> None:
        """Append the pair of a step."""
        parts = (
            (b, cast(after[b], "float64") - cast(x[b], "float64"), g_after.block(b) - g.block(b))
            for b in blocks.blocks(x)
        )
        self._pairs.append(x.shape[0], parts)


class CompiledLoops:
    """Loops compiled with Numba, on the threads of the pairs.

    Each part of the entries has sums of its own, which are added in the order of the parts. The
    result therefore does not depend on the number of threads.
    """

    def __init__(self, pairs: PairsInRows) -> None:
        from gramstyle.optimise.lbfgsb import compiled

        self._pairs, self._compiled = pairs, compiled

    def find_direction(self, x: Array, g: Gradient, products: Array) -> Direction | None:
        """Return a direction of descent, or None."""
        theta = 1.0
        if len(self._pairs):
            try:
                found, theta = self._to_minimum(x, g, products)
            except np.linalg.LinAlgError:
                return None
            if found.slope < 0:
                return found
            products = found.products
        to, out = np.empty_like(x), np.empty((PARTS, 2))
        self._run(
            lambda i, *part: self._compiled.direction(
                _NO_ROWS, _NO_ORDER, _NO_WEIGHTS, x, *g, theta, False, *part, to, out[i]
            ),
            x,
        )
        found = _directed(to, out, products)
        return found if found.slope < 0 else None

    def clipped_step(self, x: Array, d: Array, t: float) -> Array:
        """Return x + t d clipped to the bounds."""
        result = np.empty_like(x)
        self._run(lambda _, *part: self._compiled.clipped_step(x, d, t, *part, result), x)
        return result

    def slope(self, g: Gradient, d: Array) -> float:
        """Return gᵀd."""
        out = np.zeros(PARTS)

        def part(i: int, first: int, last: int) -> None:
            out[i] = self._compiled.slope(*g, d, first, last)

        self._run(part, d)
        return float(_sum(out))

    def append_pair(self, x: Array, after: Array, g: Gradient, g_after: Gradient) -> None:
        """Append the pair of a step."""

        def write(s: Array, y: Array) -> None:
            self._run(
                lambda _, *part: self._compiled.difference(
                    x, after, g.unscaled, g_after.unscaled, g.scale, *part, s, y
                ),
                x,
            )

        self._pairs.append_by(x.shape[0], write)

    def _to_minimum(self, x: Array, g: Gradient, products: Array) -> tuple[Direction, float]:
        """Return the direction to the model's minimum in the box, and θ.

        The two rounds are those of `direction.minimise_model`. The products F Fᵀ of the free
        columns are V Vᵀ minus those of the fixed ones, which usually are few. The second round
        fixes more entries than the first, N of V's columns: N Nᵀ and N g are subtracted from its
        products.

        Raises
        ------
        LinAlgError
            If the pairs define no model.
        """
        V, order = self._pairs.V, self._pairs.order
        rows = len(order)
        new = new_rows(len(self._pairs), len(products) // 2)
        out = np.zeros((PARTS, rows, rows + 1 + len(new)))
        rows_of_new = np.array(new, np.int64)
        self._run(
            lambda i, *part: self._compiled.first_sums(V, order, rows_of_new, x, *g, *part, out[i]),
            x,
        )
        found = _sum(out)
        products = complete(products, new, found[:, rows + 1 :])
        model = Model.of(products)
        free, of_g = products - _symmetric(found[:, :rows]), found[:, rows]
        c = model.coefficients(free, of_g, np.zeros(rows))

        to, out = np.empty_like(x), np.zeros((PARTS, rows, rows + 2))
        self._run(
            lambda i, *part: self._compiled.second_sums(
                V, order, c, x, *g, model.theta, *part, to, out[i]
            ),
            x,
        )
        found = _sum(out)
        free -= _symmetric(found[:, :rows])
        c = model.coefficients(free, of_g - found[:, rows], found[:, rows + 1])

        out = np.empty((PARTS, 2))
        self._run(
            lambda i, *part: self._compiled.direction(
                V, order, c, x, *g, model.theta, True, *part, to, out[i]
            ),
            x,
        )
        return _directed(to, out, products), model.theta

    def _run(self, function: Callable[[int, int, int], None], vector: Array) -> None:
        """Call a function with every part: its number, its first entry, and the one after it."""
        n, tile = vector.shape[0], self._compiled.TILE
        tiles = -(-n // tile)
        edges = [min(n, tiles * i // PARTS * tile) for i in range(PARTS + 1)]
        self._pairs.for_each(lambda i: function(i, edges[i], edges[i + 1]), PARTS)


def _sum(parts: Array) -> Array:
    """Return the sum of all parts, in their order."""
    total: Array = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _symmetric(lower: Array) -> Array:
    """Return a symmetric matrix from its lower triangle."""
    result: Array = np.tril(lower) + np.tril(lower, -1).T
    return result


def _directed(d: Array, out: Array, products: Array) -> Direction:
    # x + d is in the box by construction, independently of the rounding of the ratio.
    return Direction(d, float(_sum(out[:, 0])), max(1.0, float(out[:, 1].min())), products)
