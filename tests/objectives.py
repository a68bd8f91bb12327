"""Objectives for tests, composed of targets and weights, and their parts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gramstyle.core.arrays import Array
from gramstyle.core.conventions import PAPER, Convention
from gramstyle.core.kernels import Kernels, PlainKernels, Pooling
from gramstyle.core.network import Network, Responses
from gramstyle.core.objective import Objective
from gramstyle.core.preprocessing import Preprocessing
from gramstyle.core.terms import ContentTerm, StyleTerm, Term, loss_terms
from gramstyle.engines.spec import ObjectiveSpec
from gramstyle.model import Model


class ContentTarget(NamedTuple):
    """The layer where content is compared, and the content image's responses there."""

    layer: str
    P: Array


class StyleTarget(NamedTuple):
    """A Gram matrix, and the number of positions that it is summed over."""

    A: Array
    M: int


class Weights(NamedTuple):
    """α, β and w_l."""

    alpha: float
    beta: float
    w: Mapping[str, float]


def style_targets(
    responses: Responses, names: tuple[str, ...], kernels: Kernels | None = None
) -> dict[str, StyleTarget]:
    step = PlainKernels() if kernels is None else kernels
    return {
        name: StyleTarget(step.gram(responses[name]), int(np.prod(responses[name].shape[1:])))
        for name in names
    }


def composed(
    *,
    network: Network,
    preprocessing: Preprocessing,
    content: ContentTarget | None,
    style: Mapping[str, StyleTarget],
    weights: Weights,
    tv: float = 0.0,
    convention: Convention = PAPER,
    wraps: bool = False,
    **how: Any,
) -> Objective:
    """Return an objective with these targets; `how` are the other fields of `Objective`."""
    terms: list[Term] = []
    for term in loss_terms(
        content={} if content is None else {content.layer: 1.0},
        style={name: weights.w[name] for name in style},
        tv=tv > 0,
        convention=convention,
        wraps=wraps,
    ):
        if isinstance(term, ContentTerm):
            assert content is not None
            terms.append(term.compared_with(content.P, 0))
        elif isinstance(term, StyleTerm):
            terms.append(term.compared_with(*style[term.layer]))
        else:
            terms.append(term)
    factors = {"content": weights.alpha, "style": weights.beta, "tv": tv}
    return Objective(
        network=network,
        preprocessing=preprocessing,
        terms=tuple(terms),
        weights={term.name: factors[term.name] for term in terms},
        **how,
    )


def recomposed(objective: Objective, **changes: Any) -> Objective:
    """The same objective with another content, style, weights, tv or convention."""
    content, styles = content_of(objective), styles_of(objective)
    first = next(iter([*([] if content is None else [content]), *styles.values()]))
    parts: dict[str, Any] = {
        "content": None if content is None else ContentTarget(content.layer, content.P),
        "style": {name: StyleTarget(term.A, term.M) for name, term in styles.items()},
        "weights": Weights(
            objective.weights.get("content", 0.0),
            objective.weights.get("style", 0.0),
            {name: term.weight for name, term in styles.items()},
        ),
        "tv": objective.weights.get("tv", 0.0),
        "convention": first.convention,
    }
    how = {name: getattr(objective, name) for name in ("forward", "kernels", "backward")}
    where = {name: getattr(objective, name) for name in ("network", "preprocessing")}
    return composed(**{**where, **how, **parts, **changes})


def spec_of(
    model: Model,
    *,
    engine: str,
    content: str | None = None,
    style: Mapping[str, float] | None = None,
    tv: float = 0.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    pooling: Pooling = "avg",
    size: tuple[int, int] = (64, 64),
    **how: Any,
) -> ObjectiveSpec:
    """Describe an objective that compares content at one layer; `how` are the other fields."""
    terms = loss_terms(
        content={} if content is None else {content: 1.0}, style=style or {}, tv=tv > 0
    )
    factors = {"content": alpha, "style": beta, "tv": tv}
    return ObjectiveSpec(
        model=model.sha256,
        pooling=pooling,
        terms=terms,
        weights={term.name: factors[term.name] for term in terms},
        height=size[0],
        width=size[1],
        engine=engine,
        **how,
    )


def content_of(objective: Objective) -> Any:
    """The content term, if there is one."""
    return next(iter(objective.terms_of("content").values()), None)


def styles_of(objective: Objective) -> dict[str, Any]:
    """The style terms by layer."""
    return objective.terms_of("style")
