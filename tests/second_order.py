"""Objectives with every kind of term, small enough for differences of every pixel."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.blending import ReferenceSample, with_blended_targets
from gramstyle.core.conventions import AUTHOR
from gramstyle.core.guides import with_guides
from gramstyle.core.kernels import Pooling
from gramstyle.core.layers import Padding
from gramstyle.core.network import Convolution, Network, Pool
from gramstyle.core.objective import Objective
from gramstyle.core.term import Term
from gramstyle.core.terms import loss_terms, with_targets
from gramstyle.model.preprocessings import CAFFE

SIZE = (8, 6)
LAYERS = ("conv1_1", "conv2_1")
# One loss, or several together.
TERMS: Mapping[str, Mapping[str, Any]] = {
    "content": {"content": {"conv1_2": 0.5, "conv2_1": 2.0}, "style": {}},
    "content of the author": {"content": {"conv2_1": 2.0}, "style": {}, "convention": AUTHOR},
    "gram": {"content": {}, "style": {"conv1_1": 0.3, "conv2_1": 0.7}},
    "gram at a pooling": {"content": {}, "style": {"pool1": 1.0}},
    "mean-std": {"content": {}, "style": {"conv2_1": 1.0}, "style_loss": "mean-std"},
    "covariance": {"content": {}, "style": {"conv1_1": 0.5, "pool1": 0.5},
                   "style_loss": "covariance"},
    "regions": {"content": {}, "style": {"conv1_1": 0.3, "conv2_1": 0.7}, "regions": (1.25, 0.75)},
    "tv": {"content": {}, "style": {}, "tv": True},
    "tv that wraps": {"content": {}, "style": {}, "tv": True, "wraps": True},
    "all": {"content": {"conv2_1": 1.0}, "style": {"conv1_1": 0.5, "conv2_1": 0.5}, "tv": True},
}  # fmt: skip
WEIGHTS = {"content": 1.5, "style": 40.0, "tv": 7.0}


def network_of(rng: np.random.Generator, pooling: Pooling, padding: Padding = "zeros") -> Network:
    def convolution(name: str, C: int, N: int) -> Convolution:
        W = rng.normal(size=(N, C, 3, 3)) * np.sqrt(2 / (9 * C))
        return Convolution(name, W, rng.normal(size=N), padding)

    return Network(
        (
            convolution("conv1_1", 3, 4),
            convolution("conv1_2", 4, 4),
            Pool("pool1", pooling),
            convolution("conv2_1", 4, 5),
        )
    )


def objective_of(
    rng: np.random.Generator,
    kind: str = "all",
    *,
    pooling: Pooling = "avg",
    padding: Padding = "zeros",
    blended: bool = False,
) -> Objective:
    """The objective of random images; blended: with two style images."""
    network = network_of(rng, pooling, padding)
    p, a, other = (rng.uniform(0, 255, (3, *size)) for size in (SIZE, (7, 9), (6, 6)))
    terms = loss_terms(**TERMS[kind])

    def see(image: Array) -> Mapping[str, Array]:
        return network.forward(CAFFE.forward(image))

    def add_style(terms: tuple[Term, ...], image: Array) -> tuple[Term, ...]:
        return with_targets(terms, "style", see(image))

    if "regions" in TERMS[kind]:
        terms = with_guides(terms, guides(rng, network, (7, 9)))
    samples = [ReferenceSample(a, 0.75), ReferenceSample(other, 0.25)] if blended else []
    terms = with_targets(terms, "content", see(p))
    if blended:
        terms = with_blended_targets(terms, "style", samples, add_style)
    else:
        terms = add_style(terms, a)
    if "regions" in TERMS[kind]:
        terms = with_guides(terms, guides(rng, network, SIZE))
    return Objective(network=network, preprocessing=CAFFE, terms=terms, weights=WEIGHTS)


def guides(
    rng: np.random.Generator, network: Network, size: tuple[int, int]
) -> dict[str, tuple[Array, ...]]:
    """The guidance of two regions by layer; the second has no position in some columns."""
    found = {}
    for name, (_, H, V) in network.shapes(*size).items():
        first, second = rng.uniform(0, 1, (2, H, V))
        second[:, : V // 2] = 0
        found[name] = (first, second)
    return found


def kinks_of(objective: Objective) -> Callable[[Array], Mapping[str, Array]]:
    network = objective.network.until(objective.layers)

    def kinks(x: Array) -> Mapping[str, Array]:
        return network.choices(network.forward(CAFFE.forward(x))) if network.layers else {}

    return kinks


def in_type(objective: Objective, convert: Callable[[Array], Any]) -> Objective:
    """The objective with every array converted: to another float type or namespace."""
    layers = tuple(
        replace(layer, W=convert(layer.W), b=convert(layer.b))
        if isinstance(layer, Convolution)
        else layer
        for layer in objective.network.layers
    )
    terms = []
    for term in objective.terms:
        targets: dict[str, Any] = {
            name: convert(getattr(term, name))
            for name in ("P", "A")
            if getattr(term, name, None) is not None
        }
        if getattr(term, "T", None) is not None:
            targets["T"] = tuple(map(convert, term.T))  # type: ignore[attr-defined]
        terms.append(replace(term, **targets))  # type: ignore[type-var]
    return replace(objective, network=Network(layers), terms=tuple(terms))
