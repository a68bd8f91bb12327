"""Which directions a check takes, and what it compares along each."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.gradcheck.calls import Calls
from gramstyle.gradcheck.comparing import Comparison, Pairs
from gramstyle.gradcheck.report import Checked, GradientCheckError, GradientMismatchError
from gramstyle.gradcheck.settings import TOLERANCE, Settings

# A cotangent and its vjp.
Pulled = tuple[Array, Array]


def check(calls: Calls, settings: Settings) -> Checked:
    """Compare everything there is to compare; then see that the functions still say the same."""
    point = calls.point
    value = calls.value(point)
    u = cotangent(settings, value.size, 0)
    gradient = calls.pull(point, u)
    comparison = Comparison(calls, settings)
    mismatches = (
        directional(comparison, value, (u, gradient))
        if settings.mode == "directional"
        else full(comparison, value, (u, gradient))
    )
    mismatch = next(mismatches, None)
    # Before the blame is put on the gradient.
    steady("f", value, calls.value(point))
    steady("vjp", gradient, calls.pull(point, u))
    if mismatch is not None:
        raise mismatch
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
    comparison: Comparison, value: Array, first: Pulled
) -> Iterator[GradientMismatchError]:
    """⟨u, J v⟩ against ⟨Jᵀ u, v⟩ for some u and v."""
    calls, settings = comparison.calls, comparison.settings
    point, names, units = calls.point, calls.names, sizes(calls.inputs)

    def mismatch(
        number: int, u: Array, gradient: Array, v: Array, name: str | None
    ) -> GradientMismatchError | None:
        return comparison.mismatch(
            Pairs(
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
            gradient = calls.pull(point, u)
        v = units * randoms(settings, number, 0, point.size)
        together = mismatch(number, u, gradient, v, names[0] if len(names) == 1 else None)
        if together is None:
            continue
        if len(names) > 1:
            # In which of the inputs does it lie?
            for name, part in zip(names, parts(calls.inputs), strict=True):
                alone = mismatch(number, u, gradient, v * part, name)
                if alone is not None:
                    yield alone
        yield together


def full(comparison: Comparison, value: Array, first: Pulled) -> Iterator[GradientMismatchError]:
    """Every entry of J, a column at a time by differences, a row at a time by the vjp."""
    calls = comparison.calls
    n, m = calls.point.size, value.size
    jacobian = np.zeros((m, n))
    for j in range(m):
        jacobian[j] = calls.pull(calls.point, unit_vector(m, j))
    typical = np.zeros((m, n))
    for part in parts(calls.inputs):
        rows = [root_mean_square(row) for row in jacobian[:, part]]
        typical[:, part] = np.array(rows).reshape(m, 1)
    for i, unit in enumerate(sizes(calls.inputs)):
        name, index = calls.input_at(i)
        mismatch = comparison.mismatch(
            Pairs(
                unit * unit_vector(n, i),
                lambda change: change,
                unit * jacobian[:, i],
                typical=unit * typical[:, i],
                size=abs(value),
                unit=float(unit),
                input=name,
                index=index,
            )
        )
        if mismatch is not None:
            yield mismatch
    assert_linear(jacobian, *first)


def steady(what: str, before: Array, after: Array) -> None:
    """See that a function has returned the same twice.

    Raises
    ------
    GradientCheckError
        If it has not.
    """
    if not np.array_equal(before, after):
        raise GradientCheckError(
            f"{what} is not deterministic: two calls at the same point differ by up to "
            f"{np.max(abs(before - after)):.1e}; what it returns must depend on its arguments alone"
        )


def assert_linear(jacobian: Array, u: Array, gradient: Array) -> None:
    """See that a vjp of a mixed cotangent is the mixture: unit vectors have no negative entry.

    Raises
    ------
    GradientCheckError
        If it is not.
    """
    error = abs(u @ jacobian - gradient)
    if np.any(error > TOLERANCE * (abs(u) @ abs(jacobian))):
        raise GradientCheckError(
            f"vjp is not linear in its cotangents: one that mixes all of them is off by up to "
            f"{np.max(error):.1e} from the mixture of theirs"
        )


def sizes(inputs: Sequence[Array]) -> Array:
    """Return for each entry its input's size, the unit of its steps."""
    return np.concatenate([np.full(x.size, root_mean_square(x) or 1.0) for x in inputs])


def parts(inputs: Sequence[Array]) -> list[Array]:
    """Return for each input which entries of the vector are its own."""
    owner = np.repeat(np.arange(len(inputs)), [x.size for x in inputs])
    return [owner == number for number in range(len(inputs))]


def root_mean_square(x: Array) -> float:
    """Return √(mean of x²), 0 for no entries."""
    # In units of the largest, whose square may overflow.
    largest = float(abs(x).max()) if x.size else 0.0
    return largest * math.sqrt(float(np.mean((x / largest) ** 2))) if largest else 0.0


def cotangent(settings: Settings, size: int, number: int) -> Array:
    """Return one u: random, or 1 for a loss, whose numbers are then its own."""
    if settings.cotangent == "one":
        return np.ones(size)
    return randoms(settings, number, 1, size)


def randoms(settings: Settings, number: int, which: int, size: int) -> Array:
    """Return entries of either sign between ½ and 1½.

    None is near 0, so no single wrong entry is overlooked; no two are equal, so no two wrong
    entries cancel for their equal size, as two that were exchanged would under signs alone.
    """
    rng = np.random.default_rng((settings.seed, number, which))
    return np.asarray(rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size))


def unit_vector(size: int, place: int) -> Array:
    """Return zeros with a single 1."""
    vector = np.zeros(size)
    vector[place] = 1.0
    return vector
