"""The directions of a check of a vjp, and the numbers that it compares along each."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.gradcheck.calls import Calls
from gramstyle.gradcheck.comparing import Comparison, Probe
from gramstyle.gradcheck.report import Checked, GradientCheckError, GradientMismatchError
from gramstyle.gradcheck.settings import TOLERANCE, Settings

# A cotangent u and its vjp Jᵀ u.
CotangentAndVjp = tuple[Array, Array]


def check(calls: Calls, settings: Settings) -> Checked:
    """Run all comparisons, then check that f and vjp are deterministic."""
    point = calls.point
    value = calls.forward(point)
    u = cotangent(settings, value.size, 0)
    gradient = calls.backward(point, u)
    comparison = Comparison(calls, settings)
    mismatches = (
        directional(comparison, value, (u, gradient))
        if settings.mode == "directional"
        else full(comparison, value, (u, gradient))
    )
    mismatch = next(mismatches, None)
    # First, since a function that is not deterministic also causes mismatches.
    assert_deterministic("f", value, calls.forward(point))
    assert_deterministic("vjp", gradient, calls.backward(point, u))
    if mismatch is not None:
        raise mismatch
    return passed(comparison)


def passed(comparison: Comparison) -> Checked:
    """Return the numbers of a check whose comparisons all agree."""
    calls, settings = comparison.calls, comparison.settings
    return Checked(
        mode=settings.mode,
        compared=comparison.compared,
        error=comparison.error,
        relative_error=comparison.relative_error,
        step=min(comparison.step, settings.eps),
        flips=comparison.flips,
        forwards=calls.forwards,
        backwards=calls.backwards,
        seed=settings.seed,
    )


def directional(
    comparison: Comparison, value: Array, first: CotangentAndVjp
) -> Iterator[GradientMismatchError]:
    """Compare ⟨u, J v⟩ with ⟨Jᵀ u, v⟩ for random u and v; yield mismatches."""
    calls, settings = comparison.calls, comparison.settings
    point, names, units = calls.point, calls.names, sizes(calls.inputs)

    def mismatch(
        number: int, u: Array, gradient: Array, v: Array, name: str | None
    ) -> GradientMismatchError | None:
        return comparison.mismatch(
            Probe(
                v,
                lambda change: np.array([u @ change]),
                np.array([gradient @ v]),
                typical=np.array([np.linalg.norm(gradient * v)]),
                size=np.array([np.linalg.norm(u * value)]),
                input=name,
                direction=number,
            )
        )

    for number in range(settings.directions):
        if number == 0:
            u, gradient = first
        else:
            u = cotangent(settings, value.size, number)
            gradient = calls.backward(point, u)
        v = units * randoms(settings, number, 0, point.size)
        together = mismatch(number, u, gradient, v, names[0] if len(names) == 1 else None)
        if together is None:
            continue
        if len(names) > 1:
            # Find the input at fault.
            for name, part in zip(names, parts(calls.inputs), strict=True):
                alone = mismatch(number, u, gradient, v * part, name)
                if alone is not None:
                    yield alone
        yield together


def full(
    comparison: Comparison, value: Array, first: CotangentAndVjp
) -> Iterator[GradientMismatchError]:
    """Compare every entry of J: columns by differences, rows by the vjp; yield mismatches."""
    calls = comparison.calls
    n, m = calls.point.size, value.size
    jacobian = np.zeros((m, n))
    for j in range(m):
        jacobian[j] = calls.backward(calls.point, unit_vector(m, j))
    yield from entries(comparison, value, jacobian)
    u, gradient = first
    assert_linear("vjp", "cotangents", jacobian.T, u, gradient)


def entries(
    comparison: Comparison, value: Array, jacobian: Array
) -> Iterator[GradientMismatchError]:
    """Compare every entry of J with differences of f; yield mismatches."""
    calls = comparison.calls
    m, n = jacobian.shape
    typical = np.zeros((m, n))
    for part in parts(calls.inputs):
        rows = [root_mean_square(row) for row in jacobian[:, part]]
        typical[:, part] = np.array(rows).reshape(m, 1)
    for i, unit in enumerate(sizes(calls.inputs)):
        name, index = calls.input_at(i)
        mismatch = comparison.mismatch(
            Probe(
                unit * unit_vector(n, i),
                lambda change: change,
                unit * jacobian[:, i],
                typical=unit * typical[:, i],
                size=abs(value),
                unit=float(unit),
                input=name,
                index=index,
                entries=True,
            )
        )
        if mismatch is not None:
            yield mismatch


def assert_deterministic(what: str, before: Array, after: Array) -> None:
    """Check that a function has returned the same result twice.

    Raises
    ------
    GradientCheckError
        If it has not.
    """
    if not np.array_equal(before, after):
        raise GradientCheckError(
            f"{what} is not deterministic: two calls at the same point differ by up to "
            f"{np.max(abs(before - after)):.1e}; its result must depend only on its arguments"
        )


def assert_linear(what: str, of: str, matrix: Array, vector: Array, product: Array) -> None:
    """Check that a derivative is linear: its result for a vector is its matrix times the vector.

    The columns of the matrix come from unit vectors, which have no negative entry and would not
    show a derivative that clips its argument.

    Raises
    ------
    GradientCheckError
        If it is not linear.
    """
    error = abs(matrix @ vector - product)
    if np.any(error > TOLERANCE * (abs(matrix) @ abs(vector))):
        applied = "Jᵀ" if what == "vjp" else "J"
        raise GradientCheckError(
            f"{what} is not linear in its {of}: for a combination of unit vectors it is off by "
            f"up to {np.max(error):.1e}; let it apply {applied} without clipping or weighting"
        )


def sizes(inputs: Sequence[Array]) -> Array:
    """Return for each entry the size of its input, which is the unit of its steps."""
    return np.concatenate([np.full(x.size, root_mean_square(x) or 1.0) for x in inputs])


def parts(inputs: Sequence[Array]) -> list[Array]:
    """Return for each input a mask of its entries in the vector."""
    owner = np.repeat(np.arange(len(inputs)), [x.size for x in inputs])
    return [owner == number for number in range(len(inputs))]


def root_mean_square(x: Array) -> float:
    """Return √(mean of x²), or 0 if there are no entries."""
    # Relative to the largest entry, whose square may overflow.
    largest = float(abs(x).max()) if x.size else 0.0
    return largest * math.sqrt(float(np.mean((x / largest) ** 2))) if largest else 0.0


def cotangent(settings: Settings, size: int, number: int) -> Array:
    """Return a cotangent u: random, or 1 for a loss, so that messages show the loss's own units."""
    if settings.cotangent == "one":
        return np.ones(size)
    return randoms(settings, number, 1, size)


def randoms(settings: Settings, number: int, which: int, size: int) -> Array:
    """Return random numbers of either sign with absolute values from ½ to 1½.

    No number is near 0, so every wrong entry shows. No two are equal in size, so two exchanged
    entries do not cancel, as they would with random signs alone.
    """
    rng = np.random.default_rng((settings.seed, number, which))
    return np.asarray(rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size))


def unit_vector(size: int, place: int) -> Array:
    """Return a vector of zeros with a single 1."""
    vector = np.zeros(size)
    vector[place] = 1.0
    return vector
