"""The directions of a check of a jvp, whose results have the form of f's results."""

from collections.abc import Iterator

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.gradcheck.calls import Calls
from gramstyle.gradcheck.comparing import Comparison, Probe
from gramstyle.gradcheck.directions import (
    assert_deterministic,
    assert_linear,
    entries,
    parts,
    passed,
    randoms,
    root_mean_square,
    sizes,
    unit_vector,
)
from gramstyle.gradcheck.report import Checked, GradientCheckError, GradientMismatchError
from gramstyle.gradcheck.settings import TOLERANCE, Settings

# A tangent v and its jvp J v.
TangentAndJvp = tuple[Array, Array]


def check(calls: Calls, settings: Settings, *, symmetric: bool = False) -> Checked:
    """Run all comparisons, then check that f and jvp are deterministic and, if asked, J = Jᵀ."""
    point = calls.point
    value = calls.forward(point)
    v = sizes(calls.inputs) * randoms(settings, 0, 0, point.size)
    product = calls.push(point, v)
    comparison = Comparison(calls, settings)
    mismatches = (
        directional(comparison, value, (v, product))
        if settings.mode == "directional"
        else full(comparison, value, (v, product))
    )
    mismatch = next(mismatches, None)
    # First, since a function that is not deterministic also causes mismatches.
    assert_deterministic(calls.called[0], value, calls.forward(point))
    assert_deterministic(calls.called[1], product, calls.push(point, v))
    if mismatch is not None:
        raise mismatch
    if symmetric:
        u = sizes(calls.inputs) * randoms(settings, 0, 1, point.size)
        assert_symmetric(calls.called[1], (u, calls.push(point, u)), (v, product))
    return passed(comparison)


def directional(
    comparison: Comparison, value: Array, first: TangentAndJvp
) -> Iterator[GradientMismatchError]:
    """Compare every entry of J v for random v; yield mismatches."""
    calls, settings = comparison.calls, comparison.settings
    point, names, units = calls.point, calls.names, sizes(calls.inputs)

    def mismatch(
        number: int, v: Array, product: Array, name: str | None
    ) -> GradientMismatchError | None:
        return comparison.mismatch(
            Probe(
                v,
                lambda change: change,
                product,
                typical=typical_sizes(calls, product),
                size=abs(value),
                input=name,
                direction=number,
                entries=True,
            )
        )

    for number in range(settings.directions):
        if number == 0:
            v, product = first
        else:
            v = units * randoms(settings, number, 0, point.size)
            product = calls.push(point, v)
        together = mismatch(number, v, product, names[0] if len(names) == 1 else None)
        if together is None:
            continue
        if len(names) > 1:
            # Find the input at fault.
            for name, part in zip(names, parts(calls.inputs), strict=True):
                alone = mismatch(number, v * part, calls.push(point, v * part), name)
                if alone is not None:
                    yield alone
        yield together


def full(
    comparison: Comparison, value: Array, first: TangentAndJvp
) -> Iterator[GradientMismatchError]:
    """Compare every entry of J: columns by the jvp and by differences; yield mismatches."""
    calls = comparison.calls
    n, m = calls.point.size, value.size
    jacobian = np.zeros((m, n))
    for i in range(n):
        jacobian[:, i] = calls.push(calls.point, unit_vector(n, i))
    yield from entries(comparison, value, jacobian)
    v, product = first
    assert_linear(calls.called[1], "tangents", jacobian, v, product)


def typical_sizes(calls: Calls, product: Array) -> Array:
    """Return for each entry of J v the root mean square of those of the same array."""
    ends = np.cumsum([int(np.prod(shape)) for shape in calls.outputs], dtype=int)
    groups = np.split(product, ends)[: len(ends)]
    return np.concatenate([np.full(each.size, root_mean_square(each)) for each in groups])


def assert_symmetric(what: str, one: TangentAndJvp, other: TangentAndJvp) -> None:
    """Check that ⟨u, H v⟩ = ⟨v, H u⟩.

    Raises
    ------
    GradientCheckError
        If they differ.
    """
    (u, of_u), (v, of_v) = one, other
    left, right = float(u @ of_v), float(v @ of_u)
    allowed = TOLERANCE * float(np.linalg.norm(u * of_v) + np.linalg.norm(v * of_u))
    if abs(left - right) > allowed:
        raise GradientCheckError(
            f"{what} is the derivative of the gradient, but not symmetric: ⟨u, Hv⟩ = {left:.9g} "
            f"and ⟨v, Hu⟩ = {right:.9g}; check the gradient, which is not that of a loss"
        )
