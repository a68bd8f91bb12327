"""An answer beside the truth: how far apart, in the measures that tell mistakes from rounding."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Answer, Case
from gramstyle.core.arrays import Array

# An adapter is one function: value_and_grad(image, case) -> loss, gradient, {layer: dF}. The
# image is case.x in the float type to compute in; what it returns may be anything array-like.
Adapter = Callable[[Array, Case], tuple[Any, Any, Mapping[str, Any]]]

# ‖found − truth‖ / ‖truth‖. Float64: other orders of summation, through 17 layers. Float32 and
# float16: their rounding, enlarged by masks and pooling choices that flip.
TOLERANCES: Mapping[str, float] = {"float64": 1e-10, "float32": 2e-3, "float16": 2e-1}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One quantity of one case, found and true.

    Attributes
    ----------
    case, quantity
        The case's name; "loss", "gradient" or "dF of LAYER".
    relative
        ‖found − truth‖ / ‖truth‖, in float64; infinite where the truth is 0 and found is not.
    largest
        The largest difference of an entry.
    cosine
        Of the angle between the two; 1 for numbers of one sign.
    ulps
        The largest difference of an entry in units of the last place of the float type that was
        computed in, at the largest entry of the truth.
    tolerance
        What `relative` must not exceed.
    problem
        What is wrong with the answer itself, in one sentence: its shape, NaN, …; "" if nothing.
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
        """Whether the quantity is what it should be."""
        return not self.problem and self.relative <= self.tolerance


def compare(case: Case, found: Answer, dtype: str) -> list[Comparison]:
    """Compare an answer with the truth: the loss, the gradient, then dF in the order of the pass.

    Parameters
    ----------
    case
        With its truth.
    found
        Of the right shapes; a layer of dF may be missing, and is then not compared. Nor is what
        the float type cannot hold.
    dtype
        "float64", "float32" or "float16": what was computed in.
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
    return [
        measure(case.name, name, one, true, dtype)
        for name, (one, true) in quantities.items()
        if held(true, dtype)
    ]


def held(truth: Array, dtype: str) -> bool:
    """Say whether a float type can hold a truth: what it cannot is not asked for."""
    return bool(np.max(np.abs(truth), initial=0.0) <= np.finfo(dtype).max)


def measure(case: str, quantity: str, found: Array, truth: Array, dtype: str) -> Comparison:
    """Compare two arrays of one shape."""
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
