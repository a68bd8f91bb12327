"""Compare an answer with the truth, in measures that distinguish mistakes from rounding."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.core.arrays import Array

# An adapter is a function value_and_grad(image, case) -> loss, gradient, {layer: dF}. A fourth part
# may follow: a dictionary of further derivatives. The image is case.x in the float type in which to
# compute. The returned values may be anything array-like.
ThreeParts = tuple[Any, Any, Mapping[str, Any]]
FourParts = tuple[Any, Any, Mapping[str, Any], Mapping[str, Any]]
Adapter = Callable[[Array, Case], ThreeParts | FourParts]

# The largest ‖found − truth‖ / ‖truth‖. In float64 it covers other orders of summation through 17
# layers; in float32 and float16 rounding, which flips ReLU masks and pooling choices.
TOLERANCES: Mapping[str, float] = {"float64": 1e-10, "float32": 2e-3, "float16": 2e-1}


class NoAnswerError(Exception):
    """Raised where an answer cannot be compared; its text says why in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One quantity of one case, compared with its truth.

    Attributes
    ----------
    case, quantity
        The name of the case; "loss", "gradient", "dF of LAYER", "jvp", "hvp", "dW of LAYER" or
        "db of LAYER".
    relative
        ‖found − truth‖ / ‖truth‖, in float64; infinite if the truth is 0 and found is not.
    largest
        The largest absolute difference of an entry.
    cosine
        The cosine of the angle between the two; 1 for numbers of equal sign.
    ulps
        The largest difference in units of the last place of the largest entry of the truth, in the
        float type of the computation.
    tolerance
        The largest `relative` that passes.
    problem
        "not finite" if the answer contains NaN or infinite values; otherwise "".
    """

    case: str
    quantity: str
    relative: float
    largest: float
    cosine: float
    ulps: float
    tolerance: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the quantity is within its tolerance."""
        return not self.problem and self.relative <= self.tolerance


def compare(case: Case, found: Answer, dtype: str) -> list[Comparison]:
    """Compare an answer with the truth: loss, gradient, dF in backward order, then the others.

    Parameters
    ----------
    case
        The case, whose truth is read.
    found
        The answer, with the correct shapes. What is missing from dF and from the further
        derivatives is not compared.
    dtype
        "float64", "float32" or "float16": the float type of the computation. Quantities whose truth
        it cannot represent are not compared.
    """
    truth = case.truth
    quantities = {
        "loss": (np.asarray(found.loss), np.asarray(truth.loss)),
        "gradient": (found.gradient, truth.gradient),
    }
    for layer, dF in truth.dF.items():
        if layer in found.dF:
            open_ = case.responses[layer] > 0
            quantities[f"dF of {layer}"] = (
                np.where(open_, found.dF[layer], 0),
                np.where(open_, dF, 0),
            )
    if more := found.derivatives.quantities():
        true = case.derivatives.quantities()
        quantities |= {name: (more[name], true[name]) for name in true if name in more}
    return [
        measure(case.name, name, one, other, dtype)
        for name, (one, other) in quantities.items()
        if representable(other, dtype)
    ]


def representable(truth: Array, dtype: str) -> bool:
    """Return whether a float type can represent a truth; otherwise it is not compared."""
    return bool(np.max(np.abs(truth), initial=0.0) <= np.finfo(dtype).max)


def measure(case: str, quantity: str, found: Array, truth: Array, dtype: str) -> Comparison:
    """Compare two arrays of the same shape."""
    found, truth = np.asarray(found, np.float64), np.asarray(truth, np.float64)
    problem = "" if np.isfinite(found).all() else "not finite"
    difference = found - truth
    largest = float(np.max(np.abs(difference), initial=0.0))
    length, apart = float(np.linalg.norm(truth)), float(np.linalg.norm(difference))
    lengths = length * float(np.linalg.norm(found))
    one = float(np.spacing(np.asarray(np.max(np.abs(truth), initial=0.0), dtype)))
    return Comparison(
        case=case,
        quantity=quantity,
        relative=apart / length if length else (math.inf if apart else 0.0),
        largest=largest,
        cosine=float(np.vdot(found, truth)) / lengths if lengths else 1.0,
        ulps=largest / one if one else math.inf,
        tolerance=TOLERANCES[dtype],
        problem=problem,
    )
