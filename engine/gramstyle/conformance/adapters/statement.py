"""The objective of a case as arrays and numbers in one float type, for the framework adapters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gramstyle.conformance.cases import Case
from gramstyle.core.arrays import Array
from gramstyle.core.mean_std import EPSILON
from gramstyle.core.network import Layer


@dataclass(frozen=True)
class Term:
    """One loss term: `factor` · Σ (F − `target`)² or `factor` · Σ (G / M − `target`)²."""

    target: Array
    factor: float


@dataclass(frozen=True)
class Region:
    """The style term of one region: `factor` · Σ (G / m − `target`)², G = (T F) (T F)ᵀ."""

    T: Array
    m: float
    target: Array
    factor: float


@dataclass(frozen=True)
class Statistic:
    """One term of another style loss: `factor` · Σ (S − `target`)², as `CaseStatistic` says."""

    statistic: str
    target: Array
    factor: float


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The objective of a case, with the network cut off above the deepest layer in use.

    Attributes
    ----------
    order, mean, scale
        v = (x[order] − mean) · scale is the network's input; mean and scale are (3, 1, 1).
    layers
        From the image upwards.
    content
        The content term by layer; its target is P, (N, H, V).
    style
        The style terms by layer; each target is A / M of the style image, (N, N).
    regions
        The style terms of regions by layer, with T flattened to (H V,), and m = Σ T².
    statistics
        The terms of other style losses by layer; each target is S of the style image.
    epsilon
        ε under the root of a deviation.
    tv
        The factor of the total variation: Σ of squared differences of neighbouring pixels.
    wide
        The name of the float type of the terms: float32 or wider, since a Gram matrix overflows
        in float16.
    """

    order: list[int]
    mean: Array
    scale: Array
    layers: tuple[Layer, ...]
    content: Mapping[str, Term]
    style: Mapping[str, Term]
    regions: Mapping[str, tuple[Region, ...]]
    statistics: Mapping[str, Statistic]
    tv: float
    wide: str
    epsilon: float = EPSILON


def state(case: Case, dtype: Any) -> Statement:
    """Return the objective of a case in a float type; `Case` defines targets and factors."""
    wide, preprocessing, content = np.result_type(dtype, np.float32), case.preprocessing, {}
    if case.content is not None:
        content[case.content.layer] = Term(case.content.P.astype(wide), case.content.factor)
    return Statement(
        order=[2, 1, 0] if preprocessing.channels == "BGR" else [0, 1, 2],
        mean=np.array(preprocessing.mean, dtype).reshape(3, 1, 1),
        scale=np.array(preprocessing.scale, dtype).reshape(3, 1, 1),
        layers=case.network.astype(dtype).layers,
        content=content,
        style={name: Term(term.A.astype(wide), term.factor) for name, term in case.style.items()},
        regions={
            name: tuple(
                Region(
                    each.T.reshape(-1).astype(wide),
                    float(np.sum(each.T**2)),
                    each.A.astype(wide),
                    each.factor,
                )
                for each in regions
            )
            for name, regions in case.regions.items()
        },
        statistics={
            name: Statistic(term.statistic, term.A.astype(wide), term.factor)
            for name, term in case.statistics.items()
        },
        tv=case.tv,
        wide=wide.name,
    )
