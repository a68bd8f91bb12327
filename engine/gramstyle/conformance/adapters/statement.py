"""A case's objective as numbers in one float type: what there is to write down in a framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.core.arrays import Array
from gramstyle.core.network import Layer


@dataclass(frozen=True)
class Term:
    """One loss term: `factor` · Σ (what the image gives − `target`)²."""

    target: Array
    factor: float


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The objective of a case, the network cut off above the deepest layer in use.

    Attributes
    ----------
    order, mean, scale
        v = (x[order] − mean) · scale is the network's input; mean and scale are (3, 1, 1).
    layers
        From the image upwards.
    content
        By layer: the target is P, (N, H, V), compared with F.
    style
        By layer: the target is A / M of the artwork, (N, N), compared with G / M of the image.
    wide
        The float type of the terms: in float16 a Gram matrix overflows, so float32 there.
    """

    order: list[int]
    mean: Array
    scale: Array
    layers: tuple[Layer, ...]
    content: Mapping[str, Term]
    style: Mapping[str, Term]
    wide: str


def state(case: Case, dtype: Any) -> Statement:
    """Return a case's objective in a float type.

    α, β, w_l, the convention's factors, the ½ of equation 1 and the 1 / (4 N²) of equation 4 are
    multiplied into each term's factor; equation 4's M² divides the Gram matrices.
    """
    objective, wide = case.objective, np.result_type(dtype, np.float32)
    preprocessing, weights, convention = (
        objective.preprocessing,
        objective.weights,
        objective.convention,
    )
    content, style = {}, {}
    if objective.content is not None:
        P = objective.content.P
        factor = weights.alpha * convention.content_factor(len(P), P[0].size) / 2
        content[objective.content.layer] = Term(P.astype(wide), factor)
    for name, target in objective.style.items():
        N = len(target.A)
        factor = weights.beta * weights.w[name] * convention.style_factor / (4 * N**2)
        style[name] = Term((target.A / target.M).astype(wide), factor)
    return Statement(
        order=[2, 1, 0] if preprocessing.channels == "BGR" else [0, 1, 2],
        mean=np.array(preprocessing.mean, dtype).reshape(3, 1, 1),
        scale=np.array(preprocessing.scale, dtype).reshape(3, 1, 1),
        layers=case.network.astype(dtype).layers,
        content=content,
        style=style,
        wide=wide.name,
    )
